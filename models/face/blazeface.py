"""BlazeFace: anchors, decoding and suppression, over a whole photo and over tiles of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 128
"""Side in pixels of the square the network sees."""
MIN_SCORE = 0.5
OVERLAP = 0.3
"""Boxes that overlap more than this (intersection over union) are one face."""
MIN_TILE = 192
"""Tiles are not made smaller than this many pixels; smaller faces are of no use."""


@dataclass(frozen=True)
class Detection:
    """A face as the detector sees it, in photo pixels."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom: eyebrows to chin."""
    points: np.ndarray
    """(6, 2): right eye, left eye, nose, mouth, right ear, left ear."""
    score: float


def anchors() -> np.ndarray:
    """Centres of the 896 anchors, 0 to 1, float32 (896, 2) as x, y.

    Two per cell of a 16 x 16 grid, then six per cell of an 8 x 8 grid (Bazarevsky et al.,
    "BlazeFace", 2019, section 3.2).
    """
    centres = []
    for cells, each in ((16, 2), (8, 6)):
        along = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(along, along, indexing="ij")
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), each, axis=0))
    return np.concatenate(centres).astype(np.float32)


class FaceDetector:
    """Finds faces of every useful size in a photo."""

    def __init__(self, network: Callable[[np.ndarray], dict[str, np.ndarray]]) -> None:
        self._network = network
        self._anchors = anchors()

    def __call__(self, rgb: np.ndarray) -> list[Detection]:
        """Detections in ``rgb`` (uint8, (height, width, 3)), best first."""
        height, width = rgb.shape[:2]
        found: list[Detection] = []
        for left, top, side in _tiles(width, height):
            for detection in self._look(rgb, left, top, side):
                if _whole_in_tile(detection.box, (left, top, side), width, height):
                    found.append(detection)
        return _merge(found)

    def _look(self, rgb: np.ndarray, left: int, top: int, side: int) -> list[Detection]:
        """Run the network on a square that may reach beyond the photo (black there)."""
        height, width = rgb.shape[:2]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        scale = SIDE / side
        canvas = np.zeros((SIDE, SIDE, 3), np.float32)
        a, b = round((x0 - left) * scale), round((y0 - top) * scale)
        w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
        shrunk = cv2.resize(
            rgb[y0:y1, x0:x1],
            (w, h),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
        canvas[b : b + h, a : a + w] = shrunk[: SIDE - b, : SIDE - a]
        out = self._network((canvas / 127.5 - 1.0)[None])
        raw = out["regressors"][0]
        scores = 1 / (1 + np.exp(-np.clip(out["classificators"][0, :, 0], -50, 50)))
        keep = scores >= MIN_SCORE
        if not keep.any():
            return []
        raw, scores, centres = raw[keep], scores[keep], self._anchors[keep]
        pairs = raw.reshape(-1, 8, 2) / SIDE
        middle, extent, points = pairs[:, 0] + centres, pairs[:, 1], pairs[:, 2:] + centres[:, None]
        origin = np.array([left, top], np.float32)
        low, high = (middle - extent / 2) * side + origin, (middle + extent / 2) * side + origin
        return _suppress(np.concatenate([low, high], 1), points * side + origin, scores)


def _tiles(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    """Squares (left, top, side): the whole photo, then ever smaller overlapping tiles."""
    long, short = max(width, height), min(width, height)
    # A margin around the photo lets faces that fill it, or are cut by its edge, fit the anchors.
    for side in (long, round(long * 1.4)):
        yield ((width - side) // 2, (height - side) // 2, side)
    side = short
    while side >= MIN_TILE and side > short / 5:
        if side < long:
            for top in _starts(height, side):
                for left in _starts(width, side):
                    yield (left, top, side)
        side //= 2


def _starts(length: int, side: int) -> list[int]:
    """Offsets of tiles that cover ``length`` and overlap by about a half."""
    if length <= side:
        return [(length - side) // 2]
    count = int(np.ceil((length - side) / (side * 0.5))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _whole_in_tile(
    box: tuple[float, float, float, float], tile: tuple[int, int, int], width: int, height: int
) -> bool:
    """Whether the face is not cut by an edge of the tile that is not the photo's own edge."""
    left, top, side = tile
    return (
        (left <= 0 or box[0] > left)
        and (top <= 0 or box[1] > top)
        and (left + side >= width or box[2] < left + side)
        and (top + side >= height or box[3] < top + side)
    )


def _overlaps(box: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union, and over the smaller one, of one box with many."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = float(np.prod(box[2:] - box[:2]))
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return shared / (area + areas - shared), shared / np.minimum(area, areas)


def _suppress(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Join boxes of one face, weighted by score (BlazeFace's blending)."""
    found: list[Detection] = []
    left = np.argsort(-scores)
    while left.size:
        over, _ = _overlaps(boxes[left[0]], boxes[left])
        same = over > OVERLAP
        same[0] = True
        group = left[same]
        weights = scores[group] / scores[group].sum()
        box = weights @ boxes[group]
        mean = np.tensordot(weights, points[group], 1)
        found.append(
            Detection(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                mean,
                float(scores[left[0]]),
            )
        )
        left = left[~same]
    return found


def _merge(found: list[Detection]) -> list[Detection]:
    """Keep the best detection of each face over all tiles.

    Of boxes that lie in each other the larger one counts, unless it is much less certain: at a
    small scale the detector sees faces in parts of a face.
    """
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.score):
        box = np.array(detection.box)
        if kept:
            over, inside = _overlaps(box, np.array([k.box for k in kept]))
            if ((over > OVERLAP) | (inside > 0.6)).any():
                continue
        kept.append(detection)
    return kept
