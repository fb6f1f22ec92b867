from __future__ import annotations

import numpy as np
import pytest

from models.face import topology
from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.eyes import bow, find_eye
from models.warp.renderer import render

PAIRS = {
    "right": ((160, 144), (159, 145), (158, 153)),
    "left": ((385, 380), (386, 374), (387, 373)),
}
CORNERS = {"right": topology.RIGHT_EYE_CORNERS, "left": topology.LEFT_EYE_CORNERS}


def openness(landmarks: np.ndarray, side: str) -> float:
    """Distance of the lids over the width of the eye."""
    points = landmarks[:, :2]
    a, b = CORNERS[side]
    lids = np.mean([np.hypot(*(points[u] - points[v])) for u, v in PAIRS[side]])
    return float(lids / np.hypot(*(points[a] - points[b])))


def iris_dark(framed, picture: np.ndarray, side: str) -> float:
    """Share of the eye's opening that is as dark as its pupil."""
    landmarks = framed.landmarks
    x, y = landmarks[468 if side == "right" else 473, :2].round().astype(int)
    reach = max(2, round(np.hypot(*(landmarks[33] - landmarks[133])[:2]) * 0.10))
    return float(picture[y - reach : y + reach + 1, x - reach : x + reach + 1].mean())


def test_lids_are_found_around_the_mesh(framed) -> None:
    luma = rgb_to_yuv(framed.rgb)[:, :, 0]
    for left in (False, True):
        shape = find_eye(framed.landmarks, luma, left)
        u = np.linspace(-0.8, 0.8, 9)
        opening = bow(u, shape.lower) - bow(u, shape.upper)
        assert (opening > 0.05).all()
        pupil = shape.to_own(framed.landmarks[473 if left else 468, :2].astype(np.float64))
        assert np.abs(pupil).max() < 0.45
        assert np.allclose(shape.to_own(shape.to_pixels(u, 0.3 * u))[:, 1], 0.3 * u)


def test_a_blink_shuts_the_eyes(pose, mesh) -> None:
    seen = [
        mesh(i420_to_rgb(picture))
        for picture in render([pose(blink_left=b, blink_right=b) for b in (0.0, 0.5, 1.0)])
    ]
    for side in ("right", "left"):
        open_, half, shut = (openness(landmarks, side) for landmarks in seen)
        assert open_ > half > shut
        assert shut < 0.7 * open_


def test_each_eye_blinks_by_itself(framed, pose) -> None:
    still, wink = render([pose(), pose(blink_left=1.0)])
    assert iris_dark(framed, wink, "left") > iris_dark(framed, still, "left") + 15
    assert iris_dark(framed, wink, "right") == pytest.approx(
        iris_dark(framed, still, "right"), abs=0.5
    )


def test_the_eyeball_is_covered_and_not_squashed(framed, pose) -> None:
    """Halfway shut, the lower half of the iris is still where it was."""
    still, half = render([pose(), pose(blink_left=0.35, blink_right=0.35)])
    for centre in (468, 473):
        x, y = framed.landmarks[centre, :2].round().astype(int)
        unit = int(np.hypot(*(framed.landmarks[33] - framed.landmarks[133])[:2]))
        area = (slice(y + 1, y + 1 + unit // 12), slice(x - unit // 10, x + unit // 10))
        assert np.abs(still[area].astype(int) - half[area]).mean() < 10


def test_the_iris_follows_the_gaze(pose, mesh) -> None:
    left, right = (
        mesh(i420_to_rgb(p))[[468, 473], 0].mean()
        for p in render([pose(gaze_x=-12.0), pose(gaze_x=12.0)])
    )
    assert right - left > 1.5
