"""The people who come with the product pass what every photo has to pass, and can talk."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from models.engine import Canvas
from models.face import default_analyzer, frame_portrait, inspect_portrait, load_photo
from models.face.topology import LIPS_INNER_LOWER, LIPS_INNER_UPPER
from models.i420 import i420_to_rgb
from models.warp.engine import WarpEngine
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.pose import WarpPose
from portraits import PEOPLE

everybody = pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)


@pytest.fixture(scope="module")
def engine() -> WarpEngine:
    return WarpEngine()


def test_their_names_make_ids():
    ids = [person.path.stem for person in PEOPLE]
    assert ids == ["anna", "mark", "rosa", "sam"]
    assert all(re.fullmatch("[a-z]+", name) for name in ids)
    assert all(person.tags for person in PEOPLE)


@everybody
def test_the_picture_is_a_square_jpeg_of_a_modest_size(person):
    with Image.open(person.path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (1280, 1280))
    assert person.path.stat().st_size < 340_000


@everybody
def test_the_portrait_passes_every_check_without_a_warning(person):
    portrait = inspect_portrait(load_photo(person.path), default_analyzer())
    assert portrait.warnings == ()
    assert abs(portrait.face.pose.yaw) < 5


@everybody
@pytest.mark.parametrize("size", [(320, 240), (240, 320), (256, 256)], ids=str)
def test_hardly_anything_of_the_frame_is_made_up(person, size):
    """The picture has head, shoulders and background enough for every aspect ratio."""
    photo = load_photo(person.path)
    face = default_analyzer().analyze(photo)[0]
    assert max(frame_portrait(photo, face, Canvas(*size)).extended) <= 0.01 * max(size)


@everybody
def test_a_closed_mouth_is_the_photos_own(person, engine):
    """Lips that meet stay as they are: no line drawn between them, no spots at the corners."""
    photo, canvas = load_photo(person.path), Canvas(640, 480)
    framed = frame_portrait(photo, default_analyzer().analyze(photo)[0], canvas)
    (frame,) = engine.render([WarpPose(engine.prepare(photo, canvas), rest())])
    lips = framed.landmarks[[61, 291, 0, 17], :2]
    (left, top), (right, bottom) = lips.min(0).astype(int) - 8, lips.max(0).astype(int) + 8
    shown = i420_to_rgb(frame)[top:bottom, left:right].astype(int)
    change = np.abs(shown - framed.rgb[top:bottom, left:right]).mean(-1)
    assert np.percentile(change, 99) < 16


@everybody
def test_the_mouth_opens(person, engine):
    identity = engine.prepare(load_photo(person.path), Canvas(320, 240))
    motion = rest()
    motion[INDEX["aperture"]], motion[INDEX["jaw"]] = 0.25, 0.6
    gaps = []
    for pose in (WarpPose(identity, rest()), WarpPose(identity, motion)):
        (frame,) = engine.render([pose])
        (face,) = default_analyzer().analyze(i420_to_rgb(frame))
        middle = len(LIPS_INNER_UPPER) // 2
        lips = face.landmarks[[LIPS_INNER_UPPER[middle], LIPS_INNER_LOWER[middle]], :2]
        gaps.append(float(np.linalg.norm(lips[0] - lips[1]) / face.height))
    closed, opened = gaps
    assert closed < 0.02
    assert opened > closed + 0.03
