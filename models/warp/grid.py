"""Coarse grids over a part of the canvas: where displacement fields live and are inverted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CoarseGrid:
    """``columns`` x ``rows`` cells of ``cell`` pixels each, and ``margin`` cells around them.

    Values sit at *nodes*, the cells' centres. ``left``, ``top`` is the first pixel of the first
    cell inside the margin.
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
        """Rows and columns of nodes, with the margin."""
        return self.rows + 2 * self.margin, self.columns + 2 * self.margin

    def nodes(self) -> np.ndarray:
        """Pixel positions of the nodes: float64 (rows, columns, 2), margin included."""
        rows, columns = self.shape
        first = 0.5 * self.cell - self.margin * self.cell - 0.5
        x = self.left + first + np.arange(columns) * self.cell
        y = self.top + first + np.arange(rows) * self.cell
        return np.stack(np.meshgrid(x, y), -1)

    def pixels(self) -> np.ndarray:
        """Positions of the pixels without the margin: float64 (height * width, 2)."""
        rows, columns = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        return np.stack([self.left + columns.ravel(), self.top + rows.ravel()], -1)
