from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.face import topology
from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.eyes.eye_shape import EyeShape, bow, find_eyes, find_irises
from models.warp.render import render

PAIRS = {
    "right": ((160, 144), (159, 145), (158, 153)),
    "left": ((385, 380), (386, 374), (387, 373)),
}
CORNERS = {"right": topology.RIGHT_EYE_CORNERS, "left": topology.LEFT_EYE_CORNERS}


@pytest.fixture(scope="module")
def eyes(framed) -> tuple[EyeShape, EyeShape]:
    """The person's right and left eye."""
    return find_eyes(framed.landmarks, rgb_to_yuv(framed.rgb))


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


def test_lids_are_found_around_the_mesh(framed, eyes) -> None:
    for left, shape in enumerate(eyes):
        u = np.linspace(-0.8, 0.8, 9)
        opening = bow(u, shape.lower) - bow(u, shape.upper)
        assert (opening > 0.05).all()
        pupil = shape.to_own(framed.landmarks[473 if left else 468, :2].astype(np.float64))
        assert np.abs(pupil).max() < 0.45
        assert np.allclose(shape.to_own(shape.to_pixels(u, 0.3 * u))[:, 1], 0.3 * u)


def test_irises_larger_than_the_mesh_knows_are_found() -> None:
    luma = np.full((120, 240), 180.0, np.float32)
    cv2.circle(luma, (60, 60), 26, 60.0, -1, cv2.LINE_AA)
    cv2.circle(luma, (180, 62), 26, 60.0, -1, cv2.LINE_AA)
    spread = np.array([[0, 0], [20, 0], [0, -20], [-20, 0], [0, 20]], np.float64)
    middles, size = find_irises(luma, [np.add(spread, at) for at in ((61, 59), (179, 61))])
    assert size == pytest.approx(26 / 20, abs=0.06)
    assert np.abs(np.array(middles) - [(60, 60), (180, 62)]).max() < 2.5


def test_eyes_at_rest_are_the_photo(framed, pose) -> None:
    (picture,) = render([pose()])
    shown = picture[: framed.rgb.shape[0]].astype(float)
    apart = np.abs(shown - rgb_to_yuv(framed.rgb)[:, :, 0])
    for eye in (33, 133, 263, 362, 159, 386, 145, 374):
        x, y = framed.landmarks[eye, :2].round().astype(int)
        assert apart[y - 6 : y + 7, x - 6 : x + 7].mean() < 3


def test_no_eye_shows_through_shut_lids(eyes, pose) -> None:
    """What is seen of a shut eye is skin and lashes: nothing as white or as green as the eye."""
    shut = i420_to_rgb(render([pose(blink_left=1.0, blink_right=1.0)])[0]).astype(float)
    for shape in eyes:
        u, v = np.meshgrid(np.linspace(-0.9, 0.9, 40), np.linspace(0.02, 0.98, 20))
        top, bottom = bow(u, shape.upper), bow(u, shape.lower)
        at = shape.to_pixels(u, top + v * (bottom - top)).round().astype(int)
        red, green, blue = np.moveaxis(shut[at[..., 1], at[..., 0]], -1, 0)
        assert (red > green).all()
        assert (red > blue + 8).mean() > 0.98


def test_a_blink_changes_nothing_away_from_the_eyes(eyes, identity, pose) -> None:
    """The eyes' patches have no seam: at their borders a shut eye is the open one's picture."""
    still, shut = (p.astype(int) for p in render([pose(), pose(blink_left=1.0, blink_right=1.0)]))
    changed = np.abs(still - shut)[: identity.canvas.height]
    for eye in identity.eyes:
        x, y, width, height = eye.patch
        x, y = x + identity.grid.left, y + identity.grid.top
        lowest = changed[y + height - 4 : y + height, x : x + width]
        sides = changed[y : y + height, [x, x + 1, x + width - 2, x + width - 1]]
        assert max(lowest.max(), sides.max()) <= 2


def test_catch_lights_stay_while_the_iris_turns(eyes, pose) -> None:
    left, right = (
        i420_to_rgb(p).astype(float).mean(-1) for p in render([pose(gaze_x=-5.0), pose(gaze_x=5.0)])
    )
    for shape in eyes:
        x, y = shape.to_pixels(*shape.iris[:2]).round().astype(int)
        reach = round(0.9 * shape.iris[2] * np.hypot(*shape.along))
        area = (slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1))
        light = [np.unravel_index(eye[area].argmax(), eye[area].shape) for eye in (left, right)]
        pupil = [np.argwhere(eye[area] < eye[area].min() + 12).mean(0) for eye in (left, right)]
        assert np.abs(np.subtract(*light)).max() <= 1
        assert pupil[1][1] - pupil[0][1] > 1.0


def test_upper_lids_follow_the_gaze(eyes, pose) -> None:
    up, down = (
        i420_to_rgb(p).astype(float).mean(-1) for p in render([pose(gaze_y=g) for g in (-8.0, 8.0)])
    )
    for shape in eyes:
        # Over the white of the eye the lashes are the darkest of a column.
        u, v = np.meshgrid(np.linspace(0.45, 0.65, 5), np.linspace(-0.5, 0.4, 90))
        at = shape.to_pixels(u * -shape.outer, v + bow(u, shape.upper)).round().astype(int)
        lashes = [v[eye[at[..., 1], at[..., 0]].argmin(0), 0].mean() for eye in (up, down)]
        assert lashes[1] - lashes[0] > 0.06


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
