"""Where on the canvas the coarse grids of face and mouth lie."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.grid import CoarseGrid

HOLD_REACH = 0.9
"""How far into the picture, in units, a border that cuts the person holds it at most."""
HOLD_SPREAD = 0.2
"""How softly that begins along the border, in units."""


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


def doubled(grid: CoarseGrid) -> CoarseGrid:
    """Cells of twice the size over the same pixels, and up to one fine cell more."""
    columns, rows = (grid.columns + 1) // 2, (grid.rows + 1) // 2
    return CoarseGrid(grid.left, grid.top, columns, rows, 2 * grid.cell)


def box_over(moves: np.ndarray, coarse: CoarseGrid, grid: CoarseGrid) -> CoarseGrid:
    """The part of ``grid`` with every node that moves, and a rim in which motion fades in.

    Args:
        moves: bool (rows, columns) of ``coarse``, which is ``doubled(grid)``.
        coarse: a little more than ``grid``.
        grid: its margin is 1, and so is the box's.
    """
    rows, columns = (np.flatnonzero(moves.any(axis)) for axis in (1, 0))
    rim = 4
    left, right = np.clip(
        [2 * (columns[0] - 1) - rim, 2 * columns[-1] + rim], 0, grid.columns
    ).astype(int)
    top, bottom = np.clip([2 * (rows[0] - 1) - rim, 2 * rows[-1] + rim], 0, grid.rows).astype(int)
    return replace(
        grid,
        left=grid.left + int(left) * grid.cell,
        top=grid.top + int(top) * grid.cell,
        columns=int(right - left),
        rows=int(bottom - top),
    )


def mouth_grid_over(frame: FaceFrame, cell: int, inside: CoarseGrid) -> CoarseGrid:
    """Cells over the mouth's range, with margin for fields that look beyond it."""
    low = frame.origin - frame.unit * np.array([0.72, 0.52])
    high = frame.origin + frame.unit * np.array([0.72, 0.86])
    left = max(int(low[0]) // cell * cell, inside.left)
    top = max(int(low[1]) // cell * cell, inside.top)
    right = min(int(high[0]), inside.left + inside.width)
    bottom = min(int(high[1]), inside.top + inside.height)
    return CoarseGrid(left, top, (right - left) // cell, (bottom - top) // cell, cell, margin=4)


def hole_grid_over(frame: FaceFrame, mouth: CoarseGrid) -> CoarseGrid:
    """Cells over the part of ``mouth`` in which its inside can show, the head turned or not.

    They are four times as large as the mouth's, as nothing behind the lips bends, and may reach
    over its right and lower edge.
    """
    cell = 4 * mouth.cell
    low = frame.origin - frame.unit * np.array([0.68, 0.32])
    high = frame.origin + frame.unit * np.array([0.68, 0.80])
    start, size = np.array([mouth.left, mouth.top]), np.array([mouth.width, mouth.height])
    first = np.clip(low - start, 0, size - cell).astype(int) // 2 * 2
    last = np.minimum(high - start, size)
    cells = np.maximum(np.ceil((last - first) / cell), 1).astype(int)
    left, top = start + first
    return CoarseGrid(int(left), int(top), int(cells[0]), int(cells[1]), cell)


def row_below(grid: CoarseGrid, y: float) -> int:
    """The row of cells of ``grid`` that holds a height in pixels; at most its last."""
    return int(np.clip((y - grid.top) // grid.cell, 0, grid.rows - 1))


def at_nodes(values: np.ndarray, grid: CoarseGrid) -> np.ndarray:
    """Averages of ``values`` over the cells: float32 (rows, columns), margin included."""
    at = grid.nodes().astype(np.float32)
    soft = cv2.blur(values, (grid.cell, grid.cell))
    return cv2.remap(
        soft, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def border_blend(grid: CoarseGrid) -> np.ndarray:
    """1 inside the patch, falling to 0 over its last cells: float32 (height, width)."""
    x = np.minimum(np.arange(grid.width), np.arange(grid.width)[::-1]) + 0.5
    y = np.minimum(np.arange(grid.height), np.arange(grid.height)[::-1]) + 0.5
    band = 2.0 * grid.cell
    return smoothstep(0.0, 1.0, np.minimum(x[None], y[:, None]) / band).astype(np.float32)


def border_hold(
    alpha: np.ndarray, landmarks: np.ndarray, unit: float, grid: CoarseGrid
) -> np.ndarray:
    """How far the nodes may follow the motion: float32 (2, rows, columns), x and y, 1 but near
    borders of the picture that cut the person.

    What lies beyond such a border is not known. Hair that a nod would uncover there stretches
    instead.

    Args:
        alpha: opacity of the person, float32 (height, width).
        landmarks: (478, 3), pixels. No further than half way to them do borders hold.
        unit: distance of the pupils in pixels.
        grid: the nodes.
    """
    hold = np.ones((2, *grid.shape), np.float32)
    nodes = grid.nodes()
    face = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    for axis, size in enumerate(alpha.shape[::-1]):
        along = nodes[..., 1 - axis]
        for border, room in ((0, face[0][axis]), (size - 1, size - 1 - face[1][axis])):
            cut = alpha.take(border, 1 - axis)
            cut = cv2.GaussianBlur(cut[None], (0, 0), HOLD_SPREAD * unit)[0]
            reach = float(np.clip(HOLD_REACH * unit, 1.0, max(0.6 * room, 1.0)))
            free = smoothstep(0.0, reach, np.abs(nodes[..., axis] - border))
            hold[axis] *= 1 - np.interp(along, np.arange(len(cut)), cut) * (1 - free)
    return hold
