"""What moves with the head, what shows behind it, and what stays."""

from __future__ import annotations

import cv2
import numpy as np

from models.i420 import i420_to_rgb
from models.warp.build.anatomy import face_frame
from models.warp.build.backdrop import UNSEEN, split
from models.warp.build.layout import border_hold, face_grid_over
from models.warp.render import render

UNIT = 60.0


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """A dark head with one loose lock before a wall that is lighter below, and its matte."""
    rows, columns = np.mgrid[:240, :320].astype(np.float32)
    rgb = np.repeat((100 + rows / 3)[..., None], 3, 2)
    matte = (np.hypot(rows - 120, columns - 160) < 60).astype(np.float32)
    rgb[matte > 0] = 30
    rgb[118:122, 216:227] = 30
    return rgb, matte


def test_at_rest_the_layers_are_the_picture() -> None:
    rgb, matte = _scene()
    layers = split(rgb, matte, UNIT)
    alpha = layers.alpha[..., None]
    assert np.abs(alpha * rgb + (1 - alpha) * layers.plate - rgb).max() <= UNSEEN


def test_the_wall_goes_on_behind_the_head() -> None:
    rgb, matte = _scene()
    plate = split(rgb, matte, UNIT).plate
    # As far as a head may move off what it hides: a third of the pupils' distance.
    rim = cv2.distanceTransform(matte.astype(np.uint8), cv2.DIST_L2, 5) < 0.33 * UNIT
    wall = 100 + np.arange(240, dtype=np.float32)[:, None, None] / 3
    assert np.abs(plate - wall)[rim & (matte > 0)].mean() < 4


def test_hair_moves_with_the_head_and_the_wall_beside_it_does_not() -> None:
    rgb, matte = _scene()
    alpha = split(rgb, matte, UNIT).alpha
    assert alpha[120, 224] > 0.9
    assert alpha[90, 60] == alpha[150, 90] == 0
    assert alpha[118:122, 90:94].max() < 0.1


def test_a_bright_window_beside_the_hair_stays_and_hair_of_no_colour_of_it_does_not() -> None:
    """Bars across a window are not the person's, however little they go on as mirrored."""
    rgb, matte = _scene()
    lock = (matte == 0) & (rgb.max(2) < 40)
    rows, columns = np.mgrid[:240, :320]
    bars = (rows + columns) // 9 % 2 == 0
    rgb[~lock & (matte == 0)] = np.where(bars, 235.0, 150.0)[~lock & (matte == 0), None]
    away = cv2.distanceTransform((matte < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / UNIT
    alpha = split(rgb, matte, UNIT).alpha
    beside = (away > 0.14) & (away < 0.2) & (columns < 160)
    assert alpha[beside].mean() < 0.15
    assert alpha[120, 224] > 0.8


def test_shoulders_stay_when_the_head_tilts(framed, pose) -> None:
    frame = face_frame(framed.landmarks)
    rest, tilted = (
        i420_to_rgb(picture).astype(int) for picture in render([pose(), pose(roll=6.0, yaw=4.0)])
    )
    for side in (-1.4, 1.4):
        x = round(frame.to_pixels(np.array([side, 0.0]))[0])
        below = round(frame.to_pixels(np.array([side, 1.0]))[1])
        y = below + int(np.argmax(framed.matte[below:, x] > 0.5))
        edge = slice(y - 8, y + 8), slice(x - 8, x + 8)
        assert np.ptp(rest[edge]) > 40
        assert np.abs(tilted - rest)[edge].mean() < 2


def test_borders_hold_only_what_they_cut(framed) -> None:
    """Hair cut by the upper border stretches there; a face and a free outline follow as asked."""
    unit = face_frame(framed.landmarks).unit
    alpha = framed.matte.copy()
    middle = round(framed.landmarks[:, 0].mean())
    alpha[:200, middle - 60 : middle + 60] = 1.0
    grid = face_grid_over(alpha, 4)
    hold = border_hold(alpha, framed.landmarks, unit, grid)
    nodes = grid.nodes()

    def at(x: float, y: float) -> np.ndarray:
        row, column = np.unravel_index(np.hypot(*(nodes - (x, y)).T).T.argmin(), grid.shape)
        return hold[:, row, column]

    assert at(middle, 0)[1] < 0.05 < 0.5 < at(middle, 0)[0]
    assert at(middle - 150, 0)[1] > 0.95
    for x, y in framed.landmarks[:, :2]:
        assert at(x, y).min() > 0.99
