"""Coarse grids over a part of the canvas: where displacement fields live and are inverted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional


@dataclass(frozen=True)
class CoarseGrid:
    """``columns`` x ``rows`` cells of ``cell`` pixels each, and ``margin`` cells around them.

    Values sit at the cells' centres. ``left``, ``top`` is the first pixel of the first cell inside
    the margin. Grid coordinates are those of ``torch.nn.functional.grid_sample`` with
    ``align_corners=False`` over the grid with its margin.
    """

    left: int
    top: int
    columns: int
    rows: int
    cell: int
    margin: int = 1

    @property
    def width(self) -> int:
        """Pixels across, without the margin."""
        return self.columns * self.cell

    @property
    def height(self) -> int:
        """Pixels down, without the margin."""
        return self.rows * self.cell

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns with the margin."""
        return self.rows + 2 * self.margin, self.columns + 2 * self.margin

    @property
    def per_pixel(self) -> np.ndarray:
        """Grid coordinates per pixel, x and y: float64 (2,)."""
        rows, columns = self.shape
        return np.array([2.0 / (columns * self.cell), 2.0 / (rows * self.cell)])

    @property
    def origin(self) -> np.ndarray:
        """Pixel position of the grid coordinates (-1, -1): float64 (2,)."""
        border = self.margin * self.cell
        return np.array([self.left - border - 0.5, self.top - border - 0.5])

    def nodes(self) -> np.ndarray:
        """Pixel positions of the values: float64 (rows, columns, 2), margin included."""
        rows, columns = self.shape
        x = self.origin[0] + (np.arange(columns) + 0.5) * self.cell
        y = self.origin[1] + (np.arange(rows) + 0.5) * self.cell
        return np.stack(np.meshgrid(x, y), -1)

    def coordinates(self, pixels: np.ndarray) -> np.ndarray:
        """Grid coordinates of pixel positions (..., 2)."""
        return (pixels - self.origin) * self.per_pixel - 1.0

    def pixel_grid(self, step: int = 1) -> np.ndarray:
        """Grid coordinates of the pixels, or with ``step`` 2 of the centres of 2 x 2 pixels.

        float32 (height / step, width / step, 2), the margin left out.
        """
        x = self.left + (np.arange(self.width // step) + 0.5) * step - 0.5
        y = self.top + (np.arange(self.height // step) + 0.5) * step - 0.5
        return self.coordinates(np.stack(np.meshgrid(x, y), -1)).astype(np.float32)


def sample(values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of ``values`` (n, channels, h, w) at ``grid`` (n, h', w', 2).

    Beyond the edge the edge's value counts.
    """
    return functional.grid_sample(
        values, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def invert(displacement: torch.Tensor, base: torch.Tensor, iterations: int) -> torch.Tensor:
    """Where each target came from: the inverse of x -> x + displacement(x).

    Args:
        displacement: (n, 2, rows, columns) in grid coordinates, at the nodes.
        base: grid coordinates of the nodes, (1, 2, rows, columns).
        iterations: of u <- -displacement(x + u); the error shrinks each time by the steepest
            slope of the displacement.

    Returns:
        Grid coordinates of the sources, (n, 2, rows, columns).
    """
    source = base - displacement
    for _ in range(iterations):
        source = base - sample(displacement, source.permute(0, 2, 3, 1))
    return source
