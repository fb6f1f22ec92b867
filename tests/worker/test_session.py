import asyncio
import gc
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from models.engine import Canvas
from protocol.events import (
    SegmentEnded,
    SegmentStarted,
    SessionDraining,
    SessionEnded,
    SessionExpiring,
    SessionMetrics,
    SessionReady,
)
from tests.fakes.engine import FlapEngine
from tests.fakes.room import MemoryRoom
from worker.clock import SystemClock
from worker.interfaces import SessionOver
from worker.metrics import Metrics
from worker.pipeline.render_pool import RenderPool
from worker.rooms.port import RoomError
from worker.session import Session
from worker.settings import LifecycleSettings

SECOND = np.full(48_000, 9_000, "<i2").tobytes()


@pytest.fixture
def engine():
    return FlapEngine()


@pytest.fixture
def renders(engine):
    thread = RenderPool(engine, time.monotonic_ns)
    thread.start()
    yield thread
    thread.stop()


def session(engine, renders, room, events=None, **options) -> Session:
    identity = engine.prepare(np.zeros((1, 1, 3), np.uint8), Canvas(64, 64))
    made = Session(
        session_id="sess-1",
        canvas=identity.canvas,
        actor=engine.actor(identity),
        room=room,
        renders=renders,
        clock=SystemClock(),
        metrics=Metrics(),
        **options,
    )
    if events is not None:
        made.subscribe(events.append)
    return made


async def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("did not happen")


def kinds(events) -> list[type]:
    return [type(event) for event in events]


async def test_joins_speaks_and_ends(engine, renders):
    events, room = [], MemoryRoom(realtime=False, starts_on_speech=True)
    one = session(engine, renders, room, events)
    one.start()
    receipt = await one.speak(SECOND, 48_000)
    assert (receipt.segment_id, receipt.audio_samples) == (1, 16_000)
    one.end_speech()
    await until(lambda: SegmentEnded in kinds(events))
    await one.end("client_request")
    assert kinds(events) == [SessionReady, SegmentStarted, SegmentEnded, SessionEnded]
    assert events[-1].reason == "client_request"
    assert room.closes == 1
    np.testing.assert_array_equal(room.said, np.frombuffer(SECOND, "<i2"))


async def test_speech_that_comes_before_the_room_is_joined_is_kept(engine, renders):
    class SlowRoom(MemoryRoom):
        async def connect(self, on_event):
            await asyncio.sleep(0.1)

    events, room = [], SlowRoom(realtime=False, starts_on_speech=True)
    one = session(engine, renders, room, events)
    one.start()
    await one.speak(SECOND, 48_000)
    one.end_speech()
    await until(lambda: SegmentEnded in kinds(events))
    assert events[-1].playback_position == pytest.approx(1.0)
    await one.end("client_request")


async def test_interrupt_reports_every_segment_before_it_returns(engine, renders):
    events, room = [], MemoryRoom(realtime=True)
    one = session(engine, renders, room, events)
    one.start()
    for name in "abc":
        one.begin_speech(name, 48_000)
        await one.speak(SECOND, 48_000)
    await until(lambda: room.published and room.published[-1].speaking)
    await one.interrupt()
    ended = [event for event in events if isinstance(event, SegmentEnded)]
    assert [(event.utterance_id, event.reason) for event in ended] == [
        (name, "interrupted") for name in "abc"
    ]
    await one.interrupt()  # nothing is playing: no further report
    assert len([event for event in events if isinstance(event, SegmentEnded)]) == 3
    await one.end("client_request")


async def test_open_segments_are_reported_when_the_session_ends(engine, renders):
    events = []
    one = session(engine, renders, MemoryRoom(realtime=True), events)
    one.start()
    await until(lambda: one.ready)
    await one.speak(SECOND, 48_000)
    await one.end("expired")
    assert kinds(events)[-2:] == [SegmentEnded, SessionEnded]
    assert events[-2].reason == "session_ended"
    with pytest.raises(SessionOver):
        await one.speak(SECOND, 48_000)
    one.begin_speech("late", 48_000)
    await one.interrupt()
    assert kinds(events)[-1] is SessionEnded


