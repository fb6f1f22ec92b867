"""Where on the canvas the coarse grids of face and mouth lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.warp.anatomy import FaceFrame, smoothstep
from models.warp.grid import CoarseGrid


def face_grid_over(alpha: np.ndarray, cell: int) -> CoarseGrid:
    """Cells over everything that can move: the person and a rim it may move into."""
    height, width = alpha.shape
    rows, columns = np.where(alpha.max(1) > 0.02)[0], np.where(alpha.max(0) > 0.02)[0]
    slack = 3 * cell + min(height, width) // 16
    # Even canvases need not be a multiple of the cell: cells may reach over the right and lower
    # edge, where they are cut by starting at the canvas's edge and ending at its last whole cell.
    left = max(0, int(columns[0]) - slack) // cell * cell
    top = max(0, int(rows[0]) - slack) // cell * cell
    right = min(width, int(columns[-1]) + slack)
    bottom = min(height, int(rows[-1]) + slack)
    return CoarseGrid(left, top, (right - left) // cell, (bottom - top) // cell, cell)


def mouth_grid_over(frame: FaceFrame, cell: int, inside: CoarseGrid) -> CoarseGrid:
    """Cells over the mouth's range, with margin for fields that look beyond it."""
    low = frame.origin - frame.unit * np.array([0.72, 0.52])
    high = frame.origin + frame.unit * np.array([0.72, 0.86])
    left = max(int(low[0]) // cell * cell, inside.left)
    top = max(int(low[1]) // cell * cell, inside.top)
    right = min(int(high[0]), inside.left + inside.width)
    bottom = min(int(high[1]), inside.top + inside.height)
    return CoarseGrid(left, top, (right - left) // cell, (bottom - top) // cell, cell, margin=4)


def below(grid: CoarseGrid, y: float) -> CoarseGrid:
    """The rows of ``grid`` below a height in pixels."""
    rows = int(np.clip((y - grid.top) // grid.cell, 0, grid.rows - 1))
    return replace(grid, top=grid.top + rows * grid.cell, rows=grid.rows - rows)


def border_blend(grid: CoarseGrid) -> np.ndarray:
    """1 inside the patch, falling to 0 over its last cells: float32 (height, width)."""
    x = np.minimum(np.arange(grid.width), np.arange(grid.width)[::-1]) + 0.5
    y = np.minimum(np.arange(grid.height), np.arange(grid.height)[::-1]) + 0.5
    band = 2.0 * grid.cell
    return smoothstep(0.0, 1.0, np.minimum(x[None], y[:, None]) / band).astype(np.float32)
