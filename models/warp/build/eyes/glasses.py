"""Glasses: which pixels are their frame, so that it stays where it is when lids move."""

from __future__ import annotations

import cv2
import numpy as np

from models.face import topology
from models.warp.build.anatomy import FaceFrame
from models.warp.build.backdrop import fill

_BAR = 0.16
"""How much darker or brighter than the nose the bridge of glasses is at least, over the nose's own
light."""
_RIGHT = (*topology.RIGHT_EYE_UPPER, *topology.RIGHT_EYE_LOWER[::-1])
_LEFT = (*topology.LEFT_EYE_UPPER, *topology.LEFT_EYE_LOWER[::-1])
_THICKEST = 0.11
"""Height of the bridge at most, in distances of the pupils."""


def find_frames(yuv: np.ndarray, landmarks: np.ndarray, frame: FaceFrame) -> np.ndarray | None:
    """Opacity of the frames of glasses: float32 (height, width), 0 to 1; None without glasses.

    A bar across the nose's bridge, darker or brighter than skin, that goes on before both eyes.

    Args:
        yuv: float32 (height, width, 3).
        landmarks: (478, 3), pixels.
        frame: of the face.
    """
    points = landmarks[:, :2].astype(np.float64)
    eyes = [
        points[list(row)].mean(0) for row in (topology.RIGHT_EYE_CORNERS, topology.LEFT_EYE_CORNERS)
    ]
    step = 0.01
    down, across = np.arange(-0.32, 0.32, step), np.arange(-0.05, 0.051, 0.02)
    at = (eyes[0] + eyes[1]) / 2 + frame.unit * (
        down[:, None, None] * frame.down + across[:, None] * frame.right
    )
    strip = _colours(yuv, at)
    profile = np.median(strip, axis=1)
    # A bar is what a median over twice its height takes away.
    wide = 2 * round(_THICKEST / step) + 1
    padded = np.pad(profile, ((wide // 2, wide // 2), (0, 0)), mode="edge")
    skin = np.median(np.lib.stride_tricks.sliding_window_view(padded, wide, axis=0), axis=-1)
    contrast = np.abs(profile[:, 0] - skin[:, 0]) / np.maximum(skin[:, 0] - 16, 20.0)
    row = int(contrast.argmax())
    if contrast[row] < _BAR:
        return None
    weight = np.array([1.0, 2.0, 2.0])
    apart = float(np.linalg.norm((profile[row] - skin[row]) * weight))
    alike = np.linalg.norm((yuv - profile[row]) * weight, axis=-1) < 0.35 * apart
    own = frame.to_frame(np.stack(np.meshgrid(*map(np.arange, yuv.shape[1::-1])), -1).astype(float))
    level = frame.to_frame((eyes[0] + eyes[1]) / 2)
    alike &= (np.abs(own[..., 1] - level[1]) < 0.55) & (np.abs(own[..., 0] - level[0]) < 1.1)
    # Irises and lashes may be as dark and touch the frame.
    for rows in (_RIGHT, _LEFT):
        outline = points[list(rows)].mean(0) + 1.15 * (
            points[list(rows)] - points[list(rows)].mean(0)
        )
        eye = cv2.fillPoly(np.zeros(alike.shape, np.uint8), [outline.round().astype(np.int32)], 1)
        alike &= eye == 0
    _, parts = cv2.connectedComponents(alike.astype(np.uint8), connectivity=8)
    bar = at[row, len(across) // 2].round().astype(int)
    part = parts[bar[1], bar[0]]
    found = (parts == part) & alike
    reach = own[..., 0][found] - level[0]
    if part == 0 or reach.size == 0 or reach.min() > -0.5 or reach.max() < 0.5:
        return None
    # With a rim: frames shade the skin beside them, and have soft edges.
    radius = max(2, round(0.02 * frame.unit))
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.GaussianBlur(cv2.dilate(found.astype(np.float32), rim), (0, 0), 0.8)


def without_frames(yuv: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The picture with skin in the place of the frames: float32 like ``yuv``."""
    clear = fill(yuv, (frames < 0.05).astype(np.float32))
    return yuv + (clear - yuv) * frames[..., None]


def _colours(yuv: np.ndarray, at: np.ndarray) -> np.ndarray:
    points = at.astype(np.float32)
    return cv2.remap(
        yuv, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float64)
