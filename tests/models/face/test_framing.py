from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from models.engine import Canvas
from models.face import frame_portrait, framed_region, load_photo, topology
from models.i420 import rgb_to_yuv

SIZES = [(640, 480), (1280, 960), (480, 640), (512, 512)]


def crop(photo: np.ndarray, face, left: float, top: float, right: float, bottom: float):
    """The photo cut so near to the face's box, in heights of the face."""
    h = face.height
    x0, y0 = max(0, int(face.box[0] - left * h)), max(0, int(face.box[1] - top * h))
    x1, y1 = int(face.box[2] + right * h), int(face.box[3] + bottom * h)
    return np.ascontiguousarray(photo[y0:y1, x0:x1])


def eye_line(framed) -> float:
    corners = [*topology.RIGHT_EYE_CORNERS, *topology.LEFT_EYE_CORNERS]
    return float(framed.landmarks[corners, 1].mean()) / framed.rgb.shape[0]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_roomy_photo_is_composed_naturally(photo, face, width, height):
    framed = frame_portrait(photo, face, Canvas(width, height))
    assert framed.rgb.shape == (height, width, 3)
    assert framed.rgb.dtype == np.uint8
    assert framed.extended == (0, 0, 0, 0)
    assert 0.37 < framed.face.height / height < 0.50
    assert 0.36 < eye_line(framed) < 0.46
    middle = (framed.face.box[0] + framed.face.box[2]) / 2 / width
    assert abs(middle - 0.5) < 0.05


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_landmarks_lie_on_the_framed_face(photo, face, analyzer, width, height):
    tight = crop(photo, face, 0.3, 0.4, 0.3, 0.2)
    (own,) = analyzer.analyze(tight)
    framed = frame_portrait(tight, own, Canvas(width, height))
    (again,) = analyzer.analyze(framed.rgb)
    off = np.linalg.norm(again.landmarks[:, :2] - framed.landmarks[:, :2], axis=1)
    assert off.mean() < 0.01 * framed.face.height
    assert framed.scale == pytest.approx(framed.face.height / own.height, rel=0.01)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_finer_luma_is_the_picture_with_more_detail(photo, face, analyzer, scale):
    tight = crop(photo, face, 0.3, 0.4, 0.3, 0.2)
    for rgb, own in ((photo, face), (tight, analyzer.analyze(tight)[0])):
        framed = frame_portrait(rgb, own, Canvas(320, 240))
        fine = framed.luma(scale)
        assert fine.shape == (240 * scale, 320 * scale)
        coarse = rgb_to_yuv(framed.rgb)[:, :, 0]
        means = fine.reshape(240, scale, 320, scale).mean((1, 3))
        assert np.abs(means - coarse).mean() < 0.5
        assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.999
        enlarged = cv2.resize(coarse, fine.shape[::-1], interpolation=cv2.INTER_CUBIC)
        left, top, right, bottom = (round(scale * v) for v in framed.face.box)
        inside = (slice(top, bottom), slice(left, right))
        assert fine[inside].std() > enlarged[inside].std()
        assert cv2.Laplacian(fine[inside], -1).var() > 2 * cv2.Laplacian(enlarged[inside], -1).var()


def test_inside_the_photo_the_picture_is_the_photo(photo, face):
    framed = frame_portrait(photo, face, Canvas(640, 480))
    size = (round(photo.shape[1] * framed.scale), round(photo.shape[0] * framed.scale))
    scaled = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    offset = face.landmarks[topology.NOSE_TIP, :2] * framed.scale
    x, y = np.round(offset - framed.landmarks[topology.NOSE_TIP, :2]).astype(int)
    part = scaled[y : y + 480, x : x + 640].astype(int)
    assert np.abs(part - framed.rgb).mean() < 1.0


def test_a_tight_photo_is_zoomed_before_it_is_extended(photo, face, analyzer):
    tight = crop(photo, face, 0.25, 0.45, 0.25, 0.3)
    (own,) = analyzer.analyze(tight)
    framed = frame_portrait(tight, own, Canvas(640, 480))
    assert framed.face.height / 480 > 0.5
    left, top, right, bottom = framed.extended
    assert left > 0
    assert right > 0
    assert top + bottom < 0.2 * 480


def test_made_up_borders_continue_the_photo_without_seams_or_streaks(photo, face, analyzer):
    tight = crop(photo, face, 0.25, 0.45, 0.25, 0.6)
    (own,) = analyzer.analyze(tight)
    framed = frame_portrait(tight, own, Canvas(640, 480))
    left = framed.extended[0]
    assert left > 20
    grey = framed.rgb.astype(float).mean(2)
    columns = np.abs(np.diff(grey[:300], axis=1)).mean(0)
    # No step where the photo ends, and nothing sharp beyond.
    assert columns[left - 3 : left + 3].max() < 2.0
    assert columns[: left - 3].max() < 2.0


