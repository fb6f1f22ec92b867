from __future__ import annotations

import numpy as np

from models.warp.anatomy import face_frame
from models.warp.jaw import jaw_sheet
from models.warp.renderer import render


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
    on_jaw, contact, _ = jaw_sheet(framed.landmarks, frame, at)
    assert on_jaw[0] > 0.99
    assert on_jaw[1] < 0.01
    assert contact[0] == 0
    assert contact[1] > 0.3
    assert contact[2] < 0.05


def test_a_smile_deepens_the_folds_beside_the_mouth(framed, pose) -> None:
    """Softly: the skin around the fold darkens by a few per cent, the forehead by nothing."""
    frame = face_frame(framed.landmarks)
    at = places(framed, frame).reshape(-1, 2)
    fold = jaw_sheet(framed.landmarks, frame, at)[2].reshape(framed.rgb.shape[:2])
    rest, smile = (luma(p) for p in render([pose(), pose(smile=1.0)]))
    change = (smile - rest) / rest.clip(min=30)
    cheeks = fold > 0.8
    around = (fold < 0.02) & (np.abs(places(framed, frame)[..., 1] + 0.9) < 0.2)
    around &= np.abs(places(framed, frame)[..., 0]) < 0.3
    assert -0.15 < np.median(change[cheeks]) < -0.02
    assert abs(np.median(change[around])) < 0.01
