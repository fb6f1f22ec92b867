from __future__ import annotations

import numpy as np
import pytest

from models.i420 import i420_to_rgb
from models.warp.build.mouth.tongue import draw_tongue
from models.warp.render import render

FLESH = np.array([190.0, 105.0, 100.0])


def test_the_tongue_has_a_furrow_and_its_back_is_dark() -> None:
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 161), np.linspace(-0.1, 0.3, 161))
    rgb, opacity = draw_tongue(x, y, FLESH)

    def red(at_x: float, at_y: float) -> float:
        return float(rgb[np.abs(y[:, 0] - at_y).argmin(), np.abs(x[0] - at_x).argmin(), 0])

    assert red(0.0, 0.08) < 0.85 * red(0.07, 0.08)
    assert red(0.1, 0.04) < 0.75 * red(0.1, 0.11)
    assert rgb.max() < 0.95 * FLESH.max(), "wet, but no mirror"
    assert opacity[y < -0.02].max() == 0
    assert opacity[(y > 0.1) & (np.abs(x) < 0.15)].min() == pytest.approx(1.0)


def test_a_raised_tongue_stands_between_the_teeth(pose, identity) -> None:
    """For th its tip is what is seen below the upper teeth, not the dark."""
    low, high = render([pose(aperture=0.13, jaw=0.3), pose(aperture=0.13, jaw=0.3, tongue=1.0)])
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + grid.width // 2, int(grid.top + 0.52 * unit)
    area = (slice(y + int(0.02 * unit), y + int(0.11 * unit)), slice(x - 8, x + 8))
    darkest = [i420_to_rgb(p)[area][..., 0].min(0).mean() for p in (low, high)]
    assert darkest[1] > darkest[0] + 12
