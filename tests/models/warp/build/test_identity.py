from __future__ import annotations

import pickle
from itertools import product

import numpy as np

from models.engine import Canvas
from models.face import topology
from models.warp.build.anatomy import face_frame
from models.warp.build.head import HeadFields, head_coefficients
from models.warp.build.identity import REACH, build_identity
from models.warp.build.mouth.lips import find_lip_lines
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.render import render


def test_an_identity_says_its_canvas_and_its_size(identity) -> None:
    assert identity.canvas == Canvas(640, 480)
    assert 4e6 < identity.nbytes < 15e6


def test_an_identity_survives_pickling(identity, pose) -> None:
    again = pickle.loads(pickle.dumps(identity))
    (a,) = render([pose(aperture=0.2, yaw=2)])
    (b,) = render([pose(again, aperture=0.2, yaw=2)])
    assert np.array_equal(a, b)


def test_preparing_twice_gives_the_same_person(framed, pose) -> None:
    first, second = (build_identity(framed) for _ in range(2))
    (a,), (b,) = render([pose(first, jaw=0.5)]), render([pose(second, jaw=0.5)])
    assert np.array_equal(a, b)


def test_the_frame_of_the_face_goes_there_and_back(framed) -> None:
    frame = face_frame(framed.landmarks)
    points = framed.landmarks[:, :2].astype(np.float64)
    assert np.allclose(frame.to_pixels(frame.to_frame(points)), points)
    eyes = frame.to_frame(points[[33, 133, 263, 362]])
    assert np.isclose(np.hypot(*(eyes[2:].mean(0) - eyes[:2].mean(0))), 1.0)
    assert (eyes[:, 1] < -0.5).all()


def test_closed_lips_are_followed_along_the_dark_line(framed) -> None:
    """A painted dark line beside the mesh's guess is found."""
    frame = face_frame(framed.landmarks)
    height, width = framed.rgb.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    at = frame.to_frame(np.stack([columns, rows], -1).astype(np.float64))
    away = at[..., 1] - 0.03
    luma = 160 - 120 * np.exp(-((away / 0.012) ** 2))
    yuv = np.dstack([luma, np.full_like(luma, 128), np.full_like(luma, 128)]).astype(np.float32)
    lips = find_lip_lines(framed.landmarks, frame, yuv)
    assert lips.gap == 0
    middle = np.abs(lips.x) < 0.2
    assert np.abs(lips.upper[middle] - 0.03).max() < 0.01


def test_textures_reach_as_far_as_the_head_carries_eyes_and_lips(framed) -> None:
    """Else the border of a texture shows as a line beside the eye."""
    frame = face_frame(framed.landmarks)
    parts = [*topology.RIGHT_EYE_CORNERS, *topology.LEFT_EYE_CORNERS, topology.CHIN]
    fields = HeadFields(framed.landmarks, frame)(frame.to_frame(framed.landmarks[parts]))
    furthest = {"yaw": 6.0, "pitch": 6.0, "roll": 6.0, "sway_x": 0.08, "sway_y": 0.05}
    for signs in product((-1, 1), repeat=len(furthest)):
        motion = rest()
        for sign, (channel, value) in zip(signs, furthest.items(), strict=True):
            motion[INDEX[channel]] = sign * value
        _, weights = head_coefficients(motion)
        assert np.hypot(*(weights @ fields)).max() < REACH
