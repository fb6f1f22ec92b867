from __future__ import annotations

import cv2
import numpy as np

from models.warp.texture import look_up


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
