"""Blinks, shut lips, smooth changes, and a head that comes back: over seconds and over hours."""

import itertools

import numpy as np
import pytest
import torch

from models.ditto.motion.idle_motion import IdleMotion, hashed
from models.ditto.motion.key_points import BROWS_AND_CHEEKS, LIPS, Retargeting, Source
from models.ditto.motion.motion_blender import (
    EXPRESSION_OUT,
    LOWER_LID,
    UPPER_LID,
    MotionBlender,
    MouthGate,
    lid_offsets,
    loudness,
)
from models.ditto.motion.motion_windows import CHANNELS, EXPRESSION, PITCH, SHIFT, YAW, motion_row
from models.ditto.networks.motion_extractor import Motion
from models.engine import FPS

HOUR = 3600 * FPS


def logits(angle: torch.Tensor) -> torch.Tensor:
    """Bins that expect an angle in degrees: (...) to (..., 66)."""
    return -0.1 * (torch.arange(66) - (angle[..., None] + 97.5) / 3) ** 2


def photo() -> Motion:
    generator = torch.Generator().manual_seed(3)
    angles = [logits(torch.tensor([a])) for a in (4.0, -6.0, 2.0)]
    exp, kp = (torch.randn(1, 63, generator=generator) * g for g in (0.02, 0.3))
    return Motion(*angles, torch.tensor([[0.01, 0.02, 0.0]]), exp, torch.tensor([[1.1]]), kp)


SOURCE = Source.of(photo())
ZERO = motion_row(photo())[0]


def performance(frames: int, seed: int = 0, turn: float = 0.0) -> torch.Tensor:
    """Rows of motion with moving lips and brows, the head turned by ``turn`` degrees."""
    generator = torch.Generator().manual_seed(seed)
    rows = ZERO.repeat(frames, 1)
    rows[:, YAW] = logits(torch.full((frames,), -6.0 + turn))
    waves = torch.sin(torch.arange(frames)[:, None] / 4 + torch.rand(63, generator=generator) * 6)
    rows[:, EXPRESSION] += 0.03 * waves
    return rows


def points(face, which) -> torch.Tensor:
    return face.expression.unflatten(-1, (21, 3))[:, list(which)]


def own(which) -> torch.Tensor:
    return points(SOURCE.face, which)


def jumps(*values: torch.Tensor) -> float:
    return float(torch.cat(values).diff(dim=0).abs().max())


