"""What every room promises. A new room joins by one more entry in ``ROOMS``."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.clock import FakeClock, settle
from tests.fakes.daily import FakeDaily
from tests.worker.rooms.signals import SILENCE, flat
from worker.clock import NS_PER_MS, NS_PER_SECOND
from worker.rooms.daily.room import DailyRoom
from worker.rooms.file.room import FileRoom
from worker.rooms.port import SAMPLES_PER_FRAME, Room, RoomError
from worker.rooms.whep.room import WhepRoom

CANVAS = Canvas(64, 64)
PICTURE = flat(CANVAS, 90)
FRAME_NS = 40 * NS_PER_MS

MakeRoom = Callable[[Path, FakeClock], Room]


def livekit_room(folder: Path, clock: FakeClock) -> Room:
    pytest.importorskip("livekit.rtc", reason="needs the package livekit")
    from tests.fakes.livekit_link import MemoryLink
    from worker.rooms.livekit.room import LiveKitRoom

    return LiveKitRoom("ws://unused", "token", CANVAS, clock=clock, link=MemoryLink())


LIVE: dict[str, MakeRoom] = {
    "file": lambda folder, clock: FileRoom(
        folder / "out.mp4", CANVAS, realtime=True, clock=clock, preset="ultrafast"
    ),
    "whep": lambda folder, clock: WhepRoom("s1", CANVAS, clock),
    "daily": lambda folder, clock: DailyRoom(
        "https://example.daily.co/room", "a token", CANVAS, clock=clock, sdk=FakeDaily(clock)
    ),
    "livekit": livekit_room,
}
ROOMS: dict[str, MakeRoom] = {
    **LIVE,
    "file-fast": lambda folder, clock: FileRoom(
        folder / "out.mp4", CANVAS, realtime=False, clock=clock, preset="ultrafast"
    ),
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=ROOMS)
def new_room(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Room:
    return ROOMS[request.param](tmp_path, clock)


@pytest.fixture
async def room(new_room: Room) -> AsyncIterator[Room]:
    await new_room.connect(lambda kind, reason: None)
    yield new_room
    await new_room.aclose()


@pytest.fixture(params=LIVE)
async def live_room(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Room]:
    room = LIVE[request.param](tmp_path, clock)
    await room.connect(lambda kind, reason: None)
    yield room
    await room.aclose()


async def _publish(room: Room, frames: int) -> None:
    for _ in range(frames):
        await room.publish(PICTURE, SILENCE, False)


async def test_a_live_room_paces_whoever_publishes(live_room: Room, clock: FakeClock) -> None:
    assert live_room.realtime
    begun = clock.now_ns()
    await clock.drive(_publish(live_room, 50))
    assert clock.now_ns() - begun == 49 * FRAME_NS
    assert live_room.played == 49 * SAMPLES_PER_FRAME
    await clock.advance(NS_PER_SECOND)
    assert live_room.played == 50 * SAMPLES_PER_FRAME


async def test_no_more_than_forty_milliseconds_wait_inside(
    live_room: Room, clock: FakeClock
) -> None:
    for n in range(1, 30):
        await clock.drive(live_room.publish(PICTURE, SILENCE, False))
        assert 0 <= n * SAMPLES_PER_FRAME - live_room.played <= SAMPLES_PER_FRAME
        await clock.advance(n * NS_PER_MS)


async def test_a_room_without_a_time_of_its_own_does_not_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    room = ROOMS["file-fast"](tmp_path, clock)
    assert not room.realtime
    begun = clock.now_ns()
    await room.connect(lambda kind, reason: None)
    await _publish(room, 100)
    assert clock.now_ns() == begun
    assert room.played == 100 * SAMPLES_PER_FRAME
    await room.aclose()


async def test_clear_releases_a_waiting_publish_and_is_not_counted_as_played(
    live_room: Room, clock: FakeClock
) -> None:
    await clock.drive(_publish(live_room, 5))
    await clock.advance(5 * NS_PER_MS)
    waiting = asyncio.create_task(live_room.publish(PICTURE, SILENCE, True))
    await settle()
    assert not waiting.done()
    cleared = live_room.clear()
    # The frame that waits, whole; of the one being heard a room may keep the rest.
    assert SAMPLES_PER_FRAME <= cleared < 2 * SAMPLES_PER_FRAME
    await settle()
    assert waiting.done()
    assert live_room.clear() == 0
    await clock.advance(NS_PER_SECOND)
    assert live_room.played == 6 * SAMPLES_PER_FRAME - cleared


async def test_a_second_lost_is_neither_made_up_for_nor_counted(
    live_room: Room, clock: FakeClock
) -> None:
    await clock.drive(_publish(live_room, 25))
    await clock.suspend(NS_PER_SECOND)
    assert live_room.played == 25 * SAMPLES_PER_FRAME
    begun = clock.now_ns()
    await clock.drive(_publish(live_room, 25))
    assert clock.now_ns() - begun == 24 * FRAME_NS


async def test_played_never_goes_back(room: Room, clock: FakeClock) -> None:
    chance = random.Random(3)
    last = room.played
    for _ in range(150):
        await clock.drive(room.publish(PICTURE, SILENCE, chance.random() < 0.5))
        assert room.played >= last
        last = room.played
        await clock.advance(chance.choice([0, 0, 3, 41, 200]) * NS_PER_MS)
        if chance.random() < 0.2:
            room.clear()
        assert room.played >= last
        last = room.played


async def test_a_missing_picture_stands_for_the_last_one(room: Room, clock: FakeClock) -> None:
    await clock.drive(room.publish(None, SILENCE, True))
    await clock.drive(room.publish(PICTURE, SILENCE, True))
    await clock.drive(room.publish(None, SILENCE, True))


@pytest.mark.parametrize(
    ("picture", "audio", "complaint"),
    [
        (np.zeros((64, 64), np.uint8), SILENCE, r"shape \(96, 64\)"),
        (np.zeros((96, 64, 3), np.uint8), SILENCE, r"shape \(96, 64\)"),
        (PICTURE.astype(np.float32), SILENCE, "uint8.*float32"),
        (b"picture", SILENCE, "uint8.*bytes"),
        (PICTURE, SILENCE[:960], r"shape \(1920,\)"),
        (PICTURE, SILENCE[:, None], r"shape \(1920,\)"),
        (PICTURE, SILENCE.astype(np.float32), "int16.*float32"),
        (PICTURE, None, "int16.*NoneType"),
    ],
)
async def test_wrong_arrays_are_refused_before_native_code_sees_them(
    room: Room, clock: FakeClock, picture: Any, audio: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await room.publish(picture, audio, True)
    await clock.drive(room.publish(PICTURE, SILENCE, True))


async def test_arrays_may_be_views(room: Room, clock: FakeClock) -> None:
    wide = np.repeat(np.repeat(PICTURE, 2, axis=0), 2, axis=1)
    await clock.drive(room.publish(wide[::2, ::2], np.repeat(SILENCE, 2)[::2], True))


async def test_publishing_needs_an_open_room(new_room: Room, clock: FakeClock) -> None:
    with pytest.raises(RoomError, match="connect"):
        await new_room.publish(PICTURE, SILENCE, True)
    await new_room.connect(lambda kind, reason: None)
    await clock.drive(new_room.publish(PICTURE, SILENCE, True))
    await new_room.aclose()
    played = new_room.played
    with pytest.raises(RoomError, match="closed"):
        await new_room.publish(PICTURE, SILENCE, True)
    assert new_room.played == played
    assert new_room.clear() == 0
    with pytest.raises(RoomError):
        await new_room.connect(lambda kind, reason: None)


async def test_a_waiting_publish_is_told_that_the_room_closed(
    live_room: Room, clock: FakeClock
) -> None:
    await live_room.publish(PICTURE, SILENCE, True)
    waiting = asyncio.create_task(live_room.publish(PICTURE, SILENCE, True))
    await settle()
    await live_room.aclose()
    with pytest.raises(RoomError, match="closed"):
        await waiting


async def test_leaving_twice_or_without_having_joined_is_fine(new_room: Room) -> None:
    await new_room.aclose()
    await new_room.aclose()


async def test_nothing_is_left_behind(new_room: Room, clock: FakeClock) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    await new_room.connect(lambda kind, reason: None)
    await clock.drive(_publish(new_room, 10))
    await asyncio.gather(new_room.aclose(), new_room.aclose())
    await settle()
    assert asyncio.all_tasks() == tasks
    assert set(threading.enumerate()) <= threads
