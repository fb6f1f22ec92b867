"""The line where the lips meet, and how far a point is above or below it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.face import topology
from models.warp.anatomy import FaceFrame

CLOSED_GAP = 0.035
"""Measured gaps up to this many units count as closed lips: the mesh is no more exact."""
_SAMPLES = 161


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

    def upper_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the upper lip's edge; beyond the corners it goes on levelling out."""
        return np.interp(x, self.x, self.upper)

    def lower_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the lower lip's edge."""
        return np.interp(x, self.x, self.lower)

    def closed_at(self, x: np.ndarray) -> np.ndarray:
        """Where the lips meet when the photo's are brought together."""
        return self.upper_at(x) + 0.35 * (self.lower_at(x) - self.upper_at(x))


def find_lip_lines(landmarks: np.ndarray, frame: FaceFrame, luma: np.ndarray) -> LipLines:
    """Follow the lips' inner edges.

    The mesh gives them roughly; where the lips are closed, the darkest line nearby is the one.

    Args:
        landmarks: (478, 3), pixels.
        frame: of the same face.
        luma: float32 (height, width).
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
    if gap < CLOSED_GAP:
        line = _darkest_line(luma, frame, x, (upper + lower) / 2)
        return LipLines(x, line, line.copy(), 0.0)
    return LipLines(x, upper, lower, gap)


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


def _darkest_line(
    luma: np.ndarray, frame: FaceFrame, x: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    """The darkest smooth path within 0.06 units of ``guess``, by dynamic programming."""
    import cv2

    reach, step = 0.06, 0.004
    offsets = np.arange(-reach, reach + step / 2, step)
    at = frame.to_pixels(np.stack(np.broadcast_arrays(x[None], guess[None] + offsets[:, None]), -1))
    soft = cv2.GaussianBlur(luma, (0, 0), max(0.6, 0.008 * frame.unit))
    strip = cv2.remap(
        soft, at[..., 0].astype(np.float32), at[..., 1].astype(np.float32), cv2.INTER_LINEAR
    )
    strip = strip - strip.mean(0)
    cost = strip / (np.abs(strip).mean() + 1.0) + 8.0 * (offsets[:, None] / reach) ** 4
    cost += 0.5 * (offsets[:, None] / reach) ** 2
    # The corners are where the mesh says: pull the path there.
    ends = np.minimum(np.arange(x.size), np.arange(x.size)[::-1]) / x.size
    cost += 6.0 * np.clip(1 - ends / 0.06, 0, 1) * (offsets[:, None] / reach) ** 2
    total = cost[:, 0]
    back = np.zeros((x.size, offsets.size), np.int64)
    bend = 0.6 * np.abs(np.arange(offsets.size)[:, None] - np.arange(offsets.size)[None])
    for i in range(1, x.size):
        through = total[None] + bend
        back[i] = through.argmin(1)
        total = through.min(1) + cost[:, i]
    path = np.empty(x.size, np.int64)
    path[-1] = int(total.argmin())
    for i in range(x.size - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return _smooth(guess + offsets[path], 4.0)
