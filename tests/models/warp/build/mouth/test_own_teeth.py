"""A photo that shows teeth: the sample portrait rendered smiling, taken as a new photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.anatomy import face_frame
from models.warp.build.identity import build_identity
from models.warp.build.mouth.lips import find_lip_lines
from models.warp.build.mouth.own_teeth import find_own_teeth
from models.warp.render import render


def yellow(rgb: np.ndarray) -> np.ndarray:
    """Pixels of the painted teeth's hue: bright, hardly red, little blue."""
    r, g, b = rgb.astype(float).transpose(2, 0, 1)
    return (r > 110) & (g > 0.86 * r) & (b < 0.80 * r)


def test_teeth_are_found_where_the_photo_shows_them(smiling) -> None:
    yuv = rgb_to_yuv(smiling.rgb)
    lips = find_lip_lines(smiling.landmarks, smiling.frame, yuv)
    own = find_own_teeth(yuv, smiling.frame, lips)
    assert own is not None
    assert own.upper is not None
    rows, columns = np.where(smiling.teeth)
    at = smiling.frame.to_frame(np.stack([columns, rows], -1).astype(float))
    middle = at[np.abs(at[:, 0]) < 0.05, 1].max()
    assert own.upper.at(own.upper.edge, np.zeros(1))[0] == pytest.approx(middle, abs=0.03)
    assert own.colour[1] < 118  # yellow


def test_closed_lips_show_none(framed) -> None:
    yuv = rgb_to_yuv(framed.rgb)
    frame = face_frame(framed.landmarks)
    assert find_own_teeth(yuv, frame, find_lip_lines(framed.landmarks, frame, yuv)) is None


def test_at_rest_the_lips_cover_the_teeth(smiling, pose, mesh) -> None:
    (rest,) = (i420_to_rgb(p) for p in render([pose(build_identity(smiling))]))
    assert yellow(smiling.rgb)[smiling.teeth].mean() > 0.6
    assert yellow(rest)[smiling.teeth].mean() < 0.05


def test_own_teeth_show_again_in_their_place(smiling, pose) -> None:
    who = build_identity(smiling)
    (picture,) = (i420_to_rgb(p) for p in render([pose(who, aperture=0.25, jaw=0.6)]))
    again = yellow(picture)
    # Fixed to the skull: what shows lies where the photo's teeth lie, and is the photo's.
    assert again[smiling.teeth].mean() > 0.4
    both = again & smiling.teeth
    change = picture[both].astype(float) - smiling.rgb[both]
    assert np.abs(np.median(change)) < 35  # less the shade of the lips


def test_the_lower_lip_comes_up_to_short_teeth_for_an_f(smiling, pose) -> None:
    """No dark is seen between it and the tips of teeth that end higher than drawn ones would."""
    rgb = smiling.rgb.copy()
    lips = find_lip_lines(smiling.landmarks, smiling.frame, rgb_to_yuv(rgb))
    columns, rows = np.meshgrid(np.arange(rgb.shape[1]), np.arange(rgb.shape[0]))
    at = smiling.frame.to_frame(np.stack([columns, rows], -1).astype(float))
    x, y = at[..., 0], at[..., 1]
    between = (y > lips.upper_at(x)) & (y < lips.lower_at(x)) & (np.abs(x) < 0.4)
    rgb[between & (y > lips.upper_at(x) + 0.055)] = (40, 24, 24)
    who = build_identity(replace(smiling, rgb=rgb))
    inside = who.mouth.inside.copy()
    inside[1:] = 0
    who = replace(who, mouth=replace(who.mouth, inside=inside))
    closed = float(lips.closed_at(np.array(0.0)))
    middle = (np.abs(x) < 0.1) & (np.abs(y - closed) < 0.1)
    f, apart = (
        i420_to_rgb(p)[middle].max(1)
        for p in render([pose(who, labiodental=1.0), pose(who, aperture=0.1)])
    )
    assert (apart < 70).mean() > 0.1
    assert (f < 70).mean() < 0.01


def test_gums_that_the_photo_shows_show_again(smiling, pose) -> None:
    """Above the teeth of a broad smile lie gums: opened wide, that mouth has no taller teeth."""
    rgb, frame = smiling.rgb.copy(), smiling.frame
    lips = find_lip_lines(smiling.landmarks, frame, rgb_to_yuv(rgb))
    rows, columns = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    x, y = at[..., 0], at[..., 1]
    gums = smiling.teeth & (y < lips.upper_at(x) + 0.04)
    rgb[gums] = (168, 92, 96)
    own = find_own_teeth(rgb_to_yuv(rgb), frame, lips)
    assert own is not None
    assert own.upper is not None
    assert own.upper.gum is not None
    middle = np.zeros(1)
    assert own.upper.at(own.upper.length, middle)[0] == pytest.approx(0.05, abs=0.02)
    plain = find_own_teeth(rgb_to_yuv(smiling.rgb), frame, lips)
    assert plain is not None
    assert plain.upper is not None
    assert plain.upper.gum is None


def test_a_row_hidden_at_one_side_by_the_lip_goes_on_along_its_arc(smiling) -> None:
    """A lower lip that covers the teeth's tips on one side does not make them shorter there."""
    rgb, frame = smiling.rgb.copy(), smiling.frame
    rows, columns = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    lips = find_lip_lines(smiling.landmarks, frame, rgb_to_yuv(rgb))
    lower = np.where(lips.x > 0.02, np.minimum(lips.lower, lips.upper + 0.065), lips.lower)
    covering = replace(lips, lower=lower)
    cover = (at[..., 1] > covering.lower_at(at[..., 0])) & (at[..., 1] < lips.lower_at(at[..., 0]))
    rgb[cover] = rgb[int(frame.origin[1] + 0.3 * frame.unit), int(frame.origin[0])]
    own = find_own_teeth(rgb_to_yuv(rgb), frame, covering)
    assert own is not None
    assert own.upper is not None
    left, right = own.upper.at(own.upper.edge, np.array([-0.15, 0.15]))
    assert right == pytest.approx(left, abs=0.02)
