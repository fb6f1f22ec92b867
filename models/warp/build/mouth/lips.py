"""The line where the lips meet, and how far a point is above or below it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.face import topology
from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.texture import Window

CLOSED_GAP = 0.05
"""Measured gaps up to this many units count as closed lips: the mesh is no more exact."""
COMMISSURE = 0.96
"""Where the opening ends, as a position across the mouth. Beyond it the lips stay joined: they go
round the corner of an open mouth, which lies inside the corner of the red."""
_SEAM, _SEAM_CONTRAST = 0.010, 0.85
"""Most of the dark line between closed lips that is hidden once they part, half of its height in
units; and how dark it is at least, over the lips."""
_SAMPLES = 161
_REACH = 0.06
_OFFSETS = np.arange(-_REACH, _REACH + 0.002, 0.004)


@dataclass(frozen=True)
class LipLines:
    """Inner edges of both lips in the photo, as heights over the position across the mouth.

    All arrays are float64 (samples,), in units of the face frame, over ``x`` ascending from the
    right mouth corner to the left.
    """

    x: np.ndarray
    upper: np.ndarray
    """Lower edge of the upper lip."""
    lower: np.ndarray
    """Upper edge of the lower lip; equals ``upper`` where the photo's lips are closed."""
    gap: float
    """Gap between the lips in the photo's middle, units; 0 when closed."""
    seam: float = 0.0
    """Half the height of the dark line between closed lips, units."""

    def upper_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the upper lip's edge; beyond the corners it goes on levelling out."""
        return np.interp(x, self.x, self.upper)

    def lower_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the lower lip's edge."""
        return np.interp(x, self.x, self.lower)

    def closed_at(self, x: np.ndarray) -> np.ndarray:
        """Where the lips meet when the photo's are brought together."""
        return self.upper_at(x) + 0.35 * (self.lower_at(x) - self.upper_at(x))


