"""The LiveKit room's own rules, on a clock that stands still until told and without the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

pytest.importorskip("livekit.rtc", reason="needs the package livekit")

from models.engine import Canvas
from tests.fakes.clock import FakeClock, settle
from tests.fakes.livekit_link import MemoryLink
from tests.fakes.room_notes import RoomNotes
from tests.worker.rooms.signals import SILENCE, flat, tone
from worker.clock import NS_PER_MS, NS_PER_SECOND
from worker.rooms.livekit.link import LiveKitLink
from worker.rooms.livekit.room import LiveKitRoom
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError

SMALL = Canvas(64, 64)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def link() -> MemoryLink:
    return MemoryLink()


@pytest.fixture
async def quiet_room(clock: FakeClock, link: MemoryLink) -> AsyncIterator[LiveKitRoom]:
    room = LiveKitRoom("ws://unused", "token", SMALL, clock=clock, link=link)
    yield room
    await room.aclose()


async def test_a_picture_goes_out_when_its_sound_begins(
    quiet_room: LiveKitRoom, clock: FakeClock, link: MemoryLink
) -> None:
    await quiet_room.connect(RoomNotes())
    await quiet_room.publish(flat(SMALL, 50), SILENCE, True)
    await settle()
    assert link.shown == [50]
    waiting = asyncio.create_task(quiet_room.publish(flat(SMALL, 60), SILENCE, True))
    await clock.advance(39 * NS_PER_MS)
    assert link.shown == [50]
    await clock.advance(1 * NS_PER_MS)
    assert link.shown == [50, 60]
    await waiting


async def test_the_newest_picture_wins_when_several_are_due(
    quiet_room: LiveKitRoom, clock: FakeClock, link: MemoryLink
) -> None:
    await quiet_room.connect(RoomNotes())
    await quiet_room.publish(flat(SMALL, 50), SILENCE, True)
    waiting = asyncio.create_task(quiet_room.publish(flat(SMALL, 60), SILENCE, True))
    await settle()
    await clock.suspend(500 * NS_PER_MS)
    await clock.advance(0)
    await waiting
    assert link.shown[-1] == 60
    assert quiet_room.played == 2 * SAMPLES_PER_FRAME


async def test_clear_takes_back_all_but_the_ten_milliseconds_under_way(
    quiet_room: LiveKitRoom, clock: FakeClock, link: MemoryLink
) -> None:
    await quiet_room.connect(RoomNotes())
    await quiet_room.publish(flat(SMALL, 50), tone(0), True)
    await clock.advance(15 * NS_PER_MS)
    assert quiet_room.clear() == 2 * 480
    assert link.clears == 1
    await clock.advance(NS_PER_SECOND)
    assert quiet_room.played == 2 * 480


async def test_who_comes_and_goes(quiet_room: LiveKitRoom, link: MemoryLink) -> None:
    notes = RoomNotes()
    link.present = {}
    await quiet_room.connect(notes)
    link.come("recorder", recorder=True)
    assert (notes.kinds, quiet_room.viewers) == ([], 0)
    link.come("ada")
    link.come("helper", agent=True)
    assert quiet_room.viewers == 2
    link.go("ada")
    assert notes.kinds == ["participant_joined", "participant_joined", "agent_joined"]
    link.go("helper")
    assert notes.kinds[3:] == ["participant_left", "agent_left"]


async def test_the_agent_is_the_one_the_token_names(clock: FakeClock) -> None:
    link, notes = MemoryLink(speaks_for="mine"), RoomNotes()
    room = LiveKitRoom("ws://unused", "token", SMALL, clock=clock, link=link)
    link.come("other", agent=True)
    await room.connect(notes)
    assert "agent_joined" not in notes.kinds
    link.come("mine", agent=True)
    assert notes.kinds[-1] == "agent_joined"
    link.go("other")
    assert "agent_left" not in notes.kinds
    link.go("mine")
    assert notes.kinds[-1] == "agent_left"
    await room.aclose()


async def test_a_connection_that_stays_away_is_lost_after_twenty_seconds(
    quiet_room: LiveKitRoom, clock: FakeClock, link: MemoryLink
) -> None:
    notes = RoomNotes()
    await quiet_room.connect(notes)
    link.on_event("reconnecting", "")
    await clock.advance(19 * NS_PER_SECOND)
    link.on_event("reconnected", "resume")
    await clock.advance(30 * NS_PER_SECOND)
    assert notes.events == [("reconnected", "resume")]
    link.on_event("reconnecting", "")
    await clock.advance(19 * NS_PER_SECOND)
    assert notes.kinds == ["reconnected"]
    await clock.advance(1 * NS_PER_SECOND)
    assert notes.events[-1] == ("closed", "connection_lost")
    with pytest.raises(RoomError, match="lost"):
        await quiet_room.publish(None, SILENCE, False)
    await quiet_room.aclose("connection_lost")
    assert link.told == [{"state": "connected"}]  # nobody is left to be told more
    assert link.closed


def test_sizes_that_native_code_cannot_take_are_refused_before() -> None:
    async def refuse() -> None:
        good = LiveKitLink("ws://unused", "token", SMALL, 1_000_000)
        with pytest.raises(ValueError, match="size"):
            good.capture_video(np.zeros((63, 64), np.uint8))
        with pytest.raises(ValueError, match="size"):
            await good.capture_audio(np.zeros(100, np.int16))

    asyncio.run(refuse())
