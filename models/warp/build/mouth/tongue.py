"""The tongue, drawn as it lies in a closed mouth: its tip low and near, its back dark and far."""

from __future__ import annotations

import numpy as np

from models.warp.build.anatomy import smoothstep

HALF_WIDTH = 0.32
"""Half the width of the tongue between the teeth, in distances of the pupils."""
ARCH = 0.08
"""How much lower its sides begin than its middle, units."""
LENGTH = 0.11
"""Height, as seen from the front, from its back to its tip, units."""
GROOVE = 0.26
"""How much darker the furrow along its middle is."""
WET = 0.12
"""Brightness that the gloss of the wet tip adds, of the tongue's own."""


def draw_tongue(x: np.ndarray, y: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tongue of a closed mouth: RGB (height, width, 3) and opacity (height, width).

    Args:
        x: places across, units, 0 in the middle.
        y: heights below the line of the closed lips, units.
        colour: RGB of its flesh in full light, (3,).
    """
    x, y, colour = (values.astype(np.float32) for values in (x, y, colour))
    across = np.abs(x) / HALF_WIDTH
    below = y - 0.008 - ARCH * across**2
    near = smoothstep(0.0, LENGTH, below)
    light = 0.38 + 0.44 * near - 0.20 * np.clip(across, 0, 1) ** 2
    # Both halves bulge beside the furrow, which runs out towards the tip.
    light += 0.05 * near * np.exp(-np.square((np.abs(x) - 0.10) / 0.06))
    furrow = np.exp(-np.square(x / 0.020)) * smoothstep(0.01, 0.07, below)
    light *= 1 - GROOVE * furrow * (1 - 0.7 * smoothstep(0.6 * LENGTH, LENGTH, below))
    gloss = np.exp(-np.square((np.abs(x + 0.015) - 0.07) / 0.04))
    gloss = WET * gloss * np.exp(-np.square((below - 0.7 * LENGTH) / 0.02))
    rgb = colour * light[..., None] + colour.max() * gloss[..., None]
    # Its back is lost in the dark of the throat.
    opacity = smoothstep(-0.01, 0.035, below) * (1 - smoothstep(0.80, 1.02, across))
    return rgb, opacity
