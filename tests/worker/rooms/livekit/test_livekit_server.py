"""The LiveKit room on a LiveKit server of your own.

    LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret \\
        pytest -m livekit_server
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("livekit.rtc", reason="needs the package livekit")
pytest.importorskip("livekit.api", reason="needs the package livekit-api")

from livekit import api

from models.engine import Canvas
from tests.fakes.livekit_viewer import LiveKitViewer, planes
from tests.worker.rooms.signals import BARS, SILENCE, colour_bars, tone
from worker.rooms.livekit.room import LiveKitRoom
from worker.rooms.port import RoomError

CANVAS = Canvas(320, 240)
VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")

pytestmark = [
    pytest.mark.livekit_server,
    pytest.mark.skipif(
        not all(os.environ.get(name) for name in VARIABLES), reason=f"needs {', '.join(VARIABLES)}"
    ),
]


@dataclass(frozen=True)
class Place:
    """A room of this test's own."""

    url: str
    name: str
    service: api.LiveKitAPI

    def token(self, identity: str, kind: str = "standard") -> str:
        grants = api.VideoGrants(room_join=True, room=self.name)
        return (
            api.AccessToken().with_identity(identity).with_kind(kind).with_grants(grants).to_jwt()
        )


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    url = os.environ["LIVEKIT_URL"]
    async with api.LiveKitAPI(url) as service:
        yield Place(url, f"test-{secrets.token_hex(6)}", service)


@asynccontextmanager
async def avatar(place: Place, events: list[tuple[str, str]]) -> AsyncIterator[LiveKitRoom]:
    """Joined, and showing colour bars with a tone."""
    room = LiveKitRoom(place.url, place.token("avatar", "agent"), CANVAS)
    bars = colour_bars(CANVAS)

    async def play() -> None:
        n = 0
        while True:
            await room.publish(bars, tone(n), True)
            n += 1

    playing: asyncio.Task[None] | None = None
    try:
        await room.connect(lambda kind, reason: events.append((kind, reason)))
        playing = asyncio.create_task(play())
        yield room
    finally:
        if playing is not None:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await room.aclose("client_request")


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_seen_heard_and_said_goodbye(place: Place) -> None:
    events: list[tuple[str, str]] = []
    async with LiveKitViewer(place.url, place.token("ada")) as ada:
        async with avatar(place, events) as room:
            await until(lambda: ada.pictures and len(ada.sounds) > 50)
            ada.forget()
            begun = room.played
            await asyncio.sleep(3)
            heard_s = (room.played - begun) / 48_000
            assert len(ada.pictures) / heard_s == pytest.approx(25, abs=3)
            luma, cb, cr = planes(ada.pictures[-1][1])
            assert luma.shape == (CANVAS.height, CANVAS.width)
            seen = (luma[120, 220], cb[60, 110], cr[60, 110])
            assert np.abs(np.subtract(seen, BARS["red"], dtype=int)).max() < 16
            spectrum = np.abs(np.fft.rfft(ada.pcm.astype(float)))
            assert np.argmax(spectrum) * 48_000 / len(ada.pcm) == pytest.approx(440, abs=3)
        await until(lambda: len(ada.states) == 2)
        assert ada.states == [
            {"state": "connected"},
            {"state": "disconnected", "reason": "client_request"},
        ]


async def test_clear(place: Place) -> None:
    async with LiveKitViewer(place.url, place.token("ada")) as ada:
        room = LiveKitRoom(place.url, place.token("avatar", "agent"), CANVAS)
        await room.connect(lambda kind, reason: None)
        for n in range(60):
            await room.publish(None, tone(n), True)
        await until(lambda: ada.sounds and np.abs(ada.pcm).max() > 6_000)
        room.clear()
        for _ in range(25):
            await room.publish(None, SILENCE, False)
        ada.forget()
        for _ in range(25):
            await room.publish(None, SILENCE, False)
        assert np.abs(ada.pcm).max() < 100
        await room.aclose()


async def test_the_last_one_leaves(place: Place) -> None:
    events: list[tuple[str, str]] = []
    async with avatar(place, events) as room:
        async with LiveKitViewer(place.url, place.token("ada")):
            await until(lambda: room.viewers == 1)
        await until(lambda: "participant_left" in dict(events))


@pytest.mark.parametrize("how", ["removed", "deleted"])
async def test_thrown_out(place: Place, how: str) -> None:
    events: list[tuple[str, str]] = []
    async with avatar(place, events):
        if how == "removed":
            who = api.RoomParticipantIdentity(room=place.name, identity="avatar")
            await place.service.room.remove_participant(who)
        else:
            await place.service.room.delete_room(api.DeleteRoomRequest(room=place.name))
        await until(lambda: ("closed", how) in events)


async def test_a_token_of_somebody_else(place: Place) -> None:
    token = (
        api.AccessToken("nobody", "x" * 32)
        .with_identity("avatar")
        .with_grants(api.VideoGrants(room_join=True, room=place.name))
        .to_jwt()
    )
    room = LiveKitRoom(place.url, token, CANVAS)
    with pytest.raises(RoomError) as failure:
        await room.connect(lambda kind, reason: None)
    assert token not in str(failure.value)
    await room.aclose()
