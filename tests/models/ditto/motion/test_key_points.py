"""Motion to key points against the reference's numbers, and what each gain may touch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ditto.motion.key_points import (
    BROWS_AND_CHEEKS,
    EYES,
    LIPS,
    Retargeting,
    Source,
    degrees,
    hold_gaze,
    look,
    released_points,
    retarget,
    rotation,
)
from models.ditto.motion.motion_windows import ROLL, YAW, motion_row
from models.ditto.networks.motion_extractor import Motion
from tests.fakes.ditto_motion import seeded_motion
from tests.fakes.parity_rules import pipeline_normal

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "keypoints.npz")
NOTES = json.loads((FIXTURES / "keypoints.json").read_text())
FRAMES = 6


SOURCE = Source.of(seeded_motion("src"))
ROWS = torch.cat([motion_row(seeded_motion(f"drv{i}")) for i in range(FRAMES)])
ZERO = motion_row(seeded_motion("d0"))[0]
GAIN = Retargeting(gain=float(seeded_motion("ref").scale / SOURCE.motion.scale))
INDEX = torch.arange(FRAMES)
TEMPLATE = torch.from_numpy(np.float32(0.02) * pipeline_normal("delta_eye", (15, 63)))
CASES = {
    "A_shipped": {
        "zero": ZERO,
        "how": GAIN,
        "eyes": TEMPLATE[NOTES["cases"]["A_shipped"]["blink_row_per_frame"]],
        "delta": (2, None, None),
    },
    "B_no_blink_template": {"zero": ZERO},
    "C_first_frame_is_d0": {"zero": None, "how": GAIN},
    "D_controls": {
        "zero": ZERO,
        "delta": (2, -3.5, 1.25),
        "alpha": (None, 0.5, None),
        "vad": 0.25 * INDEX,
    },
    "E_fade_s": {"zero": ZERO, "fade_share": INDEX / 5},
    "F_fade_d0_type": {"zero": ZERO, "fade_share": 1 - INDEX / 5, "fade_to": "first"},
    "G_absolute": {"zero": ZERO, "how": Retargeting(relative=False)},
}


@pytest.mark.parametrize("name", CASES)
def test_the_points_are_the_reference_ones(name):
    face, points = released_points(SOURCE, ROWS, **CASES[name])
    got_source = SOURCE.points
    stitched = 0.95 * points + 0.05 * got_source  # stands for the stitching network
    for got, key, limit in (
        (got_source, "x_s", 2e-5),
        (points, "x_d_before_stitch", 2e-5),
        (stitched, "x_d", 2e-5),
        (face.expression, "exp_final", 2e-5),
        (face.angles, "degrees_pitch_yaw_roll", 1e-3),
    ):
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.numpy(), WANT[f"{name}.{key}"], rtol=0, atol=limit)


def test_the_gain_is_the_reference_one():
    want = NOTES["cases"]["A_shipped"]["scale_ratio"]
    assert GAIN.gain == pytest.approx(want, rel=1e-6)


def test_the_rotation_is_the_reference_one():
    got = rotation(torch.tensor([10.0, -20.0, 5.0]))
    want = WANT["rotation_pitch10_yaw-20_roll5"]
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-6)


def test_angles_are_the_bins_expectation():
    logits = torch.full((1, 66), -50.0)
    logits[0, 40] = 50
    assert degrees(logits).item() == pytest.approx(3 * 40 - 97.5)
    assert degrees(torch.zeros(66)).item() == pytest.approx(0, abs=1e-4)
    assert SOURCE.face.angles[0, 0].item() == pytest.approx(NOTES["src_pitch_deg"], abs=1e-3)


def test_persons_in_a_batch_each_keep_their_own_face():
    """Sources may be stacked: one per frame."""
    photos = [seeded_motion(name) for name in ("src", "ref", "d0")]
    stacked = Source.of(Motion(*(torch.cat(parts) for parts in zip(*photos, strict=True))))
    together = stacked.place(retarget(stacked, ROWS[:3], ZERO))
    for i, photo in enumerate(photos):
        source = Source.of(photo)
        alone = source.place(retarget(source, ROWS[i : i + 1], ZERO))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def changed(a: torch.Tensor, b: torch.Tensor) -> set[int]:
    """Key points at which two expressions differ."""
    return set(((a - b).abs().reshape(-1, 21, 3).amax((0, 2)) > 1e-6).nonzero()[:, 0].tolist())


def test_each_gain_moves_its_points_only():
    still = retarget(SOURCE, ZERO.expand(FRAMES, -1), ZERO)
    torch.testing.assert_close(still.expression, SOURCE.motion.exp.expand(FRAMES, -1))
    moved = retarget(SOURCE, ROWS, ZERO)
    assert changed(moved.expression, still.expression) == {*LIPS, *EYES}
    browed = retarget(SOURCE, ROWS, ZERO, Retargeting(brow_gain=0.5))
    assert changed(browed.expression, moved.expression) == set(BROWS_AND_CHEEKS)
    quiet = retarget(SOURCE, ROWS, ZERO, mouth=torch.zeros(FRAMES))
    assert changed(quiet.expression, moved.expression) == set(LIPS)
    assert changed(quiet.expression, still.expression) == set(EYES)
    assert set(LIPS) | set(EYES) | set(BROWS_AND_CHEEKS) == set(range(21))


def test_the_head_gain_scales_the_turn():
    full = retarget(SOURCE, ROWS, ZERO)
    half = retarget(SOURCE, ROWS, ZERO, Retargeting(head_gain=0.5))
    none = retarget(SOURCE, ROWS, ZERO, Retargeting(head_gain=0))
    own = SOURCE.face
    torch.testing.assert_close(half.angles - own.angles, (full.angles - own.angles) / 2)
    torch.testing.assert_close(none.angles, own.angles.expand(FRAMES, -1))
    torch.testing.assert_close(none.shift, own.shift.expand(FRAMES, -1))


def test_a_factor_without_a_delta_scales_the_logits():
    face = retarget(SOURCE, ROWS, ZERO, alpha=(None, 0.5, torch.full((FRAMES,), 0.25)))
    plain = retarget(SOURCE, ROWS, ZERO)
    for i, (channels, own, factor) in enumerate(
        ((YAW, SOURCE.motion.yaw, 0.5), (ROLL, SOURCE.motion.roll, 0.25)), start=1
    ):
        logits = own + ROWS[:, channels] - ZERO[channels]
        torch.testing.assert_close(face.angles[:, i], degrees(factor * logits))
    torch.testing.assert_close(face.angles[:, 0], plain.angles[:, 0])


def test_gaze_goes_against_the_head_and_sideways_further_with_one_eye():
    face = retarget(SOURCE, ROWS, ZERO)
    assert changed(hold_gaze(face, SOURCE).expression, face.expression) == {11, 15}
    x = torch.tensor([3.0, -3.0, 0, 0, 0, 0])
    shift = (look(face, x, torch.zeros(6)).expression - face.expression)[:2]
    torch.testing.assert_close(
        shift[:, [33, 45]], torch.tensor([[0.0021, 0.003], [-0.003, -0.0021]])
    )


def test_gains_out_of_range_are_refused():
    with pytest.raises(ValueError, match="brow_gain must lie between 0 and 1, not"):
        Retargeting(brow_gain=1.5)
    with pytest.raises(ValueError, match="head_gain must not be negative"):
        Retargeting(head_gain=-1)
