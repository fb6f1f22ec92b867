"""Measures of the eyes against the reference's numbers."""

from pathlib import Path

import numpy as np

from models.ditto.motion.eyes import gaze, openness

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "eyes.npz")


def test_the_measures_are_the_reference_ones():
    mesh = WANT["landmarks"]
    np.testing.assert_allclose(openness(mesh), WANT["eye_open"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(gaze(mesh), WANT["eye_ball"], rtol=0, atol=1e-5)


def test_a_mesh_without_extent_gives_zeros_not_nan():
    mesh = np.zeros((1, 478, 3), np.float32)
    assert not openness(mesh).any()
    assert not gaze(mesh).any()


def test_each_eye_is_measured_by_itself():
    mesh = WANT["landmarks"][:1].copy()
    mesh[:, 473] += (0.01, 0, 0)
    before, after = gaze(WANT["landmarks"][:1]), gaze(mesh)
    assert (before != after)[0].tolist() == [False, True] * 3
