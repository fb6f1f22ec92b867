from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from models.face import topology


def turned(rgb: np.ndarray, degrees: float, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The photo turned clockwise about its middle, and the matrix that did it."""
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, zoom)
    picture = cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return picture, matrix


def test_landmarks_lie_where_the_model_s_features_are(face):
    """Where the camera of scripts/sample_portraits sees the eyes, nose and mouth of Mark's mesh."""
    points = face.landmarks[:, :2]
    for index, x, y in (
        (topology.RIGHT_IRIS[0], 565, 516),
        (topology.LEFT_IRIS[0], 715, 515),
        (topology.NOSE_TIP, 640, 621),
        (topology.MOUTH_CORNER_RIGHT, 570, 675),
        (topology.MOUTH_CORNER_LEFT, 709, 677),
    ):
        assert np.linalg.norm(points[index] - (x, y)) < 0.02 * face.height, index
    assert face.score > 0.8
    assert face.landmarks.shape == (topology.LANDMARKS, 3)
    assert face.landmarks.dtype == np.float32
    assert face.landmarks[topology.NOSE_TIP, 2] < face.landmarks[topology.EAR_LEFT, 2]


def test_a_face_plainly_seen_is_steady(face):
    assert face.spread.shape == (topology.LANDMARKS,)
    assert face.spread.mean() < 0.006


@pytest.mark.parametrize(("degrees", "zoom"), [(25, 1.0), (-40, 0.8), (5, 0.5)])
def test_landmarks_follow_the_photo(photo, face, analyzer, degrees, zoom):
    picture, matrix = turned(photo, degrees, zoom)
    (again,) = analyzer.analyze(picture)
    expected = face.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    off = np.linalg.norm(again.landmarks[:, :2] - expected, axis=1) / (face.height * zoom)
    assert off.mean() < 0.008
    assert again.pose.roll == pytest.approx(face.pose.roll + degrees, abs=2)
    assert again.pose.yaw == pytest.approx(face.pose.yaw, abs=3)


def test_a_mirrored_photo_gives_mirrored_landmarks(photo, face, analyzer):
    (again,) = analyzer.analyze(np.ascontiguousarray(photo[:, ::-1]))
    right = list(topology.RIGHT_EYE_BAND + topology.RIGHT_IRIS[:1])
    left = list(topology.LEFT_EYE_BAND + topology.LEFT_IRIS[:1])
    expected = face.landmarks[right, :2] * (-1, 1) + (photo.shape[1], 0)
    off = np.linalg.norm(again.landmarks[left, :2] - expected, axis=1) / face.height
    assert off.mean() < 0.012


def test_a_small_face_in_a_big_photo_and_all_of_several_are_found(photo, analyzer):
    scene = np.full((1400, 2200, 3), 128, np.uint8)
    small = cv2.resize(photo, (180, 150), interpolation=cv2.INTER_AREA)
    large = cv2.resize(photo, (720, 600), interpolation=cv2.INTER_AREA)
    scene[1200:1350, 1900:2080] = small
    scene[300:900, 200:920] = large
    faces = analyzer.analyze(scene)
    assert len(faces) == 2
    assert faces[0].height > faces[1].height
    assert faces[0].box[0] > 200
    assert faces[0].box[2] < 920
    assert faces[1].box[0] > 1900
    assert faces[1].box[1] > 1200


def test_no_face_in_noise_or_flat_colour(analyzer):
    noise = np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    assert analyzer.analyze(noise) == []
    assert analyzer.analyze(np.full((300, 300, 3), 200, np.uint8)) == []


def test_threads_may_share_the_analyzer(photo, face, analyzer):
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    other = np.zeros_like(small)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(analyzer.analyze, [small, other] * 4))
    (first,) = results[0]
    for i, faces in enumerate(results):
        if i % 2:
            assert faces == []
        else:
            assert np.array_equal(faces[0].landmarks, first.landmarks)


@pytest.mark.parametrize("bad", [np.zeros((300, 300)), np.zeros((300, 300, 4), np.uint8)])
def test_other_arrays_are_refused_by_shape(analyzer, bad):
    with pytest.raises(ValueError, match="uint8 RGB"):
        analyzer.analyze(bad)


def test_the_callers_photo_is_not_changed(photo, analyzer):
    mine = photo[200:900, 400:1100].copy()
    before = mine.copy()
    analyzer.analyze(mine)
    assert np.array_equal(mine, before)
