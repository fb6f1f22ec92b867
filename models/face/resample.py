"""A picture looked up at the crossings of given columns and rows."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

_LOBES = 4
"""Pixels to each side that a sample is made of."""
_BLOCK = 64
"""Places whose weights are held in one matrix."""
_NOTHING = np.empty((0, 0), np.float32)
"""To be added to a product."""


def resample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lanczos-4 samples: float32 (rows, columns).

    Rows and columns are resampled one after the other, each as products with narrow matrices:
    several times as fast as a map of all places, and not rounded to a 32nd of a pixel.
    The products are OpenCV's: threads of numpy's wait for each other longer than they take.
    C. E. Duchon, "Lanczos Filtering in One and Two Dimensions", 1979.

    Args:
        image: float32 (height, width); its edge goes on beyond it.
        x: columns of ``image``, ascending, fractional, (columns,).
        y: rows, likewise, (rows,).
    """
    tall = np.empty((len(y), image.shape[1]), np.float32)
    for places, source, weights in _blocks(y, image.shape[0]):
        tall[places] = cv2.gemm(weights, image[source], 1.0, _NOTHING, 0.0)
    out = np.empty((len(y), len(x)), np.float32)
    for places, source, weights in _blocks(x, image.shape[1]):
        out[:, places] = cv2.gemm(tall[:, source], weights, 1.0, _NOTHING, 0.0, flags=cv2.GEMM_2_T)
    return out


def _blocks(at: np.ndarray, size: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Places, the pixels of ``size`` that they are made of, and their weights (places, pixels)."""
    for start in range(0, len(at), _BLOCK):
        places = at[start : start + _BLOCK].astype(np.float64)
        pixels = np.floor(places).astype(int)[:, None] + np.arange(1 - _LOBES, 1 + _LOBES)
        away = places[:, None] - pixels
        shares = np.sinc(away) * np.sinc(away / _LOBES)
        shares /= shares.sum(1, keepdims=True)
        pixels = np.clip(pixels, 0, size - 1)
        first, last = int(pixels.min()), int(pixels.max())
        weights = np.zeros((len(places), last - first + 1))
        np.add.at(weights, (np.arange(len(places))[:, None], pixels - first), shares)
        yield (
            slice(start, start + len(places)),
            slice(first, last + 1),
            weights.astype(np.float32),
        )
