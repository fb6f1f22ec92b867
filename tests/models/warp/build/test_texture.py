from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.warp.build.texture import Window, look_up, plain_texture, window_texture


def test_any_number_of_places_can_be_looked_up() -> None:
    """OpenCV itself refuses maps of more than 32,767 rows."""
    image = np.random.default_rng(0).uniform(0, 255, (40, 60)).astype(np.float32)
    for count in (0, 1, 4095, 4096, 32_766, 32_767, 100_001):
        at = np.random.default_rng(count).uniform(0, 38, (count, 2))
        found = look_up(image, at)
        assert found.shape == (count,)
        for i in range(0, count, 9973):
            x, y = at[i].astype(np.float32).reshape(2, 1, 1)
            assert np.isclose(found[i], cv2.remap(image, x, y, cv2.INTER_LINEAR)[0, 0], atol=0.01)


def test_colours_are_looked_up_together() -> None:
    image = np.dstack([np.full((4, 4), value, np.float32) for value in (1, 2, 3)])
    assert np.allclose(look_up(image, np.array([[1.5, 1.5], [2.0, 0.0]])), [[1, 2, 3]] * 2)
    # Outside lies nothing.
    assert np.allclose(look_up(image, np.array([[-9.0, 0.0]])), 0)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("corner", [(10, 6), (-5, -3), (50, 33)])
def test_a_window_of_the_texture_is_cut_from_the_whole(scale, corner) -> None:
    """Inside the canvas and over its edges."""
    yuv = np.random.default_rng(2).uniform(16, 235, (40, 60, 3)).astype(np.float32)
    whole = plain_texture(yuv, scale)
    window = Window(*corner, 17, 12, scale)
    part = window_texture(np.ascontiguousarray(whole[..., 0]), yuv, window)
    assert np.allclose(part, window.cut_texture(whole), atol=1e-3)


def test_a_part_of_a_window_lies_where_its_samples_are() -> None:
    window = Window(20, 10, 30, 16, 3)
    part = window.part(np.array([24.5, 2.0]), np.array([31.2, 14.0]))
    assert (part.left, part.top, part.width, part.height, part.scale) == (24, 10, 9, 5, 3)
    rows, columns = window.samples_of(part)
    assert np.allclose(window.positions()[rows, columns], part.positions())