def test_the_random_numbers_are_even_and_unlike_each_other():
    numbers = hashed(7, 3, np.arange(100_000))
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(np.histogram(numbers, 10, (0, 1))[0] / 10_000 - 1).max() < 0.05
    assert abs(np.corrcoef(numbers, hashed(7, 4, np.arange(100_000)))[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize(("rate", "low", "high"), [(10, 9, 11), (15, 13.5, 16.5), (20, 18, 22)])
def test_blinks_come_as_often_as_asked_and_last_as_in_life(rate, low, high):
    blink = IdleMotion(seed=rate, blinks_per_minute=rate).frames(0, HOUR).blink
    onsets = np.flatnonzero((blink[1:] > 0) & (blink[:-1] == 0))
    ends = np.flatnonzero((blink[1:] == 0) & (blink[:-1] > 0))
    ends = ends[ends > onsets[0]]
    onsets = onsets[: len(ends)]
    assert low <= len(onsets) / 60 <= high
    lengths = (ends - onsets) / FPS
    assert lengths.min() >= 0.20
    assert lengths.max() <= 0.48
    peaks = [blink[a : b + 1].max() for a, b in zip(onsets, ends, strict=True)]
    assert min(peaks) > 0.85  # 40 ms frames may miss the very peak, not the shut eye
    assert np.diff(onsets).std() / FPS > 1.0  # no metronome
    assert (np.diff(onsets) > 5).all()
    assert np.abs(np.diff(blink)).max() < 0.6  # a lid takes three frames, not one


def test_a_blink_moves_the_lids_together():
    offsets = lid_offsets(torch.tensor([0.0, 1.0]), strength=1.5).unflatten(-1, (21, 3))
    assert not offsets[0].any()
    moved = {k: offsets[1, k].tolist() for k in range(21) if offsets[1, k].any()}
    assert set(moved) == {11, 13, 15, 16}
    for upper, lower in ((11, 13), (15, 16)):
        assert moved[upper] == pytest.approx([0, 1.5 * UPPER_LID, 0])
        assert moved[lower] == pytest.approx([0, 1.5 * LOWER_LID, 0])


def test_the_face_blinks_idle_and_speaking():
    blender = MotionBlender(SOURCE, seed=1)
    for face in (blender.idle(500), blender.speak(performance(500), ZERO)):
        lid = points(face, [11])[:, 0, 1] - own([11])[0, 0, 1]
        assert lid.max() > 0.85 * UPPER_LID
        assert lid.median().abs() < 0.1 * UPPER_LID


def test_idle_motion_is_alive_bounded_and_repeats_with_its_seed():
    motion = IdleMotion(seed=5).frames(0, 3000)
    assert motion.angles.std(0).min() > 0.1
    assert np.abs(motion.angles).max() < 2.0
    assert np.abs(np.diff(motion.angles, axis=0)).max() < 0.25
    assert np.abs(motion.shift).max() < 0.012
    later = IdleMotion(seed=5).frames(1000, 10)
    for whole, part in zip(vars(motion).values(), vars(later).values(), strict=True):
        np.testing.assert_allclose(whole[1000:1010], part, rtol=0, atol=1e-6)
    assert not np.allclose(IdleMotion(seed=6).frames(0, 3000).angles, motion.angles, atol=0.1)


def test_liveliness_0_is_a_still_picture():
    face = MotionBlender(SOURCE, liveliness=0).idle(200)
    torch.testing.assert_close(face.expression, SOURCE.face.expression.expand(200, -1))
    torch.testing.assert_close(face.angles, SOURCE.face.angles.expand(200, -1))


def test_eyes_mostly_look_at_the_viewer():
    gaze = IdleMotion(seed=2).frames(0, HOUR).gaze
    at_the_viewer = (np.abs(gaze[:, 0]) <= 1.2) & (np.abs(gaze[:, 1]) <= 0.8)
    assert 0.65 < at_the_viewer.mean() < 0.9
    assert 4 < np.abs(gaze[:, 0]).max() <= 7


def test_the_mouth_follows_speech_and_shuts_in_silence():
    blender = MotionBlender(SOURCE, liveliness=0)
    levels = np.concatenate([np.full(40, -20.0), np.full(40, -90.0)])
    lips = points(blender.speak(performance(80), ZERO, levels), LIPS)
    away = (lips - own(LIPS)).abs().amax((1, 2))
    assert away[5:40].min() > 0.01
    assert away[40 + 7 + 6 :].max() == 0
    assert jumps(lips) < 0.02


def test_after_speech_the_lips_are_shut_and_nothing_jumps():
    blender = MotionBlender(SOURCE, seed=4)
    faces = [
        blender.idle(50),
        blender.speak(performance(60, turn=8.0), ZERO),
        blender.idle(60),
        blender.speak(performance(30, 1, turn=-8.0), ZERO),
    ]
    blender.interrupt(11)
    faces[-1] = type(faces[-1])(*(v[:-11] for v in vars(faces[-1]).values()))
    faces.append(blender.idle(60))
    assert jumps(*(points(f, LIPS) for f in faces)) < 0.025
    assert jumps(*(f.angles for f in faces)) < 1.0
    assert jumps(*(f.shift for f in faces)) < 0.005
    for after in (faces[2], faces[4]):
        lips = (points(after, LIPS) - own(LIPS)).abs()
        assert lips[EXPRESSION_OUT:].max() < 1e-6
        assert (after.angles[30:] - SOURCE.face.angles).abs().max() < 2.0
    assert (faces[1].angles[:, 1] - SOURCE.face.angles[0, 1]).max() > 5


def test_a_cut_goes_on_from_the_face_last_shown():
    def run(unseen: int):
        blender = MotionBlender(SOURCE, seed=4, liveliness=0)
        shown = blender.speak(performance(100, turn=10.0), ZERO)
        blender.interrupt(unseen)
        assert blender.frame == 100 - unseen
        return shown, blender.idle(1)

    for unseen in (0, 1, 37, 99):
        shown, after = run(unseen)
        last = 99 - unseen
        assert (after.angles[0] - shown.angles[last]).abs().max() < 0.2
        assert (after.expression[0] - shown.expression[last]).abs().max() < 0.005
    _, after = run(100)  # nothing was seen: the photo
    torch.testing.assert_close(after.angles, SOURCE.face.angles)


def test_in_blocks_or_at_once_it_is_the_same():
    rows = performance(200, turn=5.0)
    whole = MotionBlender(SOURCE, seed=9).speak(rows, ZERO)
    blender = MotionBlender(SOURCE, seed=9)
    parts = [blender.speak(block, ZERO) for block in rows.split([7, 1, 100, 92])]
    for name, value in vars(whole).items():
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(joined, value, rtol=0, atol=2e-5)


def test_the_eyes_stay_on_the_viewer_when_the_head_turns():
    face = MotionBlender(SOURCE, liveliness=0).speak(performance(60, turn=8.0), ZERO)
    turn = face.angles[-1, 1] - SOURCE.face.angles[0, 1]
    assert turn > 5
    moved = (face.expression - SOURCE.face.expression)[-1, [33, 45]]
    torch.testing.assert_close(moved, turn * 0.26 * torch.tensor([0.0007, 0.001]))


def test_brows_follow_by_their_gain():
    def brows(gain: float) -> float:
        blender = MotionBlender(SOURCE, how=Retargeting(brow_gain=gain), liveliness=0)
        face = blender.speak(performance(60), ZERO)
        return float((points(face, BROWS_AND_CHEEKS) - own(BROWS_AND_CHEEKS)).abs().max())

    assert brows(0) == 0
    assert brows(0.5) == pytest.approx(brows(1) / 2, rel=0.05)
    assert 0 < brows(0.15) < brows(0.5)


def test_eight_hours_do_not_drift():
    """Speech whose pose walks away at random, with a bias, and pauses in between."""
    chance = torch.Generator().manual_seed(0)
    blender = MotionBlender(SOURCE, seed=11)
    pose = torch.zeros(4)  # pitch, yaw, shift x, y of the performance
    hours: list[list[torch.Tensor]] = [[] for _ in range(8)]
    raw = []
    while blender.frame < 8 * HOUR:
        steps = torch.randn(375, 4, generator=chance) * torch.tensor([0.1, 0.1, 5e-4, 5e-4])
        walk = pose + (steps + torch.tensor([1e-4, -1e-4, 1e-6, 1e-6])).cumsum(0)
        pose = walk[-1]
        rows = ZERO.repeat(375, 1)
        rows[:, PITCH], rows[:, YAW] = logits(4 + walk[:, 0]), logits(-6 + walk[:, 1])
        rows[:, SHIFT][:, :2] += walk[:, 2:]
        raw.append(walk[::25].abs())
        for face in (blender.speak(rows, ZERO), blender.idle(125)):
            away = torch.cat([face.angles, face.shift], 1) - torch.cat(
                [SOURCE.face.angles, SOURCE.face.shift], 1
            )
            assert away.isfinite().all()
            hours[min(7, blender.frame // HOUR)].append(away)
        assert sum(map(len, blender._shown)) <= 250 + 500
    mean = torch.stack([torch.cat(h).mean(0) for h in hours])
    most = torch.stack([torch.cat(h).abs().amax(0) for h in hours])
    assert torch.cat(raw).amax(0)[:2].min() > 30  # left alone it would look away
    assert mean[:, :3].abs().max() < 1.0  # degrees
    assert mean[:, 3:].abs().max() < 0.005
    assert most[:, :3].max() < 15
    assert most[-1].max() < 1.5 * most[:4].max()


def test_loudness_is_in_decibels_of_full_scale():
    t = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 400 * t).astype(np.float32)
    np.testing.assert_allclose(loudness(tone), -3.01, atol=0.02)
    np.testing.assert_allclose(loudness(tone / 10), -23.01, atol=0.02)
    assert loudness(np.zeros(1290, np.float32)).tolist() == [-120, -120]


def test_the_gate_knows_quiet_speakers_and_does_not_flap():
    gate = MouthGate()
    assert gate.follow(np.full(20, -90.0)).max() == 0
    assert gate.follow(np.full(10, -50.0))[-1] == 1  # a quiet voice
    words = np.concatenate([np.full(4, -30.0), np.full(5, -85.0)] * 20)
    assert gate.follow(words)[9:].min() == 1  # gaps within words
    falling = gate.follow(np.full(20, -85.0))
    assert (np.diff(falling) <= 0).all()
    assert falling[-1] == 0
    gate.follow(np.full(500, -6.0))
    assert gate.follow(np.full(40, -55.0))[-1] == 0  # hum under a loud voice
    gate.shut()
    assert gate.follow(np.full(1, -6.0))[0] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_random_sessions_stay_finite_and_bounded(seed):
    chance = np.random.default_rng(seed)
    blender = MotionBlender(SOURCE, seed=seed)
    last = None
    for turn in itertools.islice(itertools.cycle([8.0, -5.0, 0.0]), 300):
        count = int(chance.integers(1, 60))
        if chance.random() < 0.5:
            face = blender.speak(performance(count, turn=turn), ZERO)
        else:
            face = blender.idle(count)
        assert face.expression.shape == (count, 63)
        assert face.angles.isfinite().all()
        if last is not None and not chance.random() < 0.2:
            assert (face.angles[0] - last).abs().max() < 15  # speech itself may turn at once
        last = face.angles[-1]
        if chance.random() < 0.2:
            before = blender.frame
            blender.interrupt(int(chance.integers(0, 400)))
            assert before - 400 <= blender.frame <= before
            last = None
        assert sum(map(len, blender._shown)) <= 250 + 60


def test_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="liveliness"):
        IdleMotion(liveliness=2)
    with pytest.raises(ValueError, match="blinks_per_minute"):
        IdleMotion(blinks_per_minute=0)
    with pytest.raises(ValueError, match="settle_s"):
        MotionBlender(SOURCE, settle_s=0)
    assert ZERO.shape == (CHANNELS,)
