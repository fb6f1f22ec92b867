"""One session: its speech becomes key points in time, in step, and without a jump."""

import itertools

import numpy as np
import pytest
import torch

from models.ditto.motion.actor import AHEAD, DittoActor
from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME
from tests.fakes.ditto_motion_generator import (
    FakeDiffusion,
    FakeEncoder,
    fake_generator,
    fake_identity,
    opening,
    points,
)


def speech(frames: int, level: float = 3000.0) -> np.ndarray:
    """A voice whose loudness swells, so that every frame of it is another one."""
    t = np.arange(frames * FRAME)
    swell = 0.6 + 0.4 * np.sin(t / FRAME * 1.3)
    return (level * swell * np.sign(np.sin(t * 0.3))).astype(np.int16)


def still(generator, seed: int = 0) -> DittoActor:
    """An actor that moves by speech alone."""
    return DittoActor(fake_identity(), generator, seed, liveliness=0.0)


def test_hearing_costs_nothing():
    encoder, diffusion = FakeEncoder(), FakeDiffusion()
    generator = fake_generator(encoder, diffusion)
    encoder.batches.clear()
    actor = still(generator)
    for _ in range(50):
        actor.push_audio(speech(2))
    assert (encoder.batches, diffusion.batches) == ([], [])
    assert actor.buffered_frames == 100


def test_motion_comes_in_blocks_of_five_frames_and_85_ms():
    actor = still(fake_generator())
    actor.push_audio(speech(8)[: 5 * FRAME + 1359])
    assert (actor.buffered_frames, actor.ready, actor.motion_headroom) == (7, 0, None)
    actor.push_audio(speech(8)[:1])
    assert (actor.ready, actor.motion_headroom) == (5, 0)
    actor._generator.generate([actor])
    assert (actor.ready, actor.motion_headroom) == (5, None)
    actor.next_poses(2, True)
    assert (actor.buffered_frames, actor.ready, actor.motion_headroom) == (5, 3, None)
    actor.end_segment()
    assert (actor.buffered_frames, actor.ready, actor.motion_headroom) == (6, 6, 3)


def test_seventy_rows_of_overlap_want_ten_frames():
    actor = still(fake_generator(overlap=70))
    actor.push_audio(speech(13)[: 10 * FRAME + 1359])
    assert actor.ready == 0
    actor.push_audio(speech(1)[:1])
    assert actor.ready == 10
    actor.push_audio(speech(20))
    assert len(actor.next_poses(10, True)) == 10


@pytest.mark.parametrize("overlap", [70, 75])
@pytest.mark.parametrize("eager", [True, False])
def test_every_frame_gets_the_row_of_its_own_speech(overlap, eager):
    generator = fake_generator(overlap=overlap, eager=eager)
    actor = still(generator)
    pcm = speech(60)
    actor.push_audio(pcm)
    actor.end_segment()
    opened = opening(actor, actor.next_poses(60, True))
    level = np.abs(pcm.reshape(60, FRAME) / 32768).mean(1)
    # Past the ease into speech, the mouth is as open as its frame is loud.
    assert np.corrcoef(opened[10:], level[10:])[0, 1] > 0.98


def test_motion_worked_out_ahead_is_bounded():
    generator = fake_generator()
    actor = still(generator)
    actor.push_audio(speech(500))
    thoughts = 0
    while actor.motion_headroom is not None:
        generator.generate([actor])
        thoughts += 1
    assert thoughts == AHEAD // 5
    actor.next_poses(1, True)
    assert actor.motion_headroom == AHEAD - 1


def test_many_sessions_go_through_the_networks_together():
    encoder, diffusion = FakeEncoder(), FakeDiffusion()
    generator = fake_generator(encoder, diffusion, batch=4)
    actors = [still(generator, seed) for seed in range(6)]
    for actor in actors:
        actor.push_audio(speech(20))
    encoder.batches.clear()
    generator.generate(actors)
    assert diffusion.batches == [4, 2]
    assert encoder.batches == [4, 2]
    encoder.batches.clear()
    for actor in actors:
        actor.next_poses(5, True)
    assert encoder.batches == [], "what was generated ahead is not generated again"


