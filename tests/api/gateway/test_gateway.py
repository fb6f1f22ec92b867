from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.container.services import utc_now
from api.gateway import conversation as gateway_conversation
from api.gateway import socket as gateway_socket
from api.records import Session
from protocol.events import SessionDraining
from tests.fakes.resident import Running
from tests.fakes.session import FakeSession
from tests.fakes.speech_path import (
    PATIENCE_S,
    SpeechPath,
    closed,
    hear,
    hear_type,
    listening,
    say,
    speech_services,
    store_of,
    until,
)
from worker.ingest.websocket import SpeechServer
from worker.interfaces import AuthError, SpeechTarget
from worker.settings import WebSocketSettings

ESTABLISHED = "connection.established"


def speech(samples: int = 160) -> str:
    return base64.b64encode(b"\1\2" * samples).decode()


@pytest.fixture
async def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SpeechPath]:
    monkeypatch.setattr(gateway_conversation, "POLL_AGAIN_S", (0.01, 0.05))
    async with store_of(tmp_path) as store:
        account = await store.create_account("test", "enterprise", utc_now())
        async with listening(SpeechPath(speech_services(store, tmp_path), account.id)) as path:
            yield path


class Directory:
    """Lets one session's token in."""

    def __init__(self, target: FakeSession, token: str) -> None:
        self._target = target
        self._token = token

    def authenticate(self, session_id: str, token: str) -> SpeechTarget:
        if session_id != self._target.session_id or not hmac.compare_digest(token, self._token):
            raise AuthError("credentials")
        return self._target


@asynccontextmanager
async def speech_worker(
    path: SpeechPath, session: Session, port: int = 0, **settings: Any
) -> AsyncIterator[tuple[FakeSession, SpeechServer]]:
    """A worker's real speech socket over a session that only remembers."""
    target = FakeSession(session.id)
    directory = Directory(target, path.token(session.id))
    server = SpeechServer(directory, WebSocketSettings(**settings), "1.2.3")
    await server.start("127.0.0.1", port)
    try:
        yield target, server
    finally:
        await server.aclose()


@asynccontextmanager
async def served(
    path: SpeechPath, **settings: Any
) -> AsyncIterator[tuple[Session, FakeSession, SpeechServer]]:
    """A session whose worker is there."""
    session = await path.new_session()
    async with speech_worker(path, session, **settings) as (target, server):
        await path.place_at(session, f"ws://127.0.0.1:{server.port}/v1/ws")
        yield session, target, server


@asynccontextmanager
async def scripted_worker(
    handler: Callable[[ServerConnection], Any], **options: Any
) -> AsyncIterator[str]:
    """A worker that does what no real one should; its address."""
    async with serve(
        handler, "127.0.0.1", 0, compression=None, close_timeout=0.2, **options
    ) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


async def welcome(worker: ServerConnection) -> None:
    init = json.loads(await worker.recv())
    body = {"type": ESTABLISHED, "session_id": init["session_id"]}
    await worker.send(json.dumps(body))


# A whole conversation with a real worker


async def test_a_session_through_the_gateway(path: SpeechPath) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        async with path.dial("/?any=thing") as client:
            established = await path.enter(client, session, events=["playback", "lifecycle"])
            assert established["events"] == ["playback", "lifecycle"]
            await say(client, "agent.speak", audio=speech(16000), utterance_id="u1")
            confirmed = await hear_type(client, "agent.speak.confirmed")
            assert confirmed["audio_samples"] == 16000
            assert (await hear_type(client, "agent.speak.started"))["segment_id"] == 1
            await say(client, "agent.interrupt")
            assert (await hear_type(client, "agent.speak.ended"))["interrupted"] is True
            await hear_type(client, "agent.interrupt.confirmed")
            await say(client, "session.end")
            assert (await hear_type(client, "session.ended"))["reason"] == "client_request"
            assert await closed(client) == (1000, "client_request")
        path.end_on_worker(session, "client_request")
        await path.until_ended(session)


