"""What every engine owes the worker: the same tests for all, named in ``test_engine_contract``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME
from models.engine import Actor, Canvas, Engine, MotionBatchEngine

CANVAS = Canvas(320, 240)


def noise(frames: int, seed: int = 0) -> np.ndarray:
    """Loud noise: speech enough for any mouth."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 4000, frames * FRAME).clip(-32768, 32767).astype(np.int16)


class EngineContract:
    """Subclasses give the fixtures ``engine`` and ``identity`` (of a portrait, on
    ``CANVAS``)."""

    @pytest.fixture
    def actor(self, engine: Engine, identity: Any) -> Callable[..., Actor]:
        return lambda seed=0: engine.actor(identity, seed)

    @staticmethod
    def pictures(engine: Engine, poses: Any) -> np.ndarray:
        return np.stack(engine.render(poses)).astype(int)

    def test_says_what_it_is(self, engine: Engine):
        assert engine.name.isidentifier()
        assert 0 <= engine.lookahead_s < 1
        assert engine.preferred_batch >= 1

    def test_an_identity_knows_its_canvas(self, identity: Any):
        assert identity.canvas == CANVAS

    def test_pictures_are_packed_i420_of_the_canvas(self, engine: Engine, actor):
        (picture,) = engine.render(actor().next_poses(1, False))
        assert picture.dtype == np.uint8
        assert picture.shape == CANVAS.i420_shape
        assert picture.flags["C_CONTIGUOUS"]

    def test_nothing_to_render_is_nothing(self, engine: Engine):
        assert engine.render([]) == []

    def test_a_batch_is_rendered_as_each_alone(self, engine: Engine, actor):
        poses = [actor(seed).next_poses(3, False)[-1] for seed in range(5)]
        together = self.pictures(engine, poses)
        alone = np.stack([self.pictures(engine, [pose])[0] for pose in poses])
        assert np.abs(together - alone).max() <= 2

    def test_counts_whole_frames_heard(self, actor):
        one = actor()
        assert (one.buffered_frames, one.ready) == (0, 0)
        one.push_audio(noise(20)[: 20 * FRAME - 1])
        assert one.buffered_frames == 19
        assert 0 <= one.ready < 19
        one.end_segment()
        assert (one.buffered_frames, one.ready) == (20, 20)
        one.push_audio(noise(1))
        assert one.buffered_frames == 21

    def test_speech_is_acted_frame_by_frame(self, actor):
        one = actor()
        one.push_audio(noise(12))
        one.end_segment()
        assert len(one.next_poses(5, True)) == 5
        assert one.buffered_frames == 7
        assert len(one.next_poses(7, True)) == 7
        assert (one.buffered_frames, one.ready) == (0, 0)

    def test_what_was_not_heard_cannot_be_acted(self, actor):
        one = actor()
        one.push_audio(noise(3))
        with pytest.raises(ValueError, match="cannot act 4 frames of speech: 3 were heard"):
            one.next_poses(4, True)
        with pytest.raises(ValueError, match="-1"):
            one.next_poses(-1, False)
        assert one.buffered_frames == 3

    def test_acts_without_any_lookahead(self, actor):
        """A stream that comes as fast as it is played, and not faster."""
        one = actor()
        for frame in range(30):
            one.push_audio(noise(1, frame))
            assert len(one.next_poses(1, True)) == 1
        assert one.buffered_frames == 0

    def test_speech_waits_while_it_idles(self, actor):
        one = actor()
        one.push_audio(noise(10))
        assert len(one.next_poses(4, False)) == 4
        assert one.buffered_frames == 10

    def test_refuses_what_is_not_speech(self, actor):
        with pytest.raises(ValueError, match="int16"):
            actor().push_audio(np.zeros(640, np.float32))
        with pytest.raises(ValueError, match="int16"):
            actor().push_audio(np.zeros((640, 2), np.int16))

    def test_stretches_follow_each_other(self, actor):
        one = actor()
        for frames in (1, 3, 7, 26):
            one.push_audio(noise(frames))
            one.end_segment()
        assert one.buffered_frames == 37
        assert len(one.next_poses(37, True)) == 37
        assert one.buffered_frames == 0
        one.push_audio(noise(6))
        one.end_segment()
        assert len(one.next_poses(6, True)) == 6

    def test_finishing_nothing_does_nothing(self, actor):
        one = actor()
        one.end_segment()
        one.end_segment()
        one.push_audio(noise(8))
        one.end_segment()
        one.end_segment()
        assert one.buffered_frames == 8

    def test_an_interrupt_forgets_speech(self, actor):
        one = actor()
        one.push_audio(noise(30))
        one.next_poses(10, True)
        one.interrupt(2)
        assert (one.buffered_frames, one.ready) == (0, 0)
        assert len(one.next_poses(10, False)) == 10
        one.push_audio(noise(10))
        one.end_segment()
        assert one.buffered_frames == 10
        assert len(one.next_poses(10, True)) == 10
        with pytest.raises(ValueError, match="unseen"):
            one.interrupt(-1)

    def test_an_interrupt_leaves_no_jump(self, engine: Engine, actor):
        """What follows the last frame seen differs from it no more than frames of speech do."""
        one = actor()
        one.push_audio(noise(60))
        spoken = one.next_poses(40, True)
        one.interrupt(5)
        after = one.next_poses(15, False)
        seen = self.pictures(engine, [*spoken[20:35], *after])
        steps = np.abs(np.diff(seen, axis=0)).mean((1, 2))
        talking, cut, resting = steps[:14].max(), steps[14], steps[15:].max()
        assert cut <= 1.2 * talking
        assert resting <= 1.5 * talking

    def test_the_same_seed_idles_the_same_way(self, engine: Engine, actor):
        first, again, other = (
            self.pictures(engine, actor(seed).next_poses(40, False)[-2:]) for seed in (7, 7, 8)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0

    def test_outside_the_face_the_photo_stays(self, engine: Engine, actor):
        poses = [*actor(1).next_poses(30, False)]
        seen = self.pictures(engine, poses[::10])
        assert np.abs(seen[:, :20, :20] - seen[:1, :20, :20]).max() == 0

    def test_thinking_ahead_changes_nothing_but_the_time(self, engine: Engine, actor):
        if not isinstance(engine, MotionBatchEngine):
            pytest.skip("generates no motion ahead")
        alone, ahead = actor(3), actor(3)
        for one in (alone, ahead):
            one.push_audio(noise(25))
            one.end_segment()
        while ahead.motion_headroom is not None and ahead.motion_headroom < 5:
            engine.generate_motion([ahead])
        a = self.pictures(engine, alone.next_poses(25, True)[::6])
        b = self.pictures(engine, ahead.next_poses(25, True)[::6])
        assert np.abs(a - b).max() <= 2
