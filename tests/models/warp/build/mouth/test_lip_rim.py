from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.anatomy import face_frame
from models.warp.build.identity import build_identity
from models.warp.build.mouth.lips import find_lip_lines
from models.warp.render import render


@pytest.mark.parametrize("place", [0.66, 0.95])
def test_no_dark_is_left_in_the_corners_of_a_smile_that_is_closed(smiling, pose, place) -> None:
    """Deep corners of a smile stand well above and below the lips' line, on to the cheek."""
    rgb, frame = smiling.rgb.copy(), smiling.frame
    lips = find_lip_lines(smiling.landmarks, frame, rgb_to_yuv(rgb))
    rows, columns = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    x, y = at[..., 0], at[..., 1]
    across = np.abs(frame.across(x))
    height = 0.06 * (1 - np.abs(across - place) / 0.2)
    corner = np.maximum(lips.upper_at(x) - y, y - lips.lower_at(x)) < height
    rgb[corner] = (60, 30, 20)
    who = build_identity(replace(smiling, rgb=rgb))
    rest, plain = (i420_to_rgb(p) for p in render([pose(who), pose(build_identity(smiling))]))
    left = corner & (rest.max(-1) < 90)
    assert left.sum() <= (corner & (plain.max(-1) < 90)).sum() + 0.06 * corner.sum()


def test_the_line_of_closed_lips_does_not_go_round_the_open_mouth(framed, pose) -> None:
    """Lips that part take none of the dark between them along."""
    frame = face_frame(framed.landmarks)
    lips = find_lip_lines(framed.landmarks, frame, rgb_to_yuv(framed.rgb))
    rows, columns = np.mgrid[0 : framed.rgb.shape[0], 0 : framed.rgb.shape[1]]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    line = np.abs(at[..., 1] - lips.closed_at(at[..., 0])) * frame.unit < 1.3
    rgb = framed.rgb.copy()
    rgb[line & (np.abs(frame.across(at[..., 0])) < 0.9)] = (30, 12, 10)
    who = build_identity(replace(framed, rgb=rgb))
    green = np.array([180.0, 40.0, 40.0], np.float32)
    mouth = replace(who.mouth, inside=who.mouth.inside * 0, cavity=green, black=green)
    (picture,) = render([pose(replace(who, mouth=mouth), aperture=0.25, jaw=0.5)])
    grid = mouth.field.grid
    area = slice(grid.top, grid.top + round(who.unit)), slice(grid.left, grid.left + grid.width)
    open_ = i420_to_rgb(picture)[area].astype(int)
    hole = open_[..., 1] > open_[..., 0] + 20
    middle = np.flatnonzero(hole.any(0))
    middle = middle[len(middle) // 4 : -len(middle) // 4]
    dark = (open_.max(-1) < 90)[:, middle].sum(0)
    assert dark.mean() < 0.8