async def test_a_stock_client_sees_the_documented_fields_only(path: SpeechPath) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        async with path.dial() as client:
            # Early: the welcome is the gateway's own.
            assert await path.enter(client, session) == {
                "type": ESTABLISHED,
                "session_id": session.id,
            }
            await say(client, "agent.speak", audio=speech())
            await say(client, "agent.interrupt")
            await client.send("{")
            await path.place(session, worker)
            assert await hear(client) == {"type": "agent.speak.confirmed", "audio_samples": 160}
            assert await hear(client) == {"type": "agent.interrupt.confirmed"}
            assert await hear(client) == {"type": "error", "error": "Invalid JSON"}


async def test_the_worker_s_own_welcome_is_passed_on(path: SpeechPath) -> None:
    async with served(path) as (session, _, _), path.dial() as client:
        body = await path.enter(client, session, events=[])
        assert body["server_version"] == "1.2.3"


async def test_text_and_binary_both_ways(path: SpeechPath) -> None:
    async def worker(connection: ServerConnection) -> None:
        await welcome(connection)
        async for message in connection:
            await connection.send(message)

    session = await path.new_session()
    async with scripted_worker(worker) as address, path.dial() as client:
        await path.place_at(session, address)
        await path.enter(client, session, audio={"sample_rate": 24000})
        for message in ("text", b"\0\1\2", "ü€", b""):
            await client.send(message)
            assert await client.recv() == message


# Refusals


@pytest.mark.parametrize(
    ("first", "error", "reason"),
    [
        ('{"type": "ping"}', "First message must be session.init", "init_required"),
        ("nonsense", "First message must be session.init", "init_required"),
        (b"\0\0", "First message must be session.init", "init_required"),
        (" " * 70_000, "First message must be session.init", "init_required"),
        (
            '{"type": "session.init"}',
            "session_id and session_token are required",
            "invalid_init",
        ),
        (
            '{"type": "session.init", "session_id": "sess_no", "session_token": "no"}',
            "Invalid session credentials",
            "invalid_credentials",
        ),
        (
            '{"type": "session.init", "config": {"session_id": "s", "access_token": "t",'
            ' "video_width": 0}}',
            "Invalid video dimensions",
            "invalid_dimensions",
        ),
    ],
)
async def test_refused(path: SpeechPath, first: str | bytes, error: str, reason: str) -> None:
    async with path.dial() as client:
        await client.send(first)
        assert await hear(client) == {"type": "error", "error": error}
        assert await closed(client) == (1008, reason)


