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

    def pixels(self) -> np.ndarray:
        """Positions of the pixels without the margin: float64 (width * height, 2), row by row."""
        x, y = self.left + np.arange(self.width), self.top + np.arange(self.height)
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float64)

    def coordinates(self, pixels: np.ndarray) -> np.ndarray:
        """Grid coordinates of pixel positions (..., 2)."""
        return (pixels - self.origin) * self.per_pixel - 1.0


def sample(values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of ``values`` (n, channels, h, w) at ``grid`` (n, h', w', 2).

    Beyond the edge the edge's value counts.
    """
    return functional.grid_sample(
        values, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def upsample(values: torch.Tensor, grid: CoarseGrid, samples: int) -> torch.Tensor:
    """Node values interpolated to ``samples`` by ``samples`` points per cell, evenly spaced.

    With ``samples`` equal to the cell's side these are the pixels, with half of it the chroma
    samples of I420.

    Args:
        values: (n, channels, rows, columns), margin included.
        grid: they belong to.
        samples: per cell and axis.

    Returns:
        (n, channels, grid.rows * samples, grid.columns * samples), without the margin.
    """
    n, channels, rows, _ = values.shape
    wide = values.new_empty(n, channels, rows, grid.columns, samples)
    for i in range(samples):
        start, weight = _phase(i, samples, grid.margin)
        left = values[..., start : start + grid.columns]
        right = values[..., start + 1 : start + 1 + grid.columns]
        torch.lerp(left, right, weight, out=wide[..., i])
    wide = wide.flatten(3)
    out = values.new_empty(n, channels, grid.rows, samples, wide.shape[3])
    for i in range(samples):
        start, weight = _phase(i, samples, grid.margin)
        upper = wide[:, :, start : start + grid.rows]
        lower = wide[:, :, start + 1 : start + 1 + grid.rows]
        torch.lerp(upper, lower, weight, out=out[:, :, :, i])
    return out.flatten(2, 3)


def _phase(index: int, samples: int, margin: int) -> tuple[int, float]:
    """First node, and weight of the one after it, for sample ``index`` of a cell."""
    offset = (index + 0.5) / samples - 0.5
    return (margin - 1, offset + 1.0) if offset <= 0 else (margin, offset)


def invert(
    displacement: torch.Tensor, base: torch.Tensor, iterations: int, step: float = 1.0
) -> torch.Tensor:
    """Where each target came from: the inverse of x -> x + displacement(x).

    Args:
        displacement: (n, 2, rows, columns) in grid coordinates, at the nodes.
        base: grid coordinates of the nodes, (1, 2, rows, columns).
        iterations: of u <- -displacement(x + u); the error shrinks each time by the steepest
            slope of the displacement.
        step: share of each correction that is taken. Where the displacement stretches twofold
            and more (slope from 1), only shares below 1 converge.

    Returns:
        Grid coordinates of the sources, (n, 2, rows, columns).
    """
    source = base - displacement
    for _ in range(iterations):
        found = base - sample(displacement, source.permute(0, 2, 3, 1))
        source = found if step == 1.0 else torch.lerp(source, found, step)
    return source
