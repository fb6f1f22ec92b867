from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.identity import build_identity
from models.warp.lips import find_lip_lines
from models.warp.render import render


def test_no_dark_is_left_in_the_corners_of_a_smile_that_is_closed(smiling, pose) -> None:
    """Deep corners of a smile stand well above and below the lips' line, on to the cheek."""
    rgb, frame = smiling.rgb.copy(), smiling.frame
    lips = find_lip_lines(smiling.landmarks, frame, rgb_to_yuv(rgb))
    rows, columns = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    x, y = at[..., 0], at[..., 1]
    across = np.abs(frame.across(x))
    height = 0.06 * (1 - np.abs(across - 0.95) / 0.2)
    corner = np.abs(y - lips.closed_at(x)) < height
    rgb[corner] = (60, 30, 20)
    who = build_identity(replace(smiling, rgb=rgb))
    rest, plain = (i420_to_rgb(p) for p in render([pose(who), pose(build_identity(smiling))]))
    left = corner & (rest.max(-1) < 90)
    assert left.sum() <= (corner & (plain.max(-1) < 90)).sum() + 0.06 * corner.sum()
