"""Shut eyes on a made eye: round iris, white, dark lashes, skin of a known texture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.warp.build.eyes.eye_shape import EyeChart, EyeShape, bow, lash_colour
from models.warp.build.eyes.lids import LASH_RANGE, lash_chart, shut_eye

DENSITY = 60.0
SKIN = np.array([150.0, 118.0, 146.0], np.float32)
LASH = np.array([30.0, 126.0, 130.0])


@pytest.fixture(scope="module")
def chart() -> EyeChart:
    shape = EyeShape(
        np.array([100.0, 80.0]),
        np.array([20.0, 0.0]),
        np.array([-0.42, 0.0, 0.0]),
        np.array([0.32, 0.0, 0.0]),
        1.0,
        np.array([0.0, -0.05, 0.40]),
        1.0,
    )
    return EyeChart(shape, DENSITY)


def photo(chart: EyeChart, texture: float = 0.0, shadow: float = 1.0) -> np.ndarray:
    """The eye open; ``texture`` in steps of Y, ``shadow``: light above the eye over the cheek's."""
    u, v = chart.u, chart.v
    above, below = bow(u, chart.shape.upper) - v, v - bow(u, chart.shape.lower)
    out = np.broadcast_to(SKIN, (*u.shape, 3)).copy()
    noise = np.random.default_rng(1).standard_normal(u.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.07 * DENSITY)
    out[..., 0] += texture * noise / noise.std()
    shaded = np.clip(1.4 - above, 0, 1) * np.clip(1 + 10 * above, 0, 1)
    out[..., 0] = 16 + (out[..., 0] - 16) * (1 - (1 - shadow) * shaded)
    inside = (above < 0) & (below < 0) & (np.abs(u) < 1)
    out[inside] = (200.0, 128.0, 128.0)
    out[inside & (np.hypot(u, v + 0.05) < 0.4)] = (60.0, 140.0, 110.0)
    out[(above > -0.03) & (above < 0.12) & (np.abs(u) < 1)] = LASH
    return out


def lid(chart: EyeChart) -> np.ndarray:
    """bool: where the shut eye shows the lid."""
    above = bow(chart.u, chart.shape.upper) - chart.v
    below = chart.v - bow(chart.u, chart.shape.lower)
    return (above < -0.05) & (below < -0.10) & (np.abs(chart.u) < 0.7)


def test_a_shut_lid_has_the_texture_of_the_skin_beside_it(chart) -> None:
    shut = shut_eye(chart, photo(chart, texture=6.0))[..., 0]
    fine = shut - cv2.GaussianBlur(shut, (0, 0), 0.12 * DENSITY)
    cheek = (chart.v > 0.65) & (chart.v < 1.2) & (np.abs(chart.u) < 0.7)
    assert fine[lid(chart)].std() > 0.6 * fine[cheek].std()
    plain = shut_eye(chart, photo(chart))[..., 0]
    assert (plain - cv2.GaussianBlur(plain, (0, 0), 0.12 * DENSITY))[lid(chart)].std() < 1.0


def test_a_shut_lid_stays_in_the_shade_above_the_eye(chart) -> None:
    """Eye shadow, or the brow's: seen above the lashes, it goes on down the lid."""
    light, dark = (shut_eye(chart, photo(chart, shadow=s))[..., 0] - 16 for s in (1.0, 0.6))
    shown = dark[lid(chart)].mean() / light[lid(chart)].mean()
    assert 0.65 < shown < 0.88


def test_lashes_of_a_shut_eye_are_a_fringe_and_not_a_drawn_line(chart) -> None:
    """Dark at their roots, they thin out downwards, here sooner and there later."""
    open_ = photo(chart)
    opacity = lash_chart(chart, open_, shut_eye(chart, open_), LASH)
    height = LASH_RANGE[1] - (np.arange(len(opacity)) + 0.5) / DENSITY
    middle = np.abs(chart.u[0]) < 0.6
    root = opacity[np.abs(height - 0.03).argmin(), middle]
    assert 0.4 < root.mean() < 0.9
    reach = (opacity[(height > 0.0)][:, middle] > 0.15).sum(0) / DENSITY
    assert reach.min() > 0.08
    assert reach.std() > 0.015
    # It ends in points, not bluntly.
    ends = np.abs(np.abs(chart.u[0]) - 0.97) < 0.03
    assert opacity[np.abs(height - 0.03).argmin(), ends].mean() < 0.7 * root.mean()


def test_lashes_are_not_of_the_iris_colour(chart) -> None:
    rgb = np.full((160, 200, 3), (190.0, 150.0, 130.0))
    at = np.stack(np.meshgrid(np.arange(200), np.arange(160)), -1).astype(float)
    u, v = np.moveaxis(chart.shape.to_own(at), -1, 0)
    rgb[(np.abs(v - bow(u, chart.shape.upper)) < 0.12)] = (40.0, 60.0, 110.0)
    red, green, blue = lash_colour(rgb, chart.shape)
    assert max(green, blue) <= red