def test_cut_hair_is_not_continued_upwards(photo, face, analyzer):
    cut = crop(photo, face, 0.6, 0.05, 0.6, 0.6)
    (own,) = analyzer.analyze(cut)
    framed = frame_portrait(cut, own, Canvas(640, 480))
    assert framed.extended[1] <= 0.03 * 480


def test_a_face_off_the_middle_and_one_larger_than_the_canvas(photo, face, analyzer):
    off = crop(photo, face, 0.2, 0.5, 1.2, 0.6)
    (own,) = analyzer.analyze(off)
    framed = frame_portrait(off, own, Canvas(640, 480))
    assert (framed.landmarks[:, 0] > 0).all()
    inside = crop(photo, face, -0.08, -0.12, -0.08, 0.0)
    (own,) = analyzer.analyze(inside)
    framed = frame_portrait(inside, own, Canvas(640, 480))
    assert framed.rgb.shape == (480, 640, 3)
    assert np.isfinite(framed.landmarks).all()


def test_the_matte_separates_person_from_wall(photo, face):
    framed = frame_portrait(photo, face, Canvas(640, 480))
    matte = framed.matte
    assert matte.shape == (480, 640)
    assert matte.dtype == np.float32
    assert matte.min() >= 0.0
    assert matte.max() <= 1.0
    assert matte[:50].max() < 0.05
    assert matte[:300, :120].max() < 0.05
    x0, y0, x1, y1 = (int(v) for v in framed.face.box)
    assert matte[y0 + 10 : y1, (x0 + x1) // 2].min() > 0.97
    assert matte[470, 250:390].min() > 0.95
    # The edge is a few pixels wide, not a haze.
    assert ((matte > 0.05) & (matte < 0.95)).mean() < 0.06


def test_a_second_person_far_away_is_background(photo, face, analyzer):
    scene = np.full((800, 1800, 3), (150, 160, 160), np.uint8)
    scene[:800, :800] = cv2.resize(photo, (800, 800), interpolation=cv2.INTER_AREA)
    small = cv2.resize(photo, (250, 250), interpolation=cv2.INTER_AREA)
    scene[550:, 850:1100] = small
    own = analyzer.analyze(scene)[0]
    framed = frame_portrait(scene, own, Canvas(1280, 640))
    x = round((975 - 400) * framed.scale + float(framed.landmarks[topology.NOSE_TIP, 0]))
    assert framed.rgb[:, x].std() > 20
    assert framed.matte[:, x - 5 : x + 5].max() < 0.1


def test_framing_is_repeatable(photo, face):
    one, two = (frame_portrait(photo, face, Canvas(320, 240)) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.matte, two.matte)


@pytest.mark.evalkit
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (640, 640)])
def test_real_portraits_keep_their_face_whole(evalkit, analyzer, width, height):
    for path in sorted([*evalkit.glob("portraits/*"), *evalkit.glob("*/ref.jpg")]):
        rgb = load_photo(path)
        framed = frame_portrait(rgb, analyzer.analyze(rgb)[0], Canvas(width, height))
        assert 0.36 < framed.face.height / height < 0.70, path.name
        x0, y0, x1, y1 = framed.face.box
        assert x0 > 0.04 * width, path.name
        assert x1 < 0.96 * width, path.name
        assert y0 > 0.04 * height, path.name
        assert y1 < 0.97 * height, path.name
        assert framed.extended[3] <= 0.12 * height, path.name


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (640, 640)])
def test_a_photo_cut_to_its_framed_region_is_framed_alike(photo, face, width, height):
    canvas = Canvas(width, height)
    left, top, right, bottom = framed_region(photo, face, canvas)
    assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=1e-6)
    whole = frame_portrait(photo, face, canvas)
    x, y = max(0, int(left)), max(0, int(top))
    cut = np.ascontiguousarray(photo[y : int(bottom) + 1, x : int(right) + 1])
    moved = face.landmarks - np.array([x, y, 0], np.float32)
    a, b, c, d = face.box
    own = replace(face, landmarks=moved, box=(a - x, b - y, c - x, d - y))
    again = frame_portrait(cut, own, canvas)
    assert np.abs(again.landmarks[:, :2] - whole.landmarks[:, :2]).mean() < 3
    assert np.abs(again.rgb.astype(int) - whole.rgb).mean() < 4
