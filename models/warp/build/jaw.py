"""The jaw sliding over the neck, and the soft shades of folds that a moving face throws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from models.blur import wide_blur
from models.face import topology
from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.texture import look_up
from models.warp.motion.blend_shape import CHIN_SHARE, JAW_DROP, WIDE_APERTURE, BlendShape

OVER_NECK = (0.03, 0.12)
"""How far outside the mesh's outline, in units, what moves with the jaw begins and has ended to
give way to the neck: a mesh runs a little inside the visible edge of the chin."""
CONTACT = 0.36
"""How much darker the neck gets right under a jaw that is wide open."""
CONTACT_REACH = 0.13
"""How far down that shade reaches, units."""
FOLD = 0.9
"""How much deeper the folds between nose and mouth get in a full smile, of what they are."""
_FOLD_FINE, _FOLD_WIDE = 0.03, 0.14
"""Standard deviations of the blurs between which a fold is told from the cheek, units."""
_FOLD_REACH = 0.20
"""How far beside the line of the mesh the photo's own fold may lie, units."""
_DEEPEST = 0.16
"""Contrast beyond which it is no fold but hair or a hard shadow."""
_FOLDS = ((129, 203, 206, 216, 212), (358, 423, 426, 436, 432))
"""Points along the nasolabial folds, from the wings of the nose to beside the mouth."""

SHEETS = 3
"""Fields of :func:`jaw_sheet`."""


def jaw_sheet(
    luma: np.ndarray, landmarks: np.ndarray, frame: FaceFrame, at: np.ndarray
) -> np.ndarray:
    """What the renderer has to know about places of the photo: float32 (SHEETS, m).

    Share that moves with the jaw (1) rather than with the neck (0); where a lowered jaw throws its
    shade; and the relief of the nasolabial folds, > 0 dark and < 0 light.

    Args:
        luma: Y of the photo, float32 (height, width).
        landmarks: (478, 3), pixels.
        frame: of the face.
        at: frame positions, (m, 2).
    """
    points = frame.to_frame(landmarks)
    outside = _outside_jaw(points, at)
    on_jaw = 1 - smoothstep(*OVER_NECK, outside)
    across = (at[:, 0] - points[topology.CHIN, 0]) / 0.55
    contact = np.exp(-np.maximum(outside - OVER_NECK[0], 0.0) / CONTACT_REACH)
    contact = contact * np.exp(-(across**2)) * smoothstep(0.0, OVER_NECK[1], outside)
    return np.stack([on_jaw, contact, _folds(luma, points, frame, at)]).astype(np.float32)


def inside_jaw(landmarks: np.ndarray, frame: FaceFrame, at: np.ndarray) -> np.ndarray:
    """1 well inside the jaw's outline, 0 at it: float32 (m,)."""
    outside = _outside_jaw(frame.to_frame(landmarks), at)
    return smoothstep(0.02, 0.10, -outside).astype(np.float32)


def shade_depths(expression: np.ndarray) -> tuple[float, float]:
    """How dark the neck gets under the jaw (of its ``contact``), and how much deeper folds get.

    Args:
        expression: weights of the blend shapes, (len(BlendShape),).
    """
    drop = JAW_DROP * expression[BlendShape.JAW] + CHIN_SHARE * expression[BlendShape.OPEN]
    drop = np.clip(drop / (JAW_DROP + CHIN_SHARE * WIDE_APERTURE), 0, 1.2)
    folded = expression[BlendShape.SMILE] + 0.5 * expression[BlendShape.SPREAD]
    folded = np.clip(folded + expression[BlendShape.OPEN] / WIDE_APERTURE * 0.45, 0, 1.2)
    return float(CONTACT * drop), float(FOLD * folded)


def _outside_jaw(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance outside the line of the jaw, in units; negative inside the face and above it."""
    line = points[list(topology.JAW_LINE)]
    distance = _distance(line, at)
    order = np.argsort(line[:, 0])
    inside = at[:, 1] < np.interp(
        at[:, 0], line[order, 0], line[order, 1], left=-np.inf, right=-np.inf
    )
    # Beside the ears nothing slides over a neck.
    beside = smoothstep(-0.1, 0.25, at[:, 1])
    return np.where(inside, -distance, distance * beside)


def _folds(luma: np.ndarray, points: np.ndarray, frame: FaceFrame, at: np.ndarray) -> np.ndarray:
    """Relief of both folds as the photo has them, by their contrast: smooth faces have none."""
    near = np.zeros(len(at), np.float32)
    for row in _FOLDS:
        line = points[list(row)]
        away = _distance(line, at)
        ends = smoothstep(line[0, 1] - 0.05, line[0, 1] + 0.15, at[:, 1])
        ends = ends * (1 - smoothstep(line[-1, 1] - 0.15, line[-1, 1] + 0.10, at[:, 1]))
        near = np.maximum(near, ends * (1 - smoothstep(0.5 * _FOLD_REACH, _FOLD_REACH, away)))
    counts = np.flatnonzero(near)
    if not counts.size:
        return near
    # The blurs need the photo around those places only.
    pixels = frame.to_pixels(at[counts])
    margin = int(3 * _FOLD_WIDE * frame.unit) + 2
    left, top = np.maximum(pixels.min(0).astype(int) - margin, 0)
    right, bottom = np.maximum(pixels.max(0).astype(int) + margin, 0)
    light = luma[top:bottom, left:right] - 16.0
    if not light.size:
        return np.zeros_like(near)
    fine, wide = (wide_blur(light, sigma * frame.unit) for sigma in (_FOLD_FINE, _FOLD_WIDE))
    contrast = np.clip((wide - fine) / np.maximum(wide, 8.0), -_DEEPEST, _DEEPEST)
    near[counts] *= look_up(contrast, pixels - (left, top))
    return near


def _distance(line: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance of points (m, 2) from a line of corners (k, 2): float32 (m,)."""
    # One contiguous row each for x and y: the mouth alone asks for 100,000 places and more.
    x, y = np.ascontiguousarray(at.T, np.float32)
    nearest = np.full(len(at), np.inf, np.float32)
    for start, end in pairwise(line.astype(np.float32)):
        along_x, along_y = end - start
        from_x, from_y = x - start[0], y - start[1]
        share = from_x * along_x
        share += from_y * along_y
        share /= along_x**2 + along_y**2
        np.clip(share, 0.0, 1.0, out=share)
        from_x -= share * along_x
        from_y -= share * along_y
        from_x *= from_x
        from_y *= from_y
        from_x += from_y
        np.minimum(nearest, from_x, out=nearest)
    return np.sqrt(nearest, out=nearest)