async def test_a_room_that_fails_at_its_end_says_so(engine, renders):
    class FullDisk(MemoryRoom):
        async def aclose(self, reason=""):
            raise RoomError("cannot record: no space left")

    events = []
    one = session(engine, renders, FullDisk(realtime=True), events)
    one.start()
    await until(lambda: one.ready)
    await one.end("client_request")
    assert one.failure == "cannot record: no space left"
    assert events[-1].reason == "client_request"


async def test_a_room_that_cannot_be_joined_ends_the_session(engine, renders):
    events = []
    one = session(engine, renders, MemoryRoom(refuse="no such room"), events)
    one.start()
    await one.closed.wait()
    assert kinds(events) == [SessionEnded]
    assert events[0].reason == "join_failed"


async def test_a_room_that_closes_ends_the_session(engine, renders):
    room = MemoryRoom(realtime=True)
    one = session(engine, renders, room)
    one.start()
    await until(lambda: one.ready)
    room.on_event("closed", "the room was deleted")
    await one.closed.wait()
    assert one.end_reason == "room_closed"


async def test_an_engine_that_fails_ends_its_session_with_an_error(engine, renders):
    events = []
    one = session(engine, renders, MemoryRoom(realtime=True), events)
    engine.actors[0].fault = RuntimeError("out of memory")
    one.start()
    await one.closed.wait()
    assert events[-1].reason == "server_error"


async def test_expiry_is_announced_and_kept(engine, renders):
    events = []
    one = session(
        engine,
        renders,
        MemoryRoom(realtime=True),
        events,
        expiration=datetime.now(UTC) + timedelta(seconds=0.3),
        lifecycle=LifecycleSettings(expiring_notice_s=0.2),
    )
    one.start()
    await one.closed.wait()
    assert SessionExpiring in kinds(events)
    assert events[-1].reason == "expired"


async def test_losing_the_socket_ends_the_session_unless_another_comes_in_time(engine, renders):
    one = session(engine, renders, MemoryRoom(realtime=True))
    one.start()
    one.attach()
    one.detach(clean=False, grace_s=0.3)
    await asyncio.sleep(0.05)
    one.attach()
    await asyncio.sleep(0.4)
    assert one.end_reason is None
    one.detach(clean=True, grace_s=30)
    await one.closed.wait()
    assert one.end_reason == "websocket_closed"


async def test_nobody_ever_came(engine, renders):
    one = session(
        engine,
        renders,
        MemoryRoom(realtime=True),
        lifecycle=LifecycleSettings(never_joined_s=0.1),
    )
    one.start()
    await one.closed.wait()
    assert one.end_reason == "never_joined"


async def test_the_last_viewer_leaving_ends_a_session_without_socket(engine, renders):
    room = MemoryRoom(realtime=True)
    one = session(engine, renders, room, lifecycle=LifecycleSettings(empty_room_grace_s=0.05))
    one.start()
    await until(lambda: one.ready)
    one.attach()
    room.on_event("participant_left", "")
    await asyncio.sleep(0.15)
    assert one.end_reason is None
    one._attached = False
    room.on_event("participant_left", "")
    await one.closed.wait()
    assert one.end_reason == "room_empty"


async def test_metrics_and_draining_reach_subscribers(engine, renders):
    events = []
    one = session(
        engine,
        renders,
        MemoryRoom(realtime=True),
        events,
        lifecycle=LifecycleSettings(metrics_interval_s=0.05),
    )
    one.start()
    await until(lambda: SessionMetrics in kinds(events))
    one.drain(datetime.now(UTC))
    assert SessionDraining in kinds(events)
    assert one.info.draining is not None
    await one.end("server_shutdown")


async def test_a_sender_far_ahead_is_slowed_down_and_then_refused(engine, renders):
    one = session(engine, renders, MemoryRoom(realtime=True), backlog_s=60)
    one.start()
    begun = time.perf_counter()
    for _ in range(30):
        assert await one.speak(SECOND, 48_000) is not None
    free = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(10):
        await one.speak(SECOND, 48_000)
    slowed = time.perf_counter() - begun
    assert slowed > 0.4
    assert slowed > free
    while await one.speak(SECOND, 48_000) is not None:
        pass
    await one.interrupt()
    assert await one.speak(SECOND, 48_000) is not None
    await one.end("client_request")


