from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.face import topology
from models.i420 import rgb_to_yuv
from models.warp.build.anatomy import FaceFrame, face_frame
from models.warp.build.expression import ExpressionFields
from models.warp.build.mouth.lips import COMMISSURE, LipLines, find_lip_lines
from models.warp.motion.blend_shape import coefficients
from models.warp.motion.motion_vector import INDEX, rest


def moved(fields: np.ndarray, **channels: float) -> np.ndarray:
    """Displacements (2, m) of fields (shapes, 2, m) under a motion."""
    motion = rest()
    for name, value in channels.items():
        motion[INDEX[name]] = value
    weights = coefficients(motion)
    return np.tensordot(weights, fields, 1)


def narrowed(
    landmarks: np.ndarray, lips: LipLines, share: float
) -> tuple[FaceFrame, np.ndarray, LipLines]:
    """The face with a mouth of ``share`` of its width."""
    landmarks = landmarks.copy()
    frame = face_frame(landmarks)
    points = frame.to_frame(landmarks)
    mouth = [61, 291, *topology.LIPS_INNER_UPPER, *topology.LIPS_INNER_LOWER]
    points[mouth, 0] *= share
    landmarks[:, :2] = frame.to_pixels(points)
    return face_frame(landmarks), landmarks, replace(lips, x=lips.x * share)


@pytest.fixture(scope="module")
def lips(framed):
    return find_lip_lines(framed.landmarks, face_frame(framed.landmarks), rgb_to_yuv(framed.rgb))


@pytest.mark.parametrize("thinner", [0.0, 0.6])
def test_lips_thin_by_a_share_of_themselves(framed, lips, thinner) -> None:
    """Full or thin, a wide open mouth leaves a lip half of its thickness or more."""
    frame = face_frame(framed.landmarks)
    landmarks = framed.landmarks.copy()
    points = frame.to_frame(landmarks)
    for row in (topology.LIPS_OUTER_UPPER, topology.LIPS_OUTER_LOWER):
        inner = lips.closed_at(points[list(row), 0])
        points[list(row), 1] += thinner * (inner - points[list(row), 1])
    landmarks[:, :2] = frame.to_pixels(points)
    expression = ExpressionFields(landmarks, frame, lips, np.zeros_like(lips.x) + 0.04)
    middle = float(lips.closed_at(np.array(0.0)))
    for fields, outer in ((expression.upper, points[0]), (expression.lower, points[17])):
        at = np.array([[0.0, middle], outer])
        before = np.ptp(at[:, 1])
        wide = at + moved(fields(at), aperture=0.45, jaw=1.0).T
        assert 0.5 * before < np.ptp(wide[:, 1]) < before


def test_a_round_mouth_that_opens_wide_is_not_the_narrow_one_of_oo(framed, lips) -> None:
    frame = face_frame(framed.landmarks)
    expression = ExpressionFields(framed.landmarks, frame, lips, np.zeros_like(lips.x) + 0.04)
    corners = frame.to_frame(framed.landmarks)[[61, 291]]
    fields = expression.lower(corners)
    width = np.ptp(corners[:, 0])
    pursed, round_, plain = (
        np.ptp((corners + moved(fields, **motion).T)[:, 0]) / width
        for motion in (
            {"aperture": 0.05, "width": -0.8},
            {"aperture": 0.36, "width": -0.8},
            {"aperture": 0.36},
        )
    )
    assert pursed < 0.80
    assert pursed - 0.06 < round_ < plain - 0.06


@pytest.mark.parametrize("narrower", [1.0, 0.75])
def test_a_narrow_mouth_opens_less(framed, lips, narrower) -> None:
    """Or it would be a hole taller than wide."""
    frame, landmarks, lips = narrowed(framed.landmarks, lips, narrower)
    expression = ExpressionFields(landmarks, frame, lips, np.zeros_like(lips.x) + 0.04)
    middle = np.array([[0.0, float(lips.closed_at(np.array(0.0)))]])
    upper, lower = (
        moved(fields(middle), aperture=0.3)[1, 0] for fields in (expression.upper, expression.lower)
    )
    width = (frame.half_width_left + frame.half_width_right) / 0.8
    assert lower - upper == pytest.approx(0.3 * min(width, 1.0), abs=0.03)
    assert (narrower < 1.0) == (width < 1.0)


@pytest.mark.parametrize(("aperture", "angle"), [(0.25, 90.5), (0.40, 134.0)])
def test_an_open_mouth_has_round_corners(framed, lips, aperture, angle) -> None:
    """Seen from a corner, even the lips of a narrow mouth part at a wide angle, in degrees."""
    frame = face_frame(framed.landmarks)
    share = 0.66 / (frame.half_width_left + frame.half_width_right)
    frame, landmarks, lips = narrowed(framed.landmarks, lips, share)
    expression = ExpressionFields(landmarks, frame, lips, np.zeros_like(lips.x) + 0.04)
    x = np.linspace(COMMISSURE * lips.x[0], COMMISSURE * lips.x[-1], 801)
    at = np.stack([x, lips.closed_at(x)], -1)
    upper, lower = (
        at + moved(fields(at), aperture=aperture, jaw=2 * aperture).T
        for fields in (expression.upper, expression.lower)
    )
    apart = 0.0
    for corner, order in ((0, 1), (-1, -1)):
        for edge in (upper, lower):
            away = (edge - edge[corner])[::order]
            near = away[np.hypot(*away.T).searchsorted(0.04)]
            apart += np.degrees(np.arctan2(abs(near[1]), abs(near[0])))
    assert apart / 2 > angle
