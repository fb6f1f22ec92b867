"""The LiveKit room with the real client library, against a server in this process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

pytest.importorskip("livekit.rtc", reason="needs the package livekit")
pytest.importorskip("aiohttp", reason="needs the package aiohttp")
pytest.importorskip("jwt", reason="needs the package PyJWT")
pytest.importorskip("livekit.api", reason="needs the package livekit-api")

from livekit import api

from models.engine import Canvas
from tests.fakes.livekit_server import LiveKitServer, running_livekit
from tests.fakes.livekit_viewer import LiveKitViewer, planes
from tests.fakes.room_notes import RoomNotes, until
from tests.worker.rooms.signals import BARS, SILENCE, colour_bars, flat, tone
from worker.rooms.livekit.room import LiveKitRoom
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError

CANVAS = Canvas(320, 240)


@pytest.fixture
async def server() -> AsyncIterator[LiveKitServer]:
    async with running_livekit() as server:
        yield server


@asynccontextmanager
async def shown(
    server: LiveKitServer,
    notes: RoomNotes,
    pictures: Callable[[int], np.ndarray | None],
    sounds: Callable[[int], np.ndarray] = lambda n: SILENCE,
    **options: float,
) -> AsyncIterator[LiveKitRoom]:
    """A joined room that somebody publishes to all the time."""
    token = server.token("avatar", "r", kind="agent")
    room = LiveKitRoom(server.url, token, CANVAS, **options)

    async def play() -> None:
        n = 0
        while True:
            await room.publish(pictures(n), sounds(n), True)
            n += 1

    playing: asyncio.Task[None] | None = None
    try:
        await room.connect(notes)
        playing = asyncio.create_task(play())
        yield room
    finally:
        if playing is not None:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await room.aclose("client_request")


def watcher(server: LiveKitServer) -> LiveKitViewer:
    return LiveKitViewer(server.url, server.token("ada", "r"))


async def test_a_viewer_sees_and_hears_what_was_published(server: LiveKitServer) -> None:
    notes, bars = RoomNotes(), colour_bars(CANVAS)
    async with watcher(server) as ada:
        async with shown(server, notes, lambda n: bars, tone) as room:
            await until(lambda: ada.pictures and len(ada.sounds) > 20)
            await asyncio.sleep(0.5)
            ada.forget()
            begun = room.played
            await asyncio.sleep(2.0)
            pictures, pcm = list(ada.pictures), ada.pcm
            heard_s = (room.played - begun) / 48_000
            # Against the room's own clock: a slow machine slows both.
            assert len(pictures) / heard_s == pytest.approx(25, abs=3)
            assert len(pcm) / 48_000 == pytest.approx(heard_s, abs=0.3)
            assert ada.states == [{"state": "connected"}]
            names = {name: one.source for name, one in ada.tracks.items()}
            participant = ada.room.remote_participants["avatar"]
            assert len(participant.track_publications) == 2
            assert [notes.kinds, room.viewers] == [["participant_joined"], 1]
        await until(lambda: len(ada.states) == 2 and not ada.room.remote_participants)
        assert ada.states[-1] == {"state": "disconnected", "reason": "client_request"}
    assert names == {"avatar_video": 1, "avatar_audio": 2}  # camera and microphone
    frame = pictures[-1][1]
    assert (frame.width, frame.height) == (CANVAS.width, CANVAS.height)
    luma, cb, cr = planes(frame)
    for n, colour in enumerate(BARS.values()):
        x = n * 40 + 20
        seen = (luma[120, x], cb[60, x // 2], cr[60, x // 2])
        assert np.abs(np.subtract(seen, colour, dtype=int)).max() < 12
    spectrum = np.abs(np.fft.rfft(pcm.astype(float) * np.hanning(len(pcm))))
    assert np.argmax(spectrum) * 48_000 / len(pcm) == pytest.approx(440, abs=3)


async def test_idle_pictures_come_before_any_sound_and_to_whoever_joins_late(
    server: LiveKitServer,
) -> None:
    async with shown(server, RoomNotes(), lambda n: flat(CANVAS, 120)):
        await until(lambda: server.peer("r", "avatar") and len(server.room("r").tracks) == 2)
        async with watcher(server) as ada:
            await until(lambda: len(ada.pictures) > 5 and len(ada.sounds) > 20)
            luma, _, _ = planes(ada.pictures[-1][1])
            assert luma.mean() == pytest.approx(120, abs=4)
            assert np.abs(ada.pcm).max() <= 2  # Opus is not exact


async def test_clear_silences_the_room_and_counts_exactly(server: LiveKitServer) -> None:
    async with watcher(server) as ada:
        room = LiveKitRoom(server.url, server.token("avatar", "r"), CANVAS)
        await room.connect(RoomNotes())
        for n in range(35):
            await room.publish(None, tone(n), True)
        waiting = asyncio.create_task(room.publish(None, tone(35), True))
        await asyncio.sleep(0.005)
        assert np.abs(ada.pcm).max() > 6_000
        cleared = room.clear()
        assert cleared > SAMPLES_PER_FRAME
        await asyncio.wait_for(waiting, 2)
        assert room.clear() == 0
        for _ in range(25):
            await room.publish(None, SILENCE, False)
        await until(lambda: room.played == (36 + 25) * SAMPLES_PER_FRAME - cleared)
        ada.forget()
        for _ in range(25):
            await room.publish(None, SILENCE, False)
        await until(lambda: len(ada.sounds) > 20)
        assert np.abs(ada.pcm).max() < 100
        await room.aclose()


async def test_a_lost_connection_comes_back_by_joining_anew(server: LiveKitServer) -> None:
    notes = RoomNotes()
    async with watcher(server) as ada, shown(server, notes, lambda n: flat(CANVAS, 99)) as room:
        await until(lambda: len(ada.pictures) > 5)
        server.kill_socket("r", "avatar")
        await until(lambda: ("reconnected", "full") in notes.events)
        ada.forget()
        begun = room.played
        await until(lambda: len(ada.pictures) > 10 and len(ada.sounds) > 20)
        assert room.played > begun
        assert "closed" not in notes.kinds
        # Who was there all the time has neither come nor gone.
        assert (notes.kinds.count("participant_left"), room.viewers) == (0, 1)
        assert server.resumes_refused >= 1


async def test_a_lost_connection_comes_back_as_the_same_participant(
    server: LiveKitServer,
) -> None:
    server.faults.allow_resume = True
    notes = RoomNotes()
    async with watcher(server) as ada, shown(server, notes, lambda n: flat(CANVAS, 99)):
        await until(lambda: len(ada.pictures) > 5)
        server.kill_socket("r", "avatar")
        await until(lambda: ("reconnected", "resume") in notes.events, 15)
        ada.forget()
        await until(lambda: len(ada.pictures) > 10)
        assert server.resumes == 1


async def test_a_server_that_stays_away_ends_it(server: LiveKitServer) -> None:
    notes = RoomNotes()
    async with shown(server, notes, lambda n: None, reconnect_limit_s=0.3) as room:
        server.faults.refuse_joins = True
        server.kill_socket("r", "avatar")
        await until(lambda: ("closed", "connection_lost") in notes.events)
        with pytest.raises(RoomError, match="lost"):
            await room.publish(None, SILENCE, False)


@pytest.mark.parametrize("reason", ["removed", "deleted", "replaced"])
async def test_being_thrown_out(server: LiveKitServer, reason: str) -> None:
    notes = RoomNotes()
    async with (
        shown(server, notes, lambda n: None) as room,
        api.LiveKitAPI(server.url, server.key, server.secret) as service,
    ):
        if reason == "removed":
            who = api.RoomParticipantIdentity(room="r", identity="avatar")
            await service.room.remove_participant(who)
        elif reason == "deleted":
            await service.room.delete_room(api.DeleteRoomRequest(room="r"))
        else:
            twin = LiveKitViewer(server.url, server.token("avatar", "r"))
            async with twin:
                await until(lambda: "closed" in notes.kinds)
        await until(lambda: "closed" in notes.kinds)
        told = "deleted" if reason == "deleted" else "removed"
        assert notes.events[-1] == ("closed", told)
        with pytest.raises(RoomError, match=told):
            await room.publish(None, SILENCE, False)


@pytest.mark.parametrize("fault", ["port", "token", "url", "expired"])
async def test_why_it_cannot_join(
    server: LiveKitServer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, token = server.url, server.token("avatar", "r")
    if fault == "port":
        url = "ws://127.0.0.1:9"
    elif fault == "url":
        url = "ws://["
    elif fault == "token":
        server.faults.refuse_token = "this room is not for you"
    else:
        token = server.token("avatar", "r", lifetime_s=-60)
    room = LiveKitRoom(url, token, CANVAS)
    with pytest.raises(RoomError, match="cannot join the LiveKit room") as failure:
        await room.connect(RoomNotes())
    assert token not in str(failure.value) + caplog.text
    if fault == "token":
        assert "not for you" in str(failure.value)
    await room.aclose()


async def test_a_join_given_up_halfway_leaves_nobody_in_the_room(server: LiveKitServer) -> None:
    server.faults.join_delay_s = 0.5
    room = LiveKitRoom(server.url, server.token("avatar", "r"), CANVAS)
    joining = asyncio.create_task(room.connect(RoomNotes()))
    await asyncio.sleep(0.3)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    await room.aclose("join_failed")
    await until(lambda: server.joins == 0 or not server.room("r").peers)


async def test_rooms_leave_nothing_behind(server: LiveKitServer) -> None:
    async def once() -> None:
        async with shown(server, RoomNotes(), lambda n: None):
            await asyncio.sleep(0.1)

    await once()
    await until(lambda: not server.room("r").peers)
    tasks = {task for task in asyncio.all_tasks() if "avatar" in task.get_name()}
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await once()
    await until(lambda: not server.room("r").peers)
    gc.collect()
    ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("livekit")]
    assert (ours, tasks) == ([], set())
    assert threading.active_count() <= threads
    await until(lambda: len(os.listdir("/proc/self/fd")) <= files + 4)


async def test_recorders_are_nobody_and_an_address_may_begin_with_http(
    server: LiveKitServer,
) -> None:
    notes = RoomNotes()
    recorder = server.token("recorder", "r", kind="egress")
    url = server.url.replace("ws://", "http://")
    async with LiveKitViewer(server.url, recorder):
        room = LiveKitRoom(url, server.token("avatar", "r"), CANVAS)
        await room.connect(notes)
        async with LiveKitViewer(server.url, server.token("bot", "r", kind="agent")):
            await until(lambda: room.agent == "bot")
            assert room.viewers == 1
        await until(lambda: "agent_left" in notes.kinds)
        assert (room.viewers, notes.kinds.count("participant_left")) == (0, 1)
        await room.aclose()
