"""Rooms of our own LiveKit server, against the one of the tests."""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr

pytest.importorskip("livekit.api", reason="needs the package livekit-api")
pytest.importorskip("livekit.rtc", reason="needs the package livekit")
pytest.importorskip("aiohttp", reason="needs the package aiohttp")
jwt = pytest.importorskip("jwt", reason="needs the package PyJWT")

import api.sessions.livekit_rooms  # noqa: E402
from api.sessions.livekit_rooms import LiveKitRooms, open_livekit  # noqa: E402
from api.settings import LiveKitSettings, SettingsError  # noqa: E402
from tests.fakes.livekit_server import running_livekit  # noqa: E402
from tests.fakes.livekit_viewer import LiveKitViewer  # noqa: E402

SECRET = "a secret of at least 32 characters"
SESSION = "sess_01J9Z8Q2M4T6V8X0Z2B4D6F8H0"
NOW = datetime.now(UTC)


def settings(**changes) -> LiveKitSettings:
    facts = {"url": "wss://lk.example", "api_key": "devkey", "api_secret": SecretStr(SECRET)}
    return LiveKitSettings(**{**facts, **changes})


def claims(token: str) -> dict:
    return jwt.decode(token, SECRET, algorithms=["HS256"], issuer="devkey")


def test_the_two_tokens_of_a_room():
    room = LiveKitRooms(settings()).open(SESSION, NOW + timedelta(hours=1), NOW)
    assert (room.url, room.worker_url) == ("wss://lk.example", "wss://lk.example")
    client, avatar = claims(room.client_token), claims(room.avatar_token)
    assert (client["sub"], client["name"]) == ("client-B4D6F8H0",) * 2
    assert client["video"] == {
        "roomJoin": True,
        "room": SESSION,
        "canSubscribe": True,
        "canPublish": False,
        "canPublishData": True,
    }
    assert "attributes" not in client
    assert (avatar["sub"], avatar["name"]) == ("agenthuman-avatar-agent",) * 2
    assert avatar["kind"] == "agent"
    assert avatar["attributes"] == {"lk.publish_on_behalf": "client-B4D6F8H0"}
    assert avatar["video"]["room"] == SESSION
    assert avatar["video"]["canPublish"] is True
    for each in (client, avatar):
        assert each["exp"] - time.time() == pytest.approx(70 * 60, abs=5)


def test_a_session_without_an_end_has_a_day():
    room = LiveKitRooms(settings()).open(SESSION, None, NOW)
    assert claims(room.client_token)["exp"] - time.time() == pytest.approx(24 * 3600, abs=5)


def test_no_token_shows():
    rooms = LiveKitRooms(settings())
    room = rooms.open(SESSION, None, NOW)
    for secret in (SECRET, room.client_token, room.avatar_token):
        assert secret not in repr(room) + repr(rooms)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": None}, "AVATAR_API_LIVEKIT__URL"),
        ({"api_key": None}, "AVATAR_API_LIVEKIT__API_KEY"),
        ({"api_secret": None}, "AVATAR_API_LIVEKIT__API_SECRET"),
    ],
)
def test_half_a_server_is_refused(changes, named):
    with pytest.raises(SettingsError, match=named):
        open_livekit(settings(**changes))


def test_no_server_is_none():
    assert open_livekit(LiveKitSettings()) is None


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "livekit.api", None)
    with pytest.raises(SettingsError, match=r"\.\[livekit\]"):
        open_livekit(settings())


async def test_the_client_meets_the_avatar_and_is_put_out_when_the_room_closes():
    async with running_livekit() as server:
        rooms = LiveKitRooms(settings(url="wss://public.example", worker_url=server.url))
        room = rooms.open(SESSION, NOW + timedelta(hours=1), NOW)
        assert (room.url, room.worker_url) == ("wss://public.example", server.url)
        try:
            async with (
                LiveKitViewer(server.url, room.avatar_token) as avatar,
                LiveKitViewer(server.url, room.client_token) as client,
            ):
                [seen] = client.room.remote_participants.values()
                assert (seen.identity, seen.name) == ("agenthuman-avatar-agent",) * 2
                assert (
                    seen.attributes["lk.publish_on_behalf"]
                    == client.room.local_participant.identity
                )
                out = asyncio.Event()
                avatar.room.on("disconnected", lambda *_: out.set())
                await rooms.close(SESSION)
                await asyncio.wait_for(out.wait(), 5)
            assert SESSION not in server.rooms
            with structlog.testing.capture_logs() as logs:
                await rooms.close(SESSION)  # it is gone already
            assert logs == []
        finally:
            await rooms.aclose()


async def test_closing_never_raises_nor_takes_long(monkeypatch):
    monkeypatch.setattr(api.sessions.livekit_rooms, "CLOSE_TIMEOUT_S", 0.3)

    async def mute(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for url in (f"ws://127.0.0.1:{port}", "ws://127.0.0.1:1"):
            rooms = LiveKitRooms(settings(url=url))
            with structlog.testing.capture_logs() as logs:
                await asyncio.wait_for(rooms.close(SESSION), 3)
            assert logs[0]["event"] == "room was not deleted"
            await rooms.aclose()
    async with running_livekit() as server:
        rooms = LiveKitRooms(
            settings(url=server.url, api_secret=SecretStr("another secret of 32 characters."))
        )
        with structlog.testing.capture_logs() as logs:
            await rooms.close(SESSION)
        assert logs[0]["code"] == "unauthenticated"
        await rooms.aclose()
