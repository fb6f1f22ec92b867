from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.face import HeadPose, lift, topology
from models.face.pose import angles, fit_pose, head_pose, rotation_of


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (35, 10, 5), (-30, 20, -15)])
def test_angles_undo_rotation_of(yaw, pitch, roll):
    pose = angles(rotation_of(HeadPose(yaw, pitch, roll)))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((yaw, pitch, roll), abs=1e-9)


def test_signs_are_those_of_head_pose():
    forward, right = (0, 0, -1), (1, 0, 0)
    assert (rotation_of(HeadPose(20, 0, 0)) @ forward)[0] > 0.3  # nose to the picture's right
    assert (rotation_of(HeadPose(0, 20, 0)) @ forward)[1] > 0.3  # nose down
    assert (rotation_of(HeadPose(0, 0, 20)) @ right)[1] > 0.3  # clockwise as seen


def test_the_portrait_looks_straight_ahead(face):
    assert abs(face.pose.yaw) < 4
    assert abs(face.pose.pitch) < 8
    assert abs(face.pose.roll) < 2


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(25, 0, 0), (0, -18, 0), (-15, 12, 20)])
def test_a_head_turned_in_space_reads_its_turn(face, yaw, pitch, roll):
    lifted = lift(face)
    turn = rotation_of(HeadPose(yaw, pitch, roll)) @ lifted.rotation.T
    points = (lifted.points - lifted.pivot) @ turn.T + lifted.pivot
    pose = head_pose(points)
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((yaw, pitch, roll), abs=1.0)


def test_lifted_points_keep_the_picture_and_turn_between_the_ears(face):
    lifted = lift(face)
    assert np.allclose(lifted.points[:, :2], face.landmarks[:, :2])
    ears = lifted.points[[topology.EAR_RIGHT, topology.EAR_LEFT]]
    width = ears[1, 0] - ears[0, 0]
    assert abs(lifted.pivot[0] - ears[:, 0].mean()) < 0.05 * width
    assert lifted.points[topology.NOSE_TIP, 2] < -0.25 * width
    assert lifted.scale == pytest.approx(width / 15.3, rel=0.12)


@pytest.mark.parametrize("error", [0.92, 1.08])
def test_a_depth_of_the_wrong_scale_is_corrected(face, error):
    truth = lift(face)
    wrong = replace(face, landmarks=face.landmarks * np.array([1, 1, error], np.float32))
    depth, expected = (np.ptp(one.points[:468, 2]) for one in (lift(wrong), truth))
    assert depth == pytest.approx(expected, rel=0.03)


def test_an_open_mouth_does_not_read_as_a_nod(face):
    points = face.landmarks.copy()
    below = points[:, 1] > points[topology.LIP_LOWER_INNER_MIDDLE, 1]
    points[below, 1] += 0.08 * face.height
    assert head_pose(points).pitch == pytest.approx(face.pose.pitch, abs=1.0)


def test_the_fit_ignores_scale_and_place(face):
    fit = fit_pose(face.landmarks)
    moved = fit_pose(face.landmarks * 3 + (10, 20, 30))
    assert moved.scale == pytest.approx(3 * fit.scale)
    assert moved.residual == pytest.approx(fit.residual)
    assert fit.residual < 0.9


def test_flat_landmarks_cannot_be_lifted(face):
    flat = replace(face, layout="points106", landmarks=np.zeros((106, 2), np.float32))
    with pytest.raises(ValueError, match="points106"):
        lift(flat)
