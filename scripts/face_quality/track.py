"""Measures a video of a talking face, picture by picture, from outside: by the face mesh.

Lengths are divided by the distance of the eyes, so that faces of all sizes compare.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from models.face import FaceAnalyzer
from models.face.topology import (
    LEFT_EYE_CORNERS,
    LIP_LOWER_INNER_MIDDLE,
    LIP_UPPER_INNER_MIDDLE,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    RIGHT_EYE_CORNERS,
)

COLUMNS = {
    "t": "time stamp in the file, seconds",
    "lip_gap": "gap of the inner lips over the distance of the eyes",
    "mouth_width": "distance of the mouth's corners over the distance of the eyes",
    "eye_right": "gap of the person's right lids over the eye's width",
    "eye_left": "the same of the left",
    "iod": "distance of the eyes (middles of their corners), pixels",
    "mouth_x": "middle of the mouth's corners, pixels",
    "mouth_y": "the same, downwards",
    "sharpness": "variance of the Laplacian around the mouth at 100 pixels between the eyes",
    "moved": "change of the face since the picture before, grey levels: 90th percentile at 36 x 36",
    "outside": "mean colour difference to the first picture outside the face's box grown 1.6-fold",
}
"""Columns of a track and what their numbers mean; NaN where no face was found."""

Track = dict[str, np.ndarray]
"""float64 (pictures,) of each column."""

_RIGHT_LIDS = ((160, 144), (159, 145), (158, 153))
_LEFT_LIDS = ((385, 380), (386, 374), (387, 373))
_SHARP_IOD = 100.0
_OUTSIDE_SIDE = 256
_GROWN = 1.6


def pictures(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Time stamp in seconds and picture (uint8 RGB, (height, width, 3)) of each frame of a file."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield float((frame.pts or 0) * (frame.time_base or 0)), frame.to_ndarray(format="rgb24")


def measure(frames: Iterable[tuple[float, np.ndarray]], analyzer: FaceAnalyzer) -> Track:
    """The track of a video.

    Args:
        frames: time stamp and picture (uint8 RGB) of each frame, all of one size.
        analyzer: finds faces; it has to give the mesh of 478 points.
    """
    rows: list[dict[str, float]] = []
    before: np.ndarray | None = None
    box: tuple[int, int, int, int] | None = None
    first: tuple[np.ndarray, tuple[int, int, int, int] | None] | None = None
    for t, picture in frames:
        row = dict.fromkeys(COLUMNS, float("nan"))
        row["t"] = t
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        faces = analyzer.analyze(picture)
        if faces and faces[0].layout == "mesh478":
            points = faces[0].landmarks[:468, :2].astype(np.float64)
            row |= _geometry(points)
            box = _inside(_box(points), grey.shape)
            row["sharpness"] = _sharpness(grey, row)
        if before is not None and box is not None:
            row["moved"] = _moved(before, grey, box)
        small = _reduced(picture)
        first = first or (small, box)
        row["outside"] = _outside(first, small, box, small.shape[0] / grey.shape[0])
        rows.append(row)
        before = grey
    return {name: np.array([row[name] for row in rows]) for name in COLUMNS}


def save(track: Track, path: Path) -> None:
    """Write a track as JSON: ``{"schema": "face-track/1", "frames": {column: [...]}}``."""
    frames = {
        name: [None if np.isnan(v) else round(float(v), 5) for v in values]
        for name, values in track.items()
    }
    path.write_text(json.dumps({"schema": "face-track/1", "columns": COLUMNS, "frames": frames}))


def load(path: Path) -> Track:
    """Read a track; other tools' columns are kept under their own names.

    Raises:
        ValueError: the file is not a track.
    """
    try:
        frames = json.loads(path.read_text())["frames"]
        track = {
            name: np.array([np.nan if v is None else v for v in values], np.float64)
            for name, values in frames.items()
        }
        if not {"t", "lip_gap", "mouth_width"} <= set(track):
            raise KeyError("t, lip_gap or mouth_width")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no face track ({error}); make one with quality.py") from None
    return track


def _geometry(points: np.ndarray) -> dict[str, float]:
    def apart(i: int, j: int) -> float:
        return float(np.linalg.norm(points[i] - points[j]))

    def lids(pairs: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> float:
        return sum(apart(*pair) for pair in pairs) / (len(pairs) * max(apart(*corners), 1e-6))

    right, left = points[list(RIGHT_EYE_CORNERS)].mean(0), points[list(LEFT_EYE_CORNERS)].mean(0)
    iod = max(float(np.linalg.norm(right - left)), 1e-6)
    middle = points[[MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT]].mean(0)
    return {
        "lip_gap": apart(LIP_UPPER_INNER_MIDDLE, LIP_LOWER_INNER_MIDDLE) / iod,
        "mouth_width": apart(MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT) / iod,
        "eye_right": lids(_RIGHT_LIDS, RIGHT_EYE_CORNERS),
        "eye_left": lids(_LEFT_LIDS, LEFT_EYE_CORNERS),
        "iod": iod,
        "mouth_x": float(middle[0]),
        "mouth_y": float(middle[1]),
    }


def _box(points: np.ndarray) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def _inside(
    box: tuple[float, float, float, float], shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """``box`` rounded and cut to the picture; None if nothing is left."""
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(shape[1], round(box[2])), min(shape[0], round(box[3]))
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def _sharpness(grey: np.ndarray, row: dict[str, float]) -> float:
    """Of a box that follows the head, not the lips."""
    x, y, iod = row["mouth_x"], row["mouth_y"], row["iod"]
    around = (x - 0.55 * iod, y - 0.40 * iod, x + 0.55 * iod, y + 0.50 * iod)
    if (box := _inside(around, grey.shape)) is None:
        return float("nan")
    scale = _SHARP_IOD / iod
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    crop = grey[box[1] : box[3], box[0] : box[2]]
    return float(cv2.Laplacian(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=method),
                               cv2.CV_64F).var())  # fmt: skip


def _moved(before: np.ndarray, now: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """At 36 x 36 the noise of a video codec averages out and a face that moves does not."""
    left, top, right, bottom = box
    a, b = (
        cv2.resize(g[top:bottom, left:right], (36, 36), interpolation=cv2.INTER_AREA).astype(float)
        for g in (before, now)
    )
    return float(np.percentile(np.abs(a - b), 90))


def _reduced(picture: np.ndarray) -> np.ndarray:
    scale = min(1.0, _OUTSIDE_SIDE / max(picture.shape[:2]))
    reduced = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.float32)


def _outside(
    first: tuple[np.ndarray, tuple[int, int, int, int] | None],
    small: np.ndarray,
    box: tuple[int, int, int, int] | None,
    scale: float,
) -> float:
    mask = np.ones(small.shape[:2], bool)
    for face in (first[1], box):
        if face is None:
            continue
        x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
        half_x, half_y = (face[2] - face[0]) / 2 * _GROWN, (face[3] - face[1]) / 2 * _GROWN
        around = (x - half_x, y - half_y, x + half_x, y + half_y)
        if (cut := _inside((*(v * scale for v in around),), mask.shape)) is not None:  # type: ignore[arg-type]
            mask[cut[1] : cut[3], cut[0] : cut[2]] = False
    if mask.sum() <= 50:
        return float("nan")
    return float(np.abs(small - first[0])[mask].mean())
