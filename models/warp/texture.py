"""Parts of the photo as textures, at twice the canvas's resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALE = 2
"""Texture samples per canvas pixel: bilinear sampling between them keeps the photo sharp."""


@dataclass(frozen=True)
class Window:
    """A rectangle of canvas pixels a texture covers."""

    left: int
    top: int
    width: int
    height: int

    def grown(self, by: int) -> Window:
        """The window and ``by`` pixels around it."""
        return Window(self.left - by, self.top - by, self.width + 2 * by, self.height + 2 * by)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset, each (2,), from canvas pixels to texture coordinates.

        Texture coordinates are those of ``grid_sample`` with ``align_corners=False``; canvas
        pixel i of the window is texture sample ``2 i``.
        """
        size = np.array([self.width, self.height], np.float64)
        start = np.array([self.left, self.top], np.float64)
        scale = 2.0 / size
        return scale, (0.5 - 2.0 * start) / size - 1.0

    def positions(self) -> np.ndarray:
        """Canvas pixel position of every texture sample: float64 (2 height, 2 width, 2)."""
        x = self.left + np.arange(SCALE * self.width) / SCALE
        y = self.top + np.arange(SCALE * self.height) / SCALE
        return np.stack(np.meshgrid(x, y), -1)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The window's pixels of ``image`` (height, width, ...), its edge repeated beyond it."""
        rows = np.clip(np.arange(self.top, self.top + self.height), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(self.left, self.left + self.width), 0, image.shape[1] - 1)
        return image[rows][:, columns]


def double(image: np.ndarray) -> np.ndarray:
    """Twice the resolution: sample ``2 i`` is pixel ``i``, odd samples lie halfway.

    Args:
        image: float32 (height, width, channels).
    """
    for axis in (0, 1):
        image = _double_axis(image, axis)
    return image


def _double_axis(image: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(image, axis, 0)
    padded = np.concatenate([moved[:1], moved, moved[-1:], moved[-1:]])
    # Cubic convolution (Keys, 1981) at the midpoint.
    half = (9.0 * (padded[1:-2] + padded[2:-1]) - padded[:-3] - padded[3:]) / 16.0
    out = np.empty((2 * len(moved), *moved.shape[1:]), np.float32)
    out[0::2] = moved
    out[1::2] = half
    return np.moveaxis(out, 0, axis)
