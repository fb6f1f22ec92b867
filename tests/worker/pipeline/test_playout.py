import asyncio
import time

import numpy as np
import pytest

from models.engine import Canvas
from protocol.events import SegmentEnded, SegmentStarted
from tests.fakes.engine import IDLE, LOUD, QUIET, FlapEngine
from tests.fakes.room import MemoryRoom
from worker.metrics import Metrics
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.playout import Playout
from worker.pipeline.render_pool import Rendered, RenderPool
from worker.pipeline.speech import Speech


class Stage:
    """A session's inner works around a room in memory."""

    def __init__(self, room: MemoryRoom, engine: FlapEngine) -> None:
        self.room, self.engine = room, engine
        self.events: list[SegmentStarted | SegmentEnded] = []
        self.renders = RenderPool(engine, time.monotonic_ns)
        identity = engine.prepare(np.zeros((1, 1, 3), np.uint8), Canvas(64, 64))
        actor_proxy = ActorProxy(engine.actor(identity))
        self.speech = Speech(actor_proxy)
        self.playout = Playout(
            room=room,
            speech=self.speech,
            actor_proxy=actor_proxy,
            renders=self.renders,
            metrics=Metrics(),
            now_ns=time.monotonic_ns,
            emit=self.events.append,
        )

    async def __aenter__(self) -> "Stage":
        self.renders.start()
        self.task = asyncio.create_task(self.playout.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.to_thread(self.renders.stop)

    def say(self, pcm: np.ndarray, *, end: bool = True) -> None:
        segment = self.speech.speak(pcm, 48000, None, time.monotonic_ns())
        self.playout.opened(segment)
        if end:
            self.speech.end()
        self.playout.wake()

    async def until(self, condition, advance: bool = True) -> None:
        for _ in range(400):
            if condition():
                return
            if advance:
                await self.room.advance()
            else:
                await asyncio.sleep(0.005)
        raise AssertionError("did not happen")


def clicks(frames: int, loud: set[int]) -> np.ndarray:
    """Silence-like speech with loud frames: the click to the engine's flap."""
    pcm = np.full(frames * 1920, 500, np.int16)
    for index in loud:
        pcm[index * 1920 : (index + 1) * 1920] = 20_000
    return pcm


@pytest.fixture
def live():
    return Stage(MemoryRoom(realtime=True), FlapEngine())


@pytest.fixture
def unhurried():
    return Stage(MemoryRoom(realtime=False, starts_on_speech=True), FlapEngine())


async def test_idles_with_exact_silence_from_the_first_frame(live):
    async with live:
        await live.room.advance(5)
    assert len(live.room.published) >= 5
    assert all(item.grey == IDLE for item in live.room.published)
    assert not any(item.audio.any() for item in live.room.published)


async def test_every_picture_arrives_with_its_own_sound(unhurried):
    loud = {3, 4, 9, 20}
    async with unhurried as stage:
        stage.say(clicks(30, loud))
        await stage.until(lambda: len(stage.events) == 2, advance=False)
    spoken = [item for item in stage.room.published if item.speaking]
    assert len(spoken) == 30
    for item in spoken:
        assert item.grey == (LOUD if np.abs(item.audio).max() > 8000 else QUIET)
    np.testing.assert_array_equal(stage.room.said, clicks(30, loud))


async def test_nothing_is_published_before_the_cue_and_time_stands_still_after_the_tail(unhurried):
    async with unhurried as stage:
        await asyncio.sleep(0.15)
        assert stage.room.published == []
        stage.say(clicks(10, {2}))
        await stage.until(lambda: len(stage.events) == 2, advance=False)
        await asyncio.sleep(0.2)
        after = len(stage.room.published)
        assert stage.room.published[0].speaking
        await asyncio.sleep(0.2)
        assert len(stage.room.published) == after
        stage.say(clicks(5, set()))
        await stage.until(lambda: len(stage.events) == 4, advance=False)
    assert sum(item.speaking for item in stage.room.published) == 15


async def test_a_segment_is_reported_started_and_completed(live):
    async with live as stage:
        await stage.room.advance(3)
        stage.say(clicks(5, {1}))
        await stage.until(lambda: len(stage.events) == 2)
    started, ended = stage.events
    assert isinstance(started, SegmentStarted)
    assert started.segment_id == 1
    assert isinstance(ended, SegmentEnded)
    assert ended.reason == "completed"
    assert ended.playback_position == pytest.approx(0.2)


async def test_speech_waits_behind_no_more_than_two_idle_frames(live):
    async with live as stage:
        await stage.room.advance(4)
        before = len(stage.room.published)
        stage.say(clicks(5, {0}))
        await stage.until(lambda: any(item.speaking for item in stage.room.published))
        idle = [item for item in stage.room.published[before:] if not item.speaking]
    assert len(idle) <= 2


async def test_after_an_interrupt_nothing_old_is_heard_and_every_segment_ended_once(live):
    async with live as stage:
        stage.say(clicks(50, set(range(50))))
        stage.say(clicks(50, set(range(50))))
        await stage.until(lambda: sum(item.speaking for item in stage.room.published) >= 10)
        stage.playout.interrupt("interrupted")
        at = len(stage.room.published)
        await stage.room.advance(10)
        ended = [event for event in stage.events if isinstance(event, SegmentEnded)]
        assert [event.segment_id for event in ended] == [1, 2]
        assert {event.reason for event in ended} == {"interrupted"}
        assert 0.2 <= ended[0].playback_position <= 0.5
        assert ended[1].playback_position == 0
        assert not any(item.audio.any() for item in stage.room.published[at:])
        assert all(item.grey in (IDLE, None) for item in stage.room.published[at:])
        stage.say(clicks(5, {1}))
        await stage.until(lambda: len(stage.events) == 5)
    assert stage.events[-1].reason == "completed"
    np.testing.assert_array_equal(stage.room.said[-5 * 1920 :], clicks(5, {1}))


async def test_a_picture_that_came_too_late_is_not_shown_after_an_interrupt(live):
    async with live as stage:
        await stage.room.advance(2)
        stage.say(clicks(50, set(range(50))))
        await stage.until(lambda: sum(item.speaking for item in stage.room.published) >= 5)
        stage.engine.gate.clear()  # no picture is in time any more
        late = asyncio.get_running_loop().create_future()
        late.set_result(Rendered(np.full(Canvas(64, 64).i420_shape, LOUD, np.uint8)))
        stage.playout._overdue = late
        stage.playout.interrupt("interrupted")
        at = len(stage.room.published)
        await stage.room.advance(3)
        stage.engine.gate.set()
        await stage.room.advance(3)
    assert len(stage.room.published) > at
    assert all(item.grey in (IDLE, None) for item in stage.room.published[at:])


async def test_an_interrupt_says_how_long_sound_goes_on(live):
    class Begun(MemoryRoom):
        """Cannot take back the last 480 samples of what it was given."""

        def clear(self) -> int:
            return max(0, super().clear() - 480)

    stage = Stage(Begun(realtime=True), FlapEngine())
    async with stage:
        await stage.room.advance(2)
        assert stage.playout.interrupt("interrupted") is None
        stage.say(clicks(20, {1}))
        await stage.until(lambda: sum(item.speaking for item in stage.room.published) >= 5)
        assert stage.playout.interrupt("interrupted") == pytest.approx(0.01)


async def test_a_late_picture_stays_out_and_the_sound_goes_on():
    stage = Stage(MemoryRoom(realtime=True), FlapEngine())
    async with stage:
        await stage.room.advance(2)
        stage.engine.render_s = 0.15
        stage.say(clicks(20, {5}))
        await stage.until(lambda: any(event for event in stage.events[1:]))
    np.testing.assert_array_equal(stage.room.said, clicks(20, {5}))
    assert stage.playout.stats.dropped > 0
    late = [item for item in stage.room.published if item.speaking and item.grey is None]
    assert late


async def test_an_interrupt_does_not_disturb_an_idle_face(live):
    async with live as stage:
        await stage.room.advance(3)
        for _ in range(5):
            stage.playout.interrupt("interrupted")
            await stage.room.advance()
        stage.say(clicks(3, {1}))
        await stage.until(lambda: len(stage.events) == 2)
        await stage.room.advance(3)
        cuts = len(stage.engine.actors[0].cuts)
        stage.playout.interrupt("interrupted")
        await stage.room.advance(3)
    assert cuts == len(stage.engine.actors[0].cuts) == 0
    assert len(stage.events) == 2


async def test_random_interrupts_report_every_segment_exactly_once(live):
    rng = np.random.default_rng(3)
    said = 0
    async with live as stage:
        for _ in range(60):
            if rng.random() < 0.6:
                stage.say(clicks(int(rng.integers(1, 8)), set()), end=True)
                said += 1
            if rng.random() < 0.3:
                stage.playout.interrupt("interrupted")
            await stage.room.advance(int(rng.integers(0, 3)))
        stage.playout.interrupt("interrupted")
    ended = [event.segment_id for event in stage.events if isinstance(event, SegmentEnded)]
    assert ended == list(range(1, said + 1))
    started = [event.segment_id for event in stage.events if isinstance(event, SegmentStarted)]
    assert sorted(set(started)) == started
    for event in stage.events:
        if isinstance(event, SegmentEnded):
            assert (event.playback_position > 0) == (event.segment_id in started)