async def test_a_wrong_token_is_refused_like_an_unknown_session(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        wrong = path.token("sess_other")
        await say(
            client, "session.init", session_id=session.id, session_token=wrong, events=["playback"]
        )
        assert await hear(client) == {
            "type": "error",
            "error": "Invalid session credentials",
            "code": "INVALID_CREDENTIALS",
            "fatal": True,
        }
        assert await closed(client) == (1008, "invalid_credentials")
    assert (await path.now(session)).status == "started"


async def test_sessions_that_are_not_running_are_refused(path: SpeechPath) -> None:
    created = await path.new_session(start=False)
    async with path.dial() as client:
        assert (await path.enter(client, created))["error"] == "Session has not been started"
        assert await closed(client) == (1008, "session_not_started")
    ended = await path.new_session()
    await path.finish(ended, "expired")
    async with path.dial() as client:
        assert (await path.enter(client, ended))["error"] == "Session has ended"
        assert await closed(client) == (1008, "session_ended")


async def test_a_platform_that_is_served_no_more(path: SpeechPath) -> None:
    path.dispatcher.platforms = frozenset({"daily"})
    session = await path.new_session()
    async with path.dial() as client:
        assert (await path.enter(client, session))["error"] == "Invalid room platform"
        assert await closed(client) == (1011, "invalid_room_platform")


async def test_the_first_message_has_its_time(
    path: SpeechPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_conversation, "INIT_TIMEOUT_S", 0.05)
    async with path.dial() as client:
        assert (await hear(client))["error"] == "First message must be session.init"
        assert await closed(client) == (1008, "init_timeout")


async def test_an_address_is_refused_after_twenty_failed_inits(path: SpeechPath) -> None:
    for _ in range(20):
        async with path.dial() as client:
            await client.send("nonsense")
            await closed(client)
    await until(lambda: path.gateway.init_limit.blocked("127.0.0.1"))
    with pytest.raises(InvalidStatus) as refused:
        await path.dial()
    response = refused.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert json.loads(response.body)["success"] is False


async def test_messages_have_a_limit(path: SpeechPath) -> None:
    async with served(path) as (session, target, _):
        client = await path.dial()
        await path.enter(client, session, reconnect_grace_s=7)
        with suppress(ConnectionClosed):
            await client.send(" " * (10 * 2**20 + 1))
        assert (await closed(client))[0] == 1009
        await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
        assert target.detached == [(False, 7.0)], "counts as a lost socket"


# Early audio


async def test_early_audio_arrives_in_order_and_complete(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        assert (await path.enter(client, session, audio={"sample_rate": 48000}))["type"]
        sent = []
        for number in range(200):
            pcm = number.to_bytes(2, "little") * (1 + number * 7 % 400)
            sent.append(pcm)
            if number % 3:
                await client.send(pcm)
            else:
                await say(client, "agent.speak", audio=base64.b64encode(pcm).decode())
        await say(client, "agent.speak.end")
        async with speech_worker(path, session) as (target, server):
            await path.place_at(session, f"ws://127.0.0.1:{server.port}/v1/ws")
            confirmed = [await hear(client) for _ in range(67)]
            await until(lambda: "end_speech" in target.calls)
            assert b"".join(each.pcm for each in target.heard) == b"".join(sent)
            assert [each["audio_samples"] for each in confirmed] == [
                (len(sent[number]) // 2 + 2) // 3
                if len(sent[number]) // 2 % 3 == 2
                else len(sent[number]) // 2 // 3
                for number in range(0, 200, 3)
            ]


async def test_early_audio_is_bounded(path: SpeechPath) -> None:
    session = await path.new_session()
    chunk = bytes(2**20)
    async with path.dial(write_limit=2**16, ping_interval=None) as client:
        await path.enter(client, session, audio={"sample_rate": 48000})
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 60:
                await client.send(chunk)
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert 15 <= sent < 40, "16 MiB, and what lies on the network"
        async with speech_worker(path, session) as (target, server):
            await path.place_at(session, f"ws://127.0.0.1:{server.port}/v1/ws")
            await asyncio.wait_for(flooding, PATIENCE_S)
            await until(lambda: len(target.heard) == 60)


async def test_commands_need_no_worker(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        await path.enter(client, session, events=["lifecycle"])
        await say(client, "ping", id="x")
        assert (await hear(client))["id"] == "x"
        await say(client, "session.end")
        ended = await hear(client)
        assert (ended["type"], ended["reason"]) == ("session.ended", "client_request")
        assert await closed(client) == (1000, "client_request")
    assert (await path.now(session)).end_reason == "client_request"


async def test_no_worker_in_time(path: SpeechPath) -> None:
    session = await path.new_session(age_s=59.6)
    async with path.dial() as client:
        assert (await path.enter(client, session, events=["lifecycle"]))["type"] == ESTABLISHED
        error = await hear(client)
        assert error["error"] == "Avatar server could not be started"
        assert error["code"] == "START_FAILED"
        assert (await hear(client))["reason"] == "join_failed"
        assert await closed(client) == (1011, "join_failed")
    ended = await path.now(session)
    assert ended.end_reason == "join_failed"
    assert ended.bill is not None
    assert ended.bill.minutes_used == 0


async def test_a_session_that_ends_while_its_client_waits(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        await path.enter(client, session)
        await path.finish(session, "minutes_exhausted")
        assert await closed(client) == (1000, "minutes_exhausted")


@pytest.mark.parametrize("clean", [True, False])
async def test_leaving_while_waiting_ends_the_session(path: SpeechPath, clean: bool) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        await path.enter(client, session, reconnect_grace_s=30 if clean else 0)
        if not clean:
            client.transport.abort()
    assert (await path.until_ended(session)).end_reason == "websocket_closed"


async def test_a_lost_waiting_client_has_its_grace(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as client:
        await path.enter(client, session, reconnect_grace_s=0.4)
        client.transport.abort()
    await until(lambda: path.gateway.current == {})
    async with path.dial() as client:
        assert (await path.enter(client, session, reconnect_grace_s=0.4))["type"] == ESTABLISHED
        await asyncio.sleep(0.6)
        assert (await path.now(session)).status == "started", "it came back in time"
        client.transport.abort()
    assert (await path.until_ended(session)).end_reason == "websocket_closed"


async def test_a_worker_that_refuses_once_is_tried_again(path: SpeechPath) -> None:
    tries = 0

    async def worker(connection: ServerConnection) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            return  # closes before a word was said
        if tries == 2:
            await connection.recv()
            await connection.send('{"type": "error", "error": "Invalid session credentials"}')
            await connection.close(1008)
            return
        await welcome(connection)
        assert json.loads(await connection.recv())["type"] == "agent.speak"
        await connection.send('{"type": "agent.speak.confirmed", "audio_samples": 1}')
        await connection.wait_closed()

    session = await path.new_session()
    async with scripted_worker(worker) as address, path.dial() as client:
        await path.place_at(session, address)
        assert (await path.enter(client, session))["type"] == ESTABLISHED
        await say(client, "agent.speak", audio=speech())
        assert await hear(client) == {"type": "agent.speak.confirmed", "audio_samples": 1}
    assert tries == 3


# Newest socket wins


async def test_newest_socket_wins_while_waiting(path: SpeechPath) -> None:
    session = await path.new_session()
    async with path.dial() as older, path.dial() as newer:
        await path.enter(older, session)
        await path.enter(newer, session)
        assert await closed(older) == (1008, "replaced")
        async with speech_worker(path, session) as (target, server):
            await path.place_at(session, f"ws://127.0.0.1:{server.port}/v1/ws")
            await say(newer, "agent.speak", audio=speech())
            assert (await hear(newer))["type"] == "agent.speak.confirmed"
            assert target.attached == 1
            assert target.detached == []
    assert (await path.now(session)).status == "started"


async def test_newest_socket_wins_when_joined(path: SpeechPath) -> None:
    async with served(path) as (session, target, _), path.dial() as older, path.dial() as newer:
        await path.enter(older, session)
        await path.enter(newer, session)
        assert await closed(older) == (1008, "replaced")
        assert target.detached == [], "the session goes on"
        await say(newer, "agent.speak", audio=speech())
        assert (await hear(newer))["type"] == "agent.speak.confirmed"


# Backpressure


async def test_a_worker_that_does_not_read_stops_the_client(path: SpeechPath) -> None:
    read = asyncio.Event()
    heard: list[int] = []

    async def worker(connection: ServerConnection) -> None:
        await welcome(connection)
        await read.wait()
        async for message in connection:
            heard.append(len(message))

    session = await path.new_session()
    async with (
        scripted_worker(worker, max_queue=1, ping_interval=None) as address,
        path.dial(write_limit=2**16, ping_interval=None) as client,
    ):
        await path.place_at(session, address)
        await path.enter(client, session, audio={"sample_rate": 48000})
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 400:
                await client.send(bytes(2**17))
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        # Sockets of two connections hold some MB; the gateway itself next to nothing.
        assert sent * 2**17 < 30 * 2**20
        read.set()
        await asyncio.wait_for(flooding, PATIENCE_S)
        await until(lambda: len(heard) == 400)
        assert set(heard) == {2**17}


async def test_a_client_that_does_not_read_stops_the_worker(path: SpeechPath) -> None:
    sent = 0

    async def worker(connection: ServerConnection) -> None:
        nonlocal sent
        await welcome(connection)
        while sent < 800:
            await connection.send("x" * 2**16)
            sent += 1
        await connection.wait_closed()

    session = await path.new_session()
    async with (
        scripted_worker(worker, write_limit=2**16, ping_interval=None) as address,
        path.dial(max_queue=1, ping_interval=None) as client,
    ):
        await path.place_at(session, address)
        await path.enter(client, session)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent * 2**16 < 30 * 2**20
        for _ in range(800):
            await client.recv()


async def test_a_client_that_takes_nothing_is_cut_off(
    path: SpeechPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path.gateway, "send_timeout_s", 0.3)
    monkeypatch.setattr(gateway_socket, "CLOSE_TIMEOUT_S", 0.1)
    async with (
        served(path) as (session, target, _),
        path.dial(max_queue=1, ping_interval=None) as client,
    ):
        await path.enter(client, session, events=["lifecycle"])
        event = SessionDraining(utc_now(), "x" * 100_000)
        client.transport.pause_reading()
        while not target.gone.is_set():
            for _ in range(20):
                target.emit(event)
            await asyncio.sleep(0)
        assert target.detached == [(False, 0.0)]
        await until(lambda: not path.server.server_state.connections)
        client.transport.abort()


async def test_a_client_that_is_not_read_is_not_taken_for_dead(path: SpeechPath) -> None:
    path.server.config.ws_ping_interval, path.server.config.ws_ping_timeout = 0.1, 0.2
    async with (
        served(path) as (session, target, _),
        path.dial(write_limit=2**16, ping_interval=None, max_queue=1000) as client,
    ):
        await path.enter(client, session)
        target.gate.clear()
        messages = 40

        async def flood() -> None:
            for _ in range(messages):
                await say(client, "agent.speak", audio="A" * 2**20)

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(1)
        waited = not flooding.done()
        target.gate.set()
        assert waited
        await asyncio.wait_for(flooding, PATIENCE_S)
        await until(lambda: len(target.heard) == messages)


async def test_a_dead_client_is_noticed(path: SpeechPath) -> None:
    path.server.config.ws_ping_interval, path.server.config.ws_ping_timeout = 0.05, 0.2
    async with (
        served(path) as (session, target, _),
        path.dial(ping_interval=None) as client,
    ):
        await path.enter(client, session, reconnect_grace_s=3)
        client.transport.pause_reading()  # no pong is ever sent
        await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
        assert target.detached == [(False, 3.0)]
        client.transport.abort()


async def test_a_dead_worker_is_noticed(path: SpeechPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.gateway.pipe.PING_INTERVAL_S", 0.05)
    monkeypatch.setattr("api.gateway.pipe.PATIENCE_S", 0.2)

    async def worker(connection: ServerConnection) -> None:
        await welcome(connection)
        connection.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    session = await path.new_session()
    async with scripted_worker(worker) as address, path.dial() as client:
        await path.place_at(session, address)
        await path.enter(client, session)
        path.end_on_worker(session, "server_error")
        assert (await hear(client))["error"] == "Internal server error"
        assert await closed(client) == (1011, "server_error")
        over.set()


# Leaving


async def test_a_clean_close_is_passed_on_as_clean(path: SpeechPath) -> None:
    async with served(path) as (session, target, _):
        async with path.dial() as client:
            await path.enter(client, session, reconnect_grace_s=10)
            await say(client, "agent.speak", audio=speech())
        await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
        assert target.detached == [(True, 0.0)]
        assert len(target.heard) == 1, "what was said before the close is not lost"


async def test_an_abnormal_loss_is_passed_on_as_a_loss(path: SpeechPath) -> None:
    async with served(path) as (session, target, _):
        async with path.dial() as client:
            await path.enter(client, session, reconnect_grace_s=10)
            client.transport.abort()
        await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
        assert target.detached == [(False, 10.0)]
        async with path.dial() as client:
            assert (await path.enter(client, session))["type"] == ESTABLISHED
        assert target.attached == 2


async def test_a_real_session_outlives_a_loss_by_its_grace(path: SpeechPath) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        for _ in range(2):
            async with path.dial() as client:
                await path.enter(client, session, reconnect_grace_s=5)
                client.transport.abort()
            await asyncio.sleep(0.1)
            assert worker.worker.get(session.id) is not None
        async with path.dial() as client:
            await path.enter(client, session, reconnect_grace_s=5)
        await until(lambda: worker.worker.get(session.id) is None)


async def test_the_slot_is_looked_at_when_the_client_goes(path: SpeechPath) -> None:
    async with served(path) as (session, _, _):
        async with path.dial() as client:
            await path.enter(client, session)
            path.end_on_worker(session, "websocket_closed")
        assert (await path.until_ended(session)).end_reason == "websocket_closed"


@pytest.mark.parametrize(
    ("reason", "code"), [("expired", 1000), ("server_shutdown", 1001), ("room_closed", 1000)]
)
async def test_the_worker_s_close_is_passed_on(path: SpeechPath, reason: Any, code: int) -> None:
    async with served(path) as (session, target, _), path.dial() as client:
        await path.enter(client, session, events=["lifecycle"])
        await target.end(reason)
        assert (await hear(client))["type"] == "session.ended"
        assert await closed(client) == (code, reason)


async def test_a_killed_worker(path: SpeechPath) -> None:
    async with served(path) as (session, _, server), path.dial() as client:
        await path.enter(client, session, events=["lifecycle"])
        path.end_on_worker(session, "server_error")
        for each in list(server.current.values()):
            each._connection.transport.abort()
        error = await hear(client)
        assert (error["error"], error["fatal"]) == ("Internal server error", True)
        assert (await hear(client))["reason"] == "server_error"
        assert await closed(client) == (1011, "server_error")
    assert (await path.now(session)).end_reason == "server_error"


async def test_a_killed_worker_of_which_nobody_knows_more(
    path: SpeechPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_conversation, "TRUE_END_S", 0.1)
    async with served(path) as (session, _, server), path.dial() as client:
        await path.enter(client, session)
        for each in list(server.current.values()):
            each._connection.transport.abort()
        assert await hear(client) == {"type": "error", "error": "Internal server error"}
        assert await closed(client) == (1011, "server_error")


async def test_a_restart_of_the_api_leaves_the_session_its_grace(tmp_path: Path) -> None:
    async with store_of(tmp_path) as store:
        account = await store.create_account("test", "enterprise", utc_now())
        path = SpeechPath(speech_services(store, tmp_path), account.id)
        async with listening(path):
            session = await path.new_session()
            waiting = await path.new_session()
            async with speech_worker(path, session) as (target, server):
                await path.place_at(session, f"ws://127.0.0.1:{server.port}/v1/ws")
                async with path.dial() as client, path.dial() as early:
                    await path.enter(client, session, reconnect_grace_s=30)
                    await path.enter(early, waiting)
                    path.server.should_exit = True
                    assert await closed(client) == (1001, "server_shutdown")
                    assert await closed(early) == (1001, "server_shutdown")
                    await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
                    assert target.detached == [(False, 30.0)]
                assert (await path.now(waiting)).status == "started"


async def test_nothing_is_left_behind(path: SpeechPath) -> None:
    async with served(path) as (session, target, _):
        tasks = asyncio.all_tasks()
        for leave in ("close", "abort", "nonsense", "crowd"):
            async with path.dial() as client:
                await path.enter(client, session)
                match leave:
                    case "close":
                        await client.close()
                    case "abort":
                        client.transport.abort()
                    case "nonsense":
                        await client.send(b"\xff", text=True)
                    case "crowd":
                        async with path.dial() as other:
                            await path.enter(other, session)
        await until(lambda: len(target.detached) == 4)
        await until(lambda: path.gateway.current == {})
        await until(lambda: asyncio.all_tasks() == tasks)
        await until(lambda: not path.server.server_state.connections)


# Operators


async def test_metrics_and_logs(path: SpeechPath, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(path) as (session, target, _), path.dial("/?token=hush") as client:
        await path.enter(client, session)
        await say(client, "agent.speak", audio=speech(1000))
        await hear(client)
        assert _metric(path, "avatar_api_sockets") == 1
        await client.close()
        await asyncio.wait_for(target.gone.wait(), PATIENCE_S)
        await until(lambda: _metric(path, "avatar_api_sockets") == 0)
        assert _metric(path, "avatar_api_socket_bytes_total", direction="to_worker") > 2000
        assert _metric(path, "avatar_api_socket_wait_seconds_count") == 1
        logged = [each for each in caplog.records if each.name.startswith(("api", "uvicorn"))]
        assert not [each for each in logged if path.token(session.id) in each.getMessage()]


def _metric(path: SpeechPath, name: str, **labels: str) -> float:
    value = path.services.metrics.registry.get_sample_value(name, labels)
    assert value is not None
    return value