async def test_a_hundred_sessions_leave_nothing_behind(engine, renders):
    async def life() -> None:
        events = []
        one = session(engine, renders, MemoryRoom(realtime=True), events)
        one.start()
        await until(lambda: one.ready)
        await one.speak(SECOND, 48_000)
        await one.interrupt()
        await one.end("client_request")
        engine.actors.clear()

    await life()
    gc.collect()
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    files, objects = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
    for _ in range(10):
        await asyncio.gather(*(life() for _ in range(10)))
    await asyncio.sleep(0.05)
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
    assert len(gc.get_objects()) < objects + 2000


# A room that people meet in


def in_shared_room(engine, renders, events, **seconds):
    room = MemoryRoom(realtime=True, multi_party=True)
    one = session(engine, renders, room, events, lifecycle=LifecycleSettings(**seconds))
    one.start()
    return one, room


async def test_a_shared_room_that_empties_ends_the_session_in_spite_of_a_socket(engine, renders):
    events = []
    one, room = in_shared_room(engine, renders, events, empty_room_grace_s=0.02)
    await until(lambda: one.ready)
    one.attach()
    room.on_event("participant_left", "")
    await asyncio.wait_for(one.closed.wait(), 5)
    assert events[-1].reason == room.closed_for == "room_empty"


async def test_somebody_who_comes_back_in_time_keeps_the_session(engine, renders):
    events = []
    one, room = in_shared_room(engine, renders, events, empty_room_grace_s=0.05, agent_left_s=0.05)
    await until(lambda: one.ready)
    for kind in ("participant_left", "agent_left", "participant_joined", "agent_joined"):
        room.on_event(kind, "")
    await asyncio.sleep(0.2)
    assert one.end_reason is None
    await one.end("client_request")


async def test_a_room_of_its_own_outlives_its_viewers_while_a_socket_is_there(engine, renders):
    events, room = [], MemoryRoom(realtime=True)
    grace = LifecycleSettings(empty_room_grace_s=0.02)
    one = session(engine, renders, room, events, lifecycle=grace)
    one.start()
    await until(lambda: one.ready)
    one.attach()
    room.on_event("participant_left", "")
    await asyncio.sleep(0.1)
    assert one.end_reason is None
    await one.end("client_request")


@pytest.mark.parametrize("socket", [False, True])
async def test_the_agent_left_and_nobody_else_speaks(engine, renders, socket):
    events = []
    one, room = in_shared_room(engine, renders, events, agent_left_s=0.02)
    room.viewers = 1
    await until(lambda: one.ready)
    if socket:
        one.attach()
    room.on_event("agent_left", "")
    if socket:
        await asyncio.sleep(0.1)
        assert one.end_reason is None
        await one.end("client_request")
    else:
        await asyncio.wait_for(one.closed.wait(), 5)
        assert events[-1].reason == "agent_left"


async def test_nobody_ever_joined_a_shared_room(engine, renders):
    events = []
    one, _ = in_shared_room(engine, renders, events, never_joined_s=0.05)
    await asyncio.wait_for(one.closed.wait(), 5)
    assert events[-1].reason == "never_joined"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("removed", "removed_from_room"),
        ("deleted", "room_closed"),
        ("connection_lost", "connection_lost"),
    ],
)
async def test_out_of_the_room_for_good(engine, renders, told, reason):
    events = []
    one, room = in_shared_room(engine, renders, events)
    await until(lambda: one.ready)
    room.on_event("closed", told)
    await asyncio.wait_for(one.closed.wait(), 5)
    assert events[-1].reason == reason


async def test_reconnects_are_counted(engine, renders):
    one, room = in_shared_room(engine, renders, [])
    await until(lambda: one.ready)
    room.on_event("reconnected", "full")
    room.on_event("reconnected", "resume")
    room.on_event("reconnected", "full")
    text = one._metrics.exposition().decode()
    count = 'avatar_transport_reconnects_total{kind="full",transport="memory"} 2.0'
    assert count in text
    await one.end("client_request")
