from __future__ import annotations

import numpy as np
import pytest

from models.face import topology

GROUPS = {
    name: value
    for name, value in vars(topology).items()
    if name.isupper() and isinstance(value, tuple)
}
UPPER_LOWER = [
    ("LIPS_OUTER_UPPER", "LIPS_OUTER_LOWER"),
    ("LIPS_MIDDLE_UPPER", "LIPS_MIDDLE_LOWER"),
    ("LIPS_INNER_UPPER", "LIPS_INNER_LOWER"),
    ("RIGHT_EYE_UPPER", "RIGHT_EYE_LOWER"),
    ("LEFT_EYE_UPPER", "LEFT_EYE_LOWER"),
    ("RIGHT_BROW_UPPER", "RIGHT_BROW_LOWER"),
    ("LEFT_BROW_UPPER", "LEFT_BROW_LOWER"),
]


@pytest.mark.parametrize("name", GROUPS)
def test_indices_are_of_the_mesh_and_unique(name):
    group = GROUPS[name]
    assert len(set(group)) == len(group)
    assert all(0 <= index < topology.LANDMARKS for index in group)


@pytest.mark.parametrize(("upper", "lower"), UPPER_LOWER)
def test_upper_rows_lie_over_lower_rows_point_by_point(face, upper, lower):
    above, below = (face.landmarks[list(GROUPS[name])] for name in (upper, lower))
    assert above.shape == below.shape
    inner = slice(None) if "BROW" in upper else slice(1, -1)
    assert (above[inner, 1] < below[inner, 1] + 1.0).all()
    # Opposite points are above each other, to a tenth of the row's width.
    width = np.ptp(above[:, 0])
    assert np.abs(above[:, 0] - below[:, 0]).max() < 0.12 * width


@pytest.mark.parametrize("name", [n for n in GROUPS if n.startswith("LIPS_")])
def test_lips_run_from_the_persons_right_to_the_left(face, name):
    assert (np.diff(face.landmarks[list(GROUPS[name]), 0]) > 0).all()


@pytest.mark.parametrize("part", ["EYE_UPPER", "EYE_LOWER", "BROW_UPPER", "BROW_LOWER", "EYE_BAND"])
def test_left_groups_mirror_right_ones(face, part):
    right = face.landmarks[list(GROUPS[f"RIGHT_{part}"])]
    left = face.landmarks[list(GROUPS[f"LEFT_{part}"])]
    middle = face.landmarks[list(topology.NOSE_BRIDGE), 0].mean()
    assert (right[:, 0] < middle).all()
    assert np.abs((right[:, 0] + left[:, 0]) / 2 - middle).max() < 0.04 * face.height
    assert np.abs(right[:, 1] - left[:, 1]).max() < 0.04 * face.height


def test_irises_lie_between_the_lids_and_their_edges_around_them(face):
    for side in ("RIGHT", "LEFT"):
        centre, right, top, left, bottom = face.landmarks[list(GROUPS[f"{side}_IRIS"]), :2]
        assert right[0] > centre[0] > left[0]
        assert top[1] < centre[1] < bottom[1]
        corners = np.sort(face.landmarks[list(GROUPS[f"{side}_EYE_CORNERS"]), 0])
        assert corners[0] < centre[0] < corners[1]


def test_the_oval_encloses_every_landmark(face):
    oval = face.landmarks[list(topology.FACE_OVAL), :2]
    low, high = oval.min(0), oval.max(0)
    points = face.landmarks[:468, :2]
    assert (points >= low - 2).all()
    assert (points <= high + 2).all()
    assert oval[:, 1].argmin() == topology.FACE_OVAL.index(topology.FOREHEAD_TOP)
    assert topology.FACE_OVAL[int(oval[:, 1].argmax())] == topology.CHIN
