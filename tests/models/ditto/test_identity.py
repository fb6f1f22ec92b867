"""A photo's face: the square around it, and what is remembered of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ditto.identity import BOX_POINTS, build_identity, face_crop, in_crop
from models.ditto.motion.key_points import POINTS
from models.ditto.render.crop import STAGE_B, crop_square
from models.engine import Canvas
from models.face import default_analyzer, frame_portrait, load_photo, topology
from portraits import ANNA
from tests.fakes.ditto_files import tiny_networks


@pytest.fixture(scope="module")
def framed():
    rgb = load_photo(ANNA.path)
    return frame_portrait(rgb, default_analyzer().analyze(rgb)[0], Canvas(320, 240))


@pytest.fixture(scope="module")
def networks():
    return tiny_networks()


@pytest.fixture(scope="module")
def identity(framed, networks):
    return build_identity(framed, networks)


def test_the_square_is_as_the_released_pipeline_s_rule_makes_it(framed):
    """The box of brows, jaw and ears, 2.3 times as large, an eighth of that up."""
    mesh = framed.landmarks
    crop = face_crop(mesh)
    points = mesh[list(BOX_POINTS), :2]
    eyes = np.stack([mesh[[33, 159, 133, 145], :2].mean(0), mesh[[263, 386, 362, 374], :2].mean(0)])
    down = mesh[[61, 291], :2].mean(0) - eyes.mean(0)
    down /= np.linalg.norm(down)
    axes = np.stack([[down[1], -down[0]], down])
    extent = np.ptp(points @ axes.T, axis=0)
    side = 512 / np.hypot(*crop.to_crop[:2, 0])
    assert side == pytest.approx(2.3 * extent.max(), rel=1e-4)
    low, high = (points @ axes.T).min(0), (points @ axes.T).max(0)
    centre = (low + high) / 2 + [0, -0.125 * side]
    middle = crop.to_crop[:2, :2] @ (centre @ axes) + crop.to_crop[:2, 2]
    np.testing.assert_allclose(middle, [256, 256], atol=0.05)


def test_the_forehead_is_not_in_the_box(framed):
    assert topology.FOREHEAD_TOP not in BOX_POINTS
    assert topology.CHIN in BOX_POINTS
    with_it = crop_square(
        framed.landmarks[:, :2].astype(np.float32),
        STAGE_B,
        np.array([[0, 0], [0, 1]], np.float32),
    )
    ours = face_crop(framed.landmarks)
    assert np.hypot(*with_it.to_crop[:2, 0]) < 0.95 * np.hypot(*ours.to_crop[:2, 0])


def test_the_square_turns_with_the_head(framed):
    mesh = framed.landmarks.copy()
    turn = np.deg2rad(20)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    upright, leaning = face_crop(mesh), None
    mesh[:, :2] = (mesh[:, :2] - [160, 120]) @ spin.T + [160, 120]
    leaning = face_crop(mesh)
    angles = [np.arctan2(c.to_picture[1, 0], c.to_picture[0, 0]) for c in (upright, leaning)]
    assert angles[1] - angles[0] == pytest.approx(turn, abs=1e-4)
    # In its own square the face is where it was.
    a, b = in_crop(framed.landmarks, upright), in_crop(mesh, leaning)
    np.testing.assert_allclose(a[0, :, :2], b[0, :, :2], atol=2e-3)


def test_the_face_lies_in_the_square_as_the_networks_know_it(framed):
    seen = in_crop(framed.landmarks, face_crop(framed.landmarks))[0]
    eyes, mouth = seen[[33, 133, 263, 362], :2].mean(0), seen[[61, 291], :2].mean(0)
    assert eyes[0] == pytest.approx(0.5, abs=0.05)
    assert 0.40 < eyes[1] < 0.55
    assert 0.60 < mouth[1] < 0.75
    assert 0.15 < np.ptp(seen[[33, 263], 0]) < 0.35


def test_an_identity_remembers_the_photo(framed, networks, identity):
    sizes = networks.sizes
    side = sizes.image // 4
    assert identity.canvas == Canvas(320, 240)
    assert identity.volume.shape == (sizes.channels, sizes.depth, side, side)
    assert identity.points.shape == (POINTS, 3)
    assert identity.reference.shape == (265,)
    torch.testing.assert_close(identity.points[None], identity.source.points)
    condition = identity.condition
    assert condition.rows(torch.zeros(3, 1024), 0).shape == (3, 1103)
    assert (condition.eye_open > 0.3).all(), "open eyes: three gaps over the width"
    assert condition.eye_ball.abs().max() < 0.05
    left, top, right, bottom = identity.placement.box
    mouth = framed.landmarks[13]
    assert left < mouth[0] < right
    assert top < mouth[1] < bottom


def test_the_volume_takes_the_dtype_asked_for(framed, networks, identity):
    half = build_identity(framed, networks, dtype=torch.bfloat16)
    assert half.volume.dtype == torch.bfloat16
    assert half.points.dtype == torch.float32
    assert identity.nbytes - half.nbytes == identity.volume.numel() * 2


def test_its_size_is_that_of_volume_and_picture(identity):
    volume = identity.volume.numel() * 4
    picture = 320 * 240 * 3 * 4 + 320 * 240 * 3 // 2
    assert volume + picture <= identity.nbytes <= volume + picture + 8000


def test_another_layout_of_landmarks_is_refused(framed, networks):
    face = replace(framed.face, landmarks=framed.landmarks[:106, :2])
    with pytest.raises(ValueError, match="mesh of 478"):
        build_identity(replace(framed, face=face), networks)
