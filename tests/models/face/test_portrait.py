from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from models.face import Face, HeadPose, PortraitError, inspect_portrait, load_photo, topology
from models.face.evidence import sharpness


@dataclass
class Says:
    """An analyser that answers what it is told."""

    faces: list[Face]

    def analyze(self, rgb: np.ndarray) -> list[Face]:
        return self.faces


def refusal(rgb: np.ndarray, analyzer) -> PortraitError:
    with pytest.raises(PortraitError) as caught:
        inspect_portrait(rgb, analyzer)
    return caught.value


def codes(rgb: np.ndarray, analyzer) -> list[str]:
    return [warning.code for warning in inspect_portrait(rgb, analyzer).warnings]


def resized(face: Face, factor: float, score: float | None = None) -> Face:
    left, top, right, bottom = face.box
    x, y = (left + right) / 2, (top + bottom) / 2
    w, h = (right - left) * factor / 2, (bottom - top) * factor / 2
    box = (x - w, y - h, x + w, y + h)
    return replace(face, box=box, score=face.score if score is None else score)


def covered(photo: np.ndarray, centre, width: float, height: float, colour) -> np.ndarray:
    picture = photo.copy()
    middle = tuple(int(v) for v in centre)
    cv2.ellipse(picture, middle, (int(width), int(height)), 0, 0, 360, colour, -1)
    return picture


def test_a_good_portrait_passes_without_warnings(photo, analyzer, face):
    portrait = inspect_portrait(photo, analyzer)
    assert portrait.warnings == ()
    assert portrait.face.box == face.box


def test_no_face(analyzer):
    error = refusal(np.full((400, 400, 3), 90, np.uint8), analyzer)
    assert error.code == "NO_FACE"
    assert error.message == "No face detected"
    assert error.remedy in str(error)


def test_two_people(photo, analyzer):
    half = cv2.resize(photo, (640, 640), interpolation=cv2.INTER_AREA)
    error = refusal(np.hstack([half, half]), analyzer)
    assert error.code == "MULTIPLE_FACES"
    assert "2 of similar size" in error.message


@pytest.mark.parametrize(
    ("share", "score", "counts"),
    [(0.31, 0.61, True), (0.29, 0.61, False), (0.31, 0.59, False), (0.9, 0.99, True)],
)
def test_when_a_second_face_counts(photo, face, share, score, counts):
    says = Says([face, resized(face, share**0.5, score)])
    if counts:
        assert refusal(photo, says).code == "MULTIPLE_FACES"
    else:
        inspect_portrait(photo, says)


@pytest.mark.parametrize(
    ("scene_side", "photo_height", "why"),
    [(1300, 500, "of the shorter side"), (300, 200, "pixels high")],
)
def test_a_small_face_is_refused_with_its_size(photo, analyzer, scene_side, photo_height, why):
    # First too small a share of the scene, then large enough a share but too few pixels.
    scene = np.full((scene_side, scene_side, 3), 120, np.uint8)
    size = (photo_height, photo_height)
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    scene[:photo_height, : size[0]] = small[:, :scene_side]
    error = refusal(scene, analyzer)
    assert error.code == "FACE_TOO_SMALL"
    assert why in error.message


@pytest.mark.parametrize(
    ("pose", "allowed"),
    [
        (HeadPose(40, 0, 0), True),
        (HeadPose(-41, 0, 0), False),
        (HeadPose(0, 30, 0), True),
        (HeadPose(0, -31, 0), False),
        (HeadPose(0, 0, 45), True),
        (HeadPose(0, 0, -80), False),
    ],
)
def test_how_far_a_face_may_turn(photo, face, pose, allowed):
    says = Says([replace(face, pose=pose)])
    if allowed:
        inspect_portrait(photo, says)
    else:
        error = refusal(photo, says)
        assert error.code == "FACE_NOT_FRONTAL"
        assert f"{max(abs(pose.yaw), abs(pose.pitch), abs(pose.roll)):.0f} " in error.message


def test_blur_is_refused_and_softness_mentioned(photo, face, analyzer):
    blurred = cv2.GaussianBlur(photo, (0, 0), 0.035 * face.height)
    assert refusal(blurred, analyzer).code == "FACE_BLURRED"
    soft = cv2.GaussianBlur(photo, (0, 0), 0.024 * face.height)
    assert "FACE_SOFT" in codes(soft, analyzer)


def test_sharpness_does_not_depend_on_size_or_light(photo, face):
    plain = sharpness(photo, face)
    half = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    box = tuple(v / 2 for v in face.box)
    assert sharpness(half, replace(face, box=box)) == pytest.approx(plain, rel=0.1)
    dark = (photo * 0.4).astype(np.uint8)
    assert sharpness(dark, face) == pytest.approx(plain, rel=0.1)


def test_a_covered_mouth_is_mentioned(photo, face, analyzer):
    mouth = face.landmarks[[13, 14], :2].mean(0)
    masked = covered(photo, mouth, 0.30 * face.height, 0.22 * face.height, (120, 160, 180))
    assert codes(masked, analyzer) == ["MOUTH_HIDDEN"]


def test_dark_glasses_are_mentioned(photo, face, analyzer):
    picture = photo
    for iris in (topology.RIGHT_IRIS[0], topology.LEFT_IRIS[0]):
        at = face.landmarks[iris, :2]
        picture = covered(picture, at, 0.155 * face.height, 0.105 * face.height, (18, 18, 20))
    assert codes(picture, analyzer) == ["EYES_HIDDEN", "EYES_HIDDEN"]


def test_an_open_mouth_and_a_closed_eye_are_mentioned(photo, face):
    points = face.landmarks.copy()
    points[topology.LIP_LOWER_INNER_MIDDLE, 1] += 0.06 * face.height
    points[list(topology.LEFT_EYE_UPPER)] = points[list(topology.LEFT_EYE_LOWER)]
    found = inspect_portrait(photo, Says([replace(face, landmarks=points)])).warnings
    assert [w.code for w in found] == ["MOUTH_OPEN", "EYES_CLOSED"]
    assert "left eye" in found[1].message


def test_a_face_cut_by_the_edge_is_mentioned(photo, face, analyzer):
    cut = np.ascontiguousarray(photo[int(face.box[1]) + 30 :])
    assert "FACE_CUT" in codes(cut, analyzer)


def test_backends_without_a_mesh_are_judged_too(photo, face):
    points = replace(
        face,
        layout="points106",
        landmarks=face.landmarks[:106, :2].copy(),
        spread=None,
    )
    assert codes(photo, Says([points])) == []


@pytest.mark.evalkit
def test_photos_paintings_and_characters_are_accepted(evalkit, analyzer):
    for path in sorted([*evalkit.glob("portraits/*"), *evalkit.glob("*/ref.jpg")]):
        found = codes(load_photo(path), analyzer)
        assert set(found) <= {"MOUTH_OPEN"}, path.name


@pytest.mark.evalkit
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("animal_cat.jpg", "NO_FACE"),
        ("animal_dog.png", "NO_FACE"),
        ("no_face_landscape.jpg", "NO_FACE"),
        ("tiny_face.jpg", "FACE_TOO_SMALL"),
        ("two_faces.jpg", "MULTIPLE_FACES"),
    ],
)
def test_unfit_photos_are_refused(evalkit, analyzer, name, code):
    assert refusal(load_photo(evalkit / "rejects" / name), analyzer).code == code