def find_lip_lines(landmarks: np.ndarray, frame: FaceFrame, yuv: np.ndarray) -> LipLines:
    """Follow the lips' inner edges.

    The mesh gives them roughly. Where the lips are closed, the darkest line nearby is the one;
    where they are parted, each edge is where the colour of its lip ends.

    Args:
        landmarks: (478, 3), pixels.
        frame: of the same face.
        yuv: float32 (height, width, 3).
    """
    points = frame.to_frame(landmarks)
    corners = points[[topology.MOUTH_CORNER_RIGHT, topology.MOUTH_CORNER_LEFT]]
    x = np.linspace(corners[0, 0], corners[1, 0], _SAMPLES)

    def through(row: tuple[int, ...]) -> np.ndarray:
        knots = np.concatenate([corners[:1], points[list(row)], corners[1:]])
        knots = knots[np.argsort(knots[:, 0])]
        return _smooth(np.interp(x, knots[:, 0], knots[:, 1]), 6.0)

    upper = through(topology.LIPS_INNER_UPPER)
    lower = np.maximum(through(topology.LIPS_INNER_LOWER), upper)
    middle = _SAMPLES // 2
    gap = float(lower[middle] - upper[middle])
    blurred = cv2.GaussianBlur(yuv, (0, 0), max(0.6, 0.008 * frame.unit))
    if gap < CLOSED_GAP:
        line = (upper + lower) / 2
        strip = _strip(blurred, frame, x, line)[..., 0]
        strip = strip - strip.mean(0)
        line = line + _best_path(strip / (np.abs(strip).mean() + 1.0))
        seam = _seam(_strip(blurred, frame, x, line)[..., 0])
        return LipLines(x, line, line.copy(), 0.0, seam)
    bulge = np.sin(np.linspace(0.0, np.pi, _SAMPLES)) ** 0.5
    for edge, outer, side in (
        (upper, through(topology.LIPS_MIDDLE_UPPER), -1),
        (lower, through(topology.LIPS_MIDDLE_LOWER), 1),
    ):
        lip = _strip(blurred, frame, x, (edge + outer) / 2)[_OFFSETS.size // 2]
        unlike = np.linalg.norm(_strip(blurred, frame, x, edge) - lip[None], axis=-1)
        # How much more unlike the lip it is one step towards the other lip than one step back.
        step = 4
        jump = np.zeros_like(unlike)
        jump[step:-step] = (unlike[: -2 * step] - unlike[2 * step :]) * side
        # Rather a little into the lip than leave a rim of teeth on it.
        path = _best_path(-1.3 * jump / (np.abs(jump).mean() + 4.0))
        edge += _smooth(path, 8.0) + 0.010 * side * bulge
    # Near the corners the edges meet.
    lower = np.maximum(lower, upper)
    return LipLines(x, upper, lower, float(lower[middle] - upper[middle]))


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing that keeps the ends."""
    reach = int(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    # Point reflection about the ends keeps them and their slope.
    padded = np.concatenate(
        [
            2 * values[0] - values[reach:0:-1],
            values,
            2 * values[-1] - values[-2 : -reach - 2 : -1],
        ]
    )
    return np.convolve(padded, kernel, mode="valid")


def _strip(image: np.ndarray, frame: FaceFrame, x: np.ndarray, line: np.ndarray) -> np.ndarray:
    """``image`` around a line across the mouth: (offsets, samples, channels)."""
    at = frame.to_pixels(
        np.stack(np.broadcast_arrays(x[None], line[None] + _OFFSETS[:, None]), -1)
    ).astype(np.float32)
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR)


def _seam(luma: np.ndarray) -> float:
    """Half the height of the dark line in the middle of a strip (offsets, samples), units."""
    away = np.abs(np.linspace(-1.0, 1.0, luma.shape[1])) < 0.7
    profile = np.median(luma[:, away], axis=1) - 16.0
    lip = float(np.median(profile[(np.abs(_OFFSETS) > 0.02) & (np.abs(_OFFSETS) < 0.04)]))
    dark = float(profile[np.abs(_OFFSETS) < 0.008].min())
    if dark > _SEAM_CONTRAST * lip:
        return 0.0
    inside = (profile < (dark + lip) / 2) & (np.abs(_OFFSETS) < 0.03)
    return min(float(inside.sum()) * float(_OFFSETS[1] - _OFFSETS[0]) / 2, _SEAM)


def _best_path(cost: np.ndarray) -> np.ndarray:
    """The smooth path of least cost (offsets, samples), by dynamic programming: (samples,)."""
    count = cost.shape[1]
    away = (_OFFSETS / _REACH)[:, None]
    cost = cost + 8.0 * away**4 + 0.5 * away**2
    # The corners are where the mesh says: pull the path there.
    ends = np.minimum(np.arange(count), np.arange(count)[::-1]) / count
    cost += 6.0 * np.clip(1 - ends / 0.06, 0, 1) * away**2
    bend = 0.6 * np.abs(np.arange(_OFFSETS.size)[:, None] - np.arange(_OFFSETS.size)[None])
    total = cost[:, 0]
    back = np.zeros((count, _OFFSETS.size), np.int64)
    for i in range(1, count):
        through = total[None] + bend
        back[i] = through.argmin(1)
        total = through.min(1) + cost[:, i]
    path = np.empty(count, np.int64)
    path[-1] = int(total.argmin())
    for i in range(count - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return _smooth(_OFFSETS[path], 6.0)


def lip_masks(window: Window, frame: FaceFrame, lips: LipLines) -> tuple[np.ndarray, np.ndarray]:
    """Depth below the upper lip in pixels (hole), and the ramp of the jaw side's opacity."""
    at = frame.to_frame(window.positions())
    x, y = at[..., 0], at[..., 1]
    across = np.abs(frame.across(x))
    # The dark line of closed lips belongs to neither: it would go round an open mouth as if drawn.
    seam = lips.seam * smoothstep(1.0, 0.8, across)
    below_upper = (y - lips.upper_at(x) + seam) * frame.unit
    below_lower = (y - lips.lower_at(x) - seam) * frame.unit
    # The hole ends at the corners.
    half = (frame.half_width_left + frame.half_width_right) / 2 * frame.unit
    depth = np.minimum(below_upper, (COMMISSURE + 0.04 - across) * half)
    # Sharp between the lips; beyond the corners both sides agree and blend over a wide band.
    wide = 1.5 + 0.16 * frame.unit * smoothstep(0.97, 1.35, across)
    ramp = below_lower / wide + 1.0 - 0.5 * smoothstep(0.97, 1.1, across)
    return depth.astype(np.float32), ramp.astype(np.float32)
