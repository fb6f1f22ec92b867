"""Parts of the photo as textures, finer than the canvas."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


def texels_per_pixel(width: int, height: int) -> int:
    """Samples of the photo's textures per pixel of a canvas and axis.

    A picture that is turned falls between the samples, where bilinear interpolation loses the
    share ``1 - cos(pi / 2 n)`` of the finest detail: 29 % with two samples per pixel, 13 % with
    three. Photos seldom hold more detail than a large canvas shows.
    """
    return 2 if min(width, height) >= 900 else 3


@dataclass(frozen=True)
class Window:
    """A rectangle of canvas pixels a texture covers."""

    left: int
    top: int
    width: int
    height: int
    scale: int = 2
    """Texture samples per canvas pixel and axis."""

    def grown(self, by: int) -> Window:
        """The window and ``by`` pixels around it."""
        return Window(
            self.left - by, self.top - by, self.width + 2 * by, self.height + 2 * by, self.scale
        )

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset, each (2,), from canvas pixels to texture coordinates.

        Texture coordinates are those of ``grid_sample`` with ``align_corners=False``; canvas
        pixel i of the window is texture sample ``scale * i``.
        """
        size = np.array([self.width, self.height], np.float64)
        start = np.array([self.left, self.top], np.float64)
        return 2.0 / size, (1.0 / self.scale - 2.0 * start) / size - 1.0

    def positions(self) -> np.ndarray:
        """Canvas pixel position of every texture sample: float64 (rows, columns, 2)."""
        x = self.left + np.arange(self.scale * self.width) / self.scale
        y = self.top + np.arange(self.scale * self.height) / self.scale
        return np.moveaxis(np.stack(np.meshgrid(x, y)), 0, -1)

    def part(self, low: np.ndarray, high: np.ndarray) -> Window:
        """What the window shares with the rectangle between two pixel positions (2,)."""
        start = np.array([self.left, self.top])
        size = np.array([self.width, self.height])
        first = np.clip(np.floor(low).astype(int) - start, 0, size - 1)
        last = np.clip(np.ceil(high).astype(int) + 1 - start, first + 1, size)
        (left, top), (width, height) = start + first, last - first
        return Window(int(left), int(top), int(width), int(height), self.scale)

    def samples_of(self, part: Window) -> tuple[slice, slice]:
        """Rows and columns of this window's texture that a window inside it has."""
        top, left = part.top - self.top, part.left - self.left
        return (
            slice(self.scale * top, self.scale * (top + part.height)),
            slice(self.scale * left, self.scale * (left + part.width)),
        )

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The window's pixels of ``image`` (height, width, ...), its edge repeated beyond it."""
        return self._cut(image, 1)

    def cut_texture(self, texture: np.ndarray) -> np.ndarray:
        """The window's samples of the whole canvas's :func:`texture` of the same scale."""
        return self._cut(texture, self.scale)

    def _cut(self, image: np.ndarray, scale: int) -> np.ndarray:
        rows = np.arange(scale * self.top, scale * (self.top + self.height))
        columns = np.arange(scale * self.left, scale * (self.left + self.width))
        rows = np.clip(rows, 0, image.shape[0] - 1)
        columns = np.clip(columns, 0, image.shape[1] - 1)
        # Whole runs, and copies of the edges around them: single columns would be gathered.
        inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = int((rows == rows[0]).sum()) - 1, int((columns == columns[0]).sum()) - 1
        bottom = len(rows) - top - inside.shape[0]
        right = len(columns) - left - inside.shape[1]
        return cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE)


_ROW = 4096
"""Samples per row of the maps that :func:`look_up` hands to OpenCV."""


def look_up(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bilinear samples of ``image`` at any number of places; 0 outside it.

    OpenCV refuses maps of 32,767 rows or columns and more, so a long list of places goes there
    folded into several rows.

    Args:
        image: float32 or uint8 (height, width) or (height, width, channels).
        at: x and y in pixels, (m, 2).

    Returns:
        (m,) or (m, channels), of the type of ``image``.
    """
    count = len(at)
    if count == 0:
        return np.empty((0, *image.shape[2:]), image.dtype)
    folded = np.zeros((-(-count // _ROW), _ROW, 2), np.float32)
    folded.reshape(-1, 2)[:count] = at
    samples = cv2.remap(image, folded[..., 0], folded[..., 1], cv2.INTER_LINEAR)
    return np.asarray(samples.reshape(-1, *image.shape[2:])[:count])


def texture(fine: np.ndarray, scale: int) -> np.ndarray:
    """What a camera with the canvas's pixels sees at each sample of a finer picture.

    Each sample is the mean over one canvas pixel, so sample ``scale * i`` is pixel ``i`` and those
    between are the pixels of a picture that moved by a part of one: as sharp, without ringing.

    Args:
        fine: (scale * height, scale * width, channels).
        scale: samples per canvas pixel and axis.
    """
    return cv2.blur(fine, (scale, scale), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)


def plain_texture(image: np.ndarray, scale: int) -> np.ndarray:
    """A picture that is no finer than the canvas as a texture of ``scale``."""
    return texture(image.repeat(scale, 0).repeat(scale, 1), scale)


def window_texture(luma: np.ndarray, yuv: np.ndarray, window: Window) -> np.ndarray:
    """Y, U, V over a window: float32 (scale * h, scale * w, 3).

    As cut from a texture of the whole canvas, which would take a hundred megabytes.

    Args:
        luma: the canvas's :func:`texture` of Y, of the window's scale.
        yuv: the canvas, float32 (height, width, 3); U and V are taken from it.
        window: of the canvas.
    """
    # A sample between two pixels needs the next one, too.
    around = Window(window.left, window.top, window.width + 1, window.height + 1)
    tint = plain_texture(around.cut(yuv[..., 1:]), window.scale)
    rows, columns = window.scale * window.height, window.scale * window.width
    return np.dstack([window.cut_texture(luma), tint[:rows, :columns]])
