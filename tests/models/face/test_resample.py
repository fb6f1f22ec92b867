from __future__ import annotations

import cv2
import numpy as np

from models.face.resample import resample


def picture() -> np.ndarray:
    noise = np.random.default_rng(1).uniform(0, 255, (90, 120)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def test_samples_are_those_of_a_lanczos_map() -> None:
    """To the 32nd of a pixel that OpenCV rounds places to."""
    image = picture()
    x, y = np.linspace(-3, 125, 500), 20 + 15 * np.linspace(0, 2, 300) ** 2
    maps = [axis.astype(np.float32) for axis in np.meshgrid(x, y)]
    expected = cv2.remap(image, *maps, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(resample(image, x, y) - expected).max() < 0.02 * np.ptp(image)


def test_pixels_themselves_come_back() -> None:
    image = picture()
    x, y = np.arange(5, 70), np.arange(3, 88)
    assert np.allclose(resample(image, x, y), image[3:88, 5:70], atol=1e-3)


def test_a_level_picture_stays_level_to_its_edge() -> None:
    image = np.full((9, 7), 200, np.float32)
    assert np.allclose(resample(image, np.linspace(-9, 20, 40), np.linspace(-2, 9, 30)), 200)
