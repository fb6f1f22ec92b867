from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.blur import wide_blur


@pytest.mark.parametrize("sigma", [1.0, 6.0, 13.0, 40.0])
@pytest.mark.parametrize("shape", [(240, 321), (187, 402, 3)])
def test_a_wide_blur_is_the_gaussian_one(sigma, shape) -> None:
    steps = np.zeros(shape, np.float32)
    steps[:, shape[1] // 3 :] += 150
    steps[shape[0] // 2 :] += 100
    exact = cv2.GaussianBlur(steps, (0, 0), sigma)
    assert np.abs(wide_blur(steps, sigma) - exact).max() < 0.01 * 250


def test_a_picture_smaller_than_the_blur_is_blurred_too() -> None:
    image = np.random.default_rng(0).uniform(0, 1, (12, 16)).astype(np.float32)
    assert wide_blur(image, 30.0).std() < 0.05