def test_batches_of_the_encoder_come_in_the_sizes_asked_for():
    encoder = FakeEncoder()
    generator = fake_generator(encoder, encoder_batches=(1, 2, 4))
    assert set(encoder.batches) <= {1, 2, 4}
    actors = [still(generator, seed) for seed in range(3)]
    for actor in actors:
        actor.push_audio(speech(10))
    encoder.batches.clear()
    generator.generate(actors)
    assert encoder.batches == [4]
    alone = still(fake_generator())
    alone.push_audio(speech(10))
    a, b = (
        opening(alone, alone.next_poses(5, True)),
        opening(actors[2], actors[2].next_poses(5, True)),
    )
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_stream_without_lookahead_stays_in_step():
    """Each frame is acted the moment it was heard: it has no motion yet. Once the sender gets
    ahead, every frame again has the row of its own speech."""
    pcm = speech(80)
    early, best = still(fake_generator()), still(fake_generator())
    best.push_audio(pcm)
    best.end_segment()
    wanted = opening(best, best.next_poses(80, True))
    got = []
    for frame in range(30):
        early.push_audio(pcm[frame * FRAME : (frame + 1) * FRAME])
        got.extend(opening(early, early.next_poses(1, True)))
    early.push_audio(pcm[30 * FRAME :])
    early.end_segment()
    got.extend(opening(early, early.next_poses(50, True)))
    assert np.abs(np.array(got[:30])).max() <= np.abs(wanted).max()
    np.testing.assert_allclose(got[40:], wanted[40:], atol=2e-3)
    assert np.abs(np.diff(got)).max() <= 1.5 * np.abs(np.diff(wanted)).max()


def test_speech_that_was_acted_before_it_had_a_motion_leaves_nothing_behind():
    """Twelve frames, each acted as it came, motion too late for all of them. What is said next
    begins after silence, and is in step."""
    generator = fake_generator()
    actor, plain = still(generator), still(fake_generator())
    for _ in range(12):
        actor.push_audio(speech(1, 20_000.0))
        actor.next_poses(1, True)
        generator.generate([actor])
    actor.end_segment()
    assert (actor.buffered_frames, actor.ready, actor.motion_headroom) == (0, 0, None)
    actor.push_audio(speech(40))
    generator.generate([actor])
    assert (actor._motion.frames, actor._motion.rows) == (5, 5), "counted from the new stretch on"
    plain.push_audio(speech(40))
    for one in (actor, plain):
        one.next_poses(20, False)
        one.end_segment()
    a, b = (opening(one, one.next_poses(40, True)) for one in (actor, plain))
    np.testing.assert_allclose(a[8:], b[8:], atol=2e-3)


def test_sessions_that_think_together_get_their_own_motion():
    generator = fake_generator(overlap=70)  # two windows of speech for one of motion
    loud = [still(generator, seed) for seed in range(3)]
    for level, actor in zip((1000.0, 3000.0, 9000.0), loud, strict=True):
        actor.push_audio(speech(30, level))
    generator.generate(loud)
    together = [opening(actor, actor.next_poses(10, True)) for actor in loud]
    for level, opened in zip((1000.0, 3000.0, 9000.0), together, strict=True):
        alone = still(fake_generator(overlap=70))
        alone.push_audio(speech(30, level))
        np.testing.assert_allclose(opened, opening(alone, alone.next_poses(10, True)), atol=1e-6)


def test_lips_rest_in_silence():
    actor = still(fake_generator())
    quiet = np.zeros(30 * FRAME, np.int16)
    actor.push_audio(np.concatenate([speech(30), quiet, speech(20)]))
    actor.end_segment()
    opened = opening(actor, actor.next_poses(80, True))
    assert np.abs(opened[10:30]).max() > 0.01
    assert np.abs(opened[45:60]).max() < 1e-6
    assert np.abs(opened[65:]).max() > 0.01


@pytest.mark.parametrize(("level_db", "heard"), [(-57, True), (-63, False)])
def test_what_is_too_quiet_to_be_speech_does_not_part_the_lips(level_db, heard):
    actor = still(fake_generator())
    tone = 32768 * 10 ** (level_db / 20) * np.sqrt(2) * np.sin(np.arange(40 * 640) / 3)
    actor.push_audio(tone.round().astype(np.int16))
    actor.end_segment()
    gap = opening(actor, actor.next_poses(40, True))
    assert (np.abs(gap).max() > 1e-3) == heard


def test_lips_rest_after_speech():
    actor = still(fake_generator())
    actor.push_audio(speech(20))
    actor.end_segment()
    spoken = opening(actor, actor.next_poses(20, True))
    after = opening(actor, actor.next_poses(20, False))
    assert np.abs(spoken[10:]).max() > 0.01
    assert np.abs(after[7:]).max() < 1e-6, "280 ms"


