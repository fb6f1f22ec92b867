from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.i420 import rgb_to_yuv
from models.warp.build.anatomy import face_frame
from models.warp.build.identity import build_identity
from models.warp.build.jaw import jaw_sheet
from models.warp.render import render


def luma(picture: np.ndarray) -> np.ndarray:
    return picture[: picture.shape[0] * 2 // 3].astype(int)


def places(framed, frame) -> np.ndarray:
    height, width = framed.rgb.shape[:2]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return frame.to_frame(np.stack([columns, rows], -1).astype(float))


def test_the_neck_stays_where_the_jaw_slides_over_it(framed, pose) -> None:
    """Below the lowered chin the neck is what it was: covered, not pressed together."""
    frame = face_frame(framed.landmarks)
    at = places(framed, frame)
    chin = frame.to_frame(framed.landmarks)[152, 1]
    shut, low = (luma(p) for p in render([pose(), pose(jaw=1.0, aperture=0.2)]))
    # A chin this low ends 0.25 below the photo's; half of what pressing would move lies here.
    neck = (np.abs(at[..., 0]) < 0.25) & (at[..., 1] > chin + 0.50) & (at[..., 1] < chin + 0.9)
    assert neck.any()
    assert np.abs(low - shut)[neck].max() <= 6
    # The chin itself has come down over the neck.
    moved = (np.abs(at[..., 0]) < 0.1) & (np.abs(at[..., 1] - chin - 0.08) < 0.05)
    assert np.abs(low - shut)[moved].mean() > 5


def test_a_lowered_jaw_shades_the_neck_below_it(framed) -> None:
    frame = face_frame(framed.landmarks)
    chin = frame.to_frame(framed.landmarks)[152]
    at = chin + np.array([[0.0, -0.1], [0.0, 0.15], [0.0, 0.6]])
    on_jaw, contact, _ = jaw_sheet(rgb_to_yuv(framed.rgb)[..., 0], framed.landmarks, frame, at)
    assert on_jaw[0] > 0.99
    assert on_jaw[1] < 0.01
    assert contact[0] == 0
    assert contact[1] > 0.3
    assert contact[2] < 0.05


def test_a_smile_deepens_the_folds_that_the_photo_has(framed, pose) -> None:
    """Where it has none, no fold is painted."""
    frame = face_frame(framed.landmarks)
    at = places(framed, frame)
    line = frame.to_frame(framed.landmarks)[[203, 206, 216]]
    x = np.interp(at[..., 1], line[:, 1], line[:, 0])
    beside = (at[..., 1] > line[0, 1]) & (at[..., 1] < line[-1, 1])
    fold = np.exp(-np.square((at[..., 0] - x - 0.03) / 0.035)) * beside
    rgb = (framed.rgb * (1 - 0.35 * fold[..., None])).astype(np.uint8)

    def deepened(photo) -> np.ndarray:
        """What the fold's relief takes of the light of a smiling face, in Y."""
        who = build_identity(photo)
        flat = who.jaw.copy()
        flat[..., 2] = 0
        with_folds, without = render(
            [pose(who, smile=1.0), pose(replace(who, jaw=flat), smile=1.0)]
        )
        return luma(without) - luma(with_folds)

    own, none = deepened(replace(framed, rgb=rgb)), deepened(framed)
    right = (at[..., 0] < -0.2) & beside
    assert own[right].max() > 6
    assert np.abs(own).max() < 30
    assert np.percentile(own[right], 98) > 2.5 * np.percentile(none[right], 98)
    assert np.abs(own[at[..., 1] < -0.8]).max() == 0
