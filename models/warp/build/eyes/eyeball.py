"""The eyeball: iris and white without what does not turn with them, and beyond the lids' edges.

Made once per photo, in the charts of ``models.warp.build.eyes.eye_shape``.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.warp.build.anatomy import smoothstep
from models.warp.build.backdrop import fill
from models.warp.build.eyes.eye_shape import EyeChart, bow

_SPOT = 32
"""How much brighter than the iris around it a catch-light is, in steps of Y."""
_RINGS = 24
"""Radii at which the iris's colour is taken."""


def eyeball(chart: EyeChart, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eyeball as it goes on under the lids, and the catch-lights on it.

    Args:
        chart: of the eye.
        photo: Y, U, V over the chart, float32 (rows, columns, 3).

    Returns:
        The eyeball without catch-lights, like ``photo``; and the catch-lights, float32 (rows,
        columns): what they add to Y. Between the lids both together are the photo.
    """
    shape = chart.shape
    above, below = bow(chart.u, shape.upper) - chart.v, chart.v - bow(chart.u, shape.lower)
    clear = smoothstep(0.06, 0.14, -above) * smoothstep(0.03, 0.09, -below)
    distance = np.hypot(chart.u - shape.iris[0], chart.v - shape.iris[1]) / shape.iris[2]
    white = fill(photo, (clear * (distance > 1.12)).astype(np.float32))
    iris = _rings(photo, clear, distance)
    under = white + (iris - white) * smoothstep(1.12, 0.98, distance)[..., None]
    # What the eye uncovers when it turns a little is the lids' edge, as they go along.
    seen = smoothstep(0.22, 0.12, np.maximum(above, below))[..., None]
    ball = (under + (photo - under) * seen).astype(np.float32)
    lights = catch_lights(chart, photo[..., 0], iris[..., 0], distance)
    without = fill(ball, (1 - lights).astype(np.float32))[..., 0]
    lights = lights * np.maximum(ball[..., 0] - without, 0)
    ball[..., 0] -= lights
    return ball, lights.astype(np.float32)


def catch_lights(
    chart: EyeChart, luma: np.ndarray, usual: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Where bright spots lie on the iris, 0 to 1: float32 like ``luma``.

    Args:
        chart: of the eye.
        luma: of the photo over it.
        usual: luma of the iris at the same distance from its middle.
        distance: from the middle of the iris, over its radius.
    """
    spots = np.zeros_like(luma)
    disc = chart.disc(0.4 * chart.shape.iris[2])
    inside = distance < 0.85
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not rows.size:
        return spots
    # Opening looks twice the disc's radius far.
    part = tuple(slice(max(0, at[0] - len(disc)), at[-1] + 1 + len(disc)) for at in (rows, columns))
    dark = cv2.morphologyEx(luma[part], cv2.MORPH_OPEN, disc)
    spots[part] = (luma[part] - np.maximum(dark, usual[part])) * inside[part]
    grown = cv2.dilate((spots > _SPOT).astype(np.float32), chart.disc(0.08))
    return chart.blurred(grown, 0.02)


def _rings(photo: np.ndarray, weight: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Median colour at each distance from the middle of the iris: float32 like ``photo``."""
    ring = np.clip(distance * _RINGS, 0, 1.12 * _RINGS)
    index = np.where(weight > 0.5, ring.astype(int), -1)
    found = [i for i in range(int(ring.max()) + 1) if (index == i).sum() >= 3]
    if not found:
        return photo.copy()
    colours = np.array([np.median(photo[index == i], axis=0) for i in found])
    at = np.array(found) + 0.5
    return np.stack([np.interp(ring, at, colours[:, i]) for i in range(3)], -1).astype(np.float32)