@pytest.mark.parametrize("unseen", [0, 1, 4, 12])
def test_an_interrupt_goes_on_from_the_pose_last_seen(unseen):
    actor = still(fake_generator())
    actor.push_audio(speech(100))
    spoken = opening(actor, actor.next_poses(40, True))
    actor.interrupt(unseen)
    after = opening(actor, actor.next_poses(20, False))
    seen = np.concatenate([spoken[: 40 - unseen], after])
    usual = np.abs(np.diff(spoken[5:])).max()
    assert np.abs(np.diff(seen[5:])).max() <= 1.05 * usual
    assert np.abs(after[8:]).max() < 1e-6


def test_an_interrupt_while_motion_lies_ready_forgets_it():
    generator = fake_generator()
    actor, plain = still(generator), still(generator)
    actor.push_audio(speech(60))
    actor.next_poses(7, True)
    generator.generate([actor])
    actor.interrupt(0)
    assert (actor.buffered_frames, actor.ready, actor.motion_headroom) == (0, 0, None)
    # What is said next is spoken as if nothing had been before.
    for one in (actor, plain):
        one.next_poses(30, False)
        one.push_audio(speech(40))
        one.end_segment()
    a, b = (opening(one, one.next_poses(40, True)) for one in (actor, plain))
    np.testing.assert_allclose(a[10:], b[10:], atol=2e-3)


def test_interrupts_at_every_moment_leave_the_session_whole():
    """Speech, idling, interrupts and ends in any order: counts stay right and nothing jumps."""
    rng = np.random.default_rng(5)
    generator = fake_generator()
    actor = still(generator)
    seen: list[float] = []
    heard = 0
    for _ in range(300):
        do = rng.integers(5)
        if do == 0:
            count = int(rng.integers(1, 14))
            actor.push_audio(speech(count))
            heard += count
        elif do == 1:
            actor.end_segment()
        elif do == 2:
            unseen = int(rng.integers(0, min(6, len(seen)) + 1))
            actor.interrupt(unseen)
            seen = seen[: len(seen) - unseen]
            heard = 0
        elif do == 3 and heard:
            count = int(rng.integers(1, heard + 1))
            seen.extend(opening(actor, actor.next_poses(count, True)))
            heard -= count
        else:
            seen.extend(opening(actor, actor.next_poses(int(rng.integers(1, 9)), False)))
        assert actor.buffered_frames == heard
        assert 0 <= actor.ready <= heard
    steps = np.abs(np.diff(seen))
    # Frames of this voice differ by 0.04, and easing adds to that.
    assert steps.max() < 0.08, "of a mouth that opens by 0.12"


def test_a_failing_encoder_costs_no_frame_its_place():
    encoder = FakeEncoder()
    generator = fake_generator(encoder)
    actor, plain = still(generator), still(generator)
    pcm = speech(40)
    for one in (actor, plain):
        one.push_audio(pcm)
        one.end_segment()
    encoder.failure = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        generator.generate([actor])
    a, b = (opening(one, one.next_poses(40, True)) for one in (actor, plain))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_same_seed_and_speech_perform_the_same_motion():
    first, again = (DittoActor(fake_identity(), fake_generator(), 4) for _ in range(2))
    for one in (first, again):
        one.push_audio(speech(30))
        one.end_segment()
    a, b = (
        points([*one.next_poses(30, True), *one.next_poses(30, False)]) for one in (first, again)
    )
    np.testing.assert_array_equal(a, b)
    assert torch.equal(first.noise.fixed, again.noise.fixed)


def test_the_head_comes_back_from_a_model_that_turns_ever_further():
    actor = still(fake_generator(diffusion=FakeDiffusion(turn=0.5)))
    turned = []
    for _ in range(60):  # two minutes
        actor.push_audio(speech(50))
        actor.end_segment()
        poses = points(actor.next_poses(50, True))
        turned.append(np.abs(poses - actor.identity.source.points.numpy()).max())
    early, late = max(turned[5:30]), max(turned[30:])
    assert late <= 1.2 * early


def test_key_points_of_one_frame_or_of_many_are_the_same():
    many, single = still(fake_generator()), still(fake_generator())
    for one in (many, single):
        one.push_audio(speech(25))
        one.end_segment()
    a = points(many.next_poses(25, True))
    b = points(list(itertools.chain.from_iterable(single.next_poses(1, True) for _ in range(25))))
    np.testing.assert_allclose(a, b, atol=1e-5)
