"""Squares around landmarks against the reference's numbers."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from models.ditto.render.crop import (
    STAGE_A,
    STAGE_B,
    Framing,
    crop_square,
    eyes_and_mouth,
    network_picture,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "crop.npz")
NOTES = json.loads((FIXTURES / "crop.json").read_text())
STAGES = {"A224": STAGE_A, "B512": STAGE_B}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[:240, :320]
    waves = [np.sin(x / 17 + c) * np.cos(y / (23 + c) + 0.3) for c in range(3)]
    picture = np.trunc(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)
    assert zlib.crc32(picture.tobytes()) == NOTES["image_crc32"]
    return picture


@pytest.mark.parametrize("name", NOTES["cases"])
def test_the_matrices_are_the_reference_ones_to_the_bit(name):
    points = WANT[f"{name}.points"]
    np.testing.assert_array_equal(eyes_and_mouth(points), WANT[f"{name}.pt2"])
    for stage, framing in STAGES.items():
        crop = crop_square(points, framing)
        np.testing.assert_array_equal(crop.to_crop, WANT[f"{name}.{stage}.M_o2c"])
        # LAPACK's rounding is its own, so an inverse may differ in the last place.
        inverse = WANT[f"{name}.{stage}.M_c2o"]
        np.testing.assert_allclose(crop.to_picture, inverse, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("name", NOTES["cases"])
def test_the_pixels_are_the_reference_ones(name, picture):
    points = WANT[f"{name}.points"]
    for stage, framing in STAGES.items():
        cut = crop_square(points, framing).cut(picture)
        assert cut.shape == (framing.side, framing.side, 3)
        off = np.abs(cut[::16, ::16].astype(int) - WANT[f"{name}.{stage}.crop_sub16"])
        assert off.max() <= 2
        assert off.mean() < 0.3
    small = network_picture(cut)
    assert small.shape == (1, 3, 256, 256)
    off = np.abs(small[:, :, ::16, ::16] - WANT[f"{name}.image256_sub8"]) * 255
    assert off.max() <= 2
    assert off.mean() < 0.3


def test_a_face_turned_in_the_picture_gives_the_same_crop():
    """What the crop is for: pictures turned by any angle come out upright."""
    points = WANT["p203_rot17.points"]
    turn = np.deg2rad(40)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = ((points - 150) @ matrix.T + 150).astype(np.float32)

    def placed(p):
        return np.c_[p, np.ones(len(p))] @ crop_square(p, STAGE_B).to_crop.T

    np.testing.assert_allclose(placed(points), placed(turned), atol=0.02)


def test_the_axis_may_be_given_for_any_landmarks():
    points = WANT["p106_rot0.points"]
    given = crop_square(points, STAGE_A, axis=eyes_and_mouth(points))
    np.testing.assert_array_equal(given.to_crop, crop_square(points, STAGE_A).to_crop)
    with pytest.raises(ValueError, match="203 or 106 points, not 5"):
        crop_square(points[:5], STAGE_A)


def test_a_face_without_an_axis_is_taken_as_upright():
    points = np.array([[10, 10], [30, 50]], np.float32)
    crop = crop_square(points, Framing(100, 2.0, 0.0), axis=np.full((2, 2), 20))
    np.testing.assert_allclose(crop.to_crop, [[1.25, 0, 25], [0, 1.25, 12.5], [0, 0, 1]])
