from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from protocol.events import SessionDraining, SessionEvent, SessionReady
from tests.fakes.session import TOKEN, FakeDirectory, FakeSession
from worker.ingest.websocket import SpeechServer
from worker.settings import WebSocketSettings

SPEECH = {"type": "agent.speak", "audio": base64.b64encode(b"\1\2" * 160).decode()}
PATIENCE_S = 20.0


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@asynccontextmanager
async def listening(session: FakeSession, **settings: Any) -> AsyncIterator[SpeechServer]:
    server = SpeechServer(FakeDirectory(session), WebSocketSettings(**settings), "1.2.3")
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.aclose()


@pytest.fixture
async def server(session: FakeSession) -> AsyncIterator[SpeechServer]:
    async with listening(session) as server:
        yield server


def dial(server: SpeechServer, path: str = "/v1/ws", **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{server.port}{path}", compression=None, proxy=None, **options)


async def say(client: ClientConnection, body: dict[str, Any]) -> None:
    await client.send(json.dumps(body))


async def hear(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        body: dict[str, Any] = json.loads(await client.recv())
        return body


async def enter(client: ClientConnection, **opt_ins: Any) -> dict[str, Any]:
    await say(
        client, {"type": "session.init", "session_id": "sess_1", "session_token": TOKEN, **opt_ins}
    )
    return await hear(client)


async def closed(client: ClientConnection) -> tuple[int | None, str]:
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# Entering


@pytest.mark.parametrize("path", ["/v1/ws", "/", "/v1/ws?a=b", "/?x"])
async def test_paths(server: SpeechServer, path: str) -> None:
    async with dial(server, path) as client:
        assert (await enter(client))["type"] == "connection.established"


@pytest.mark.parametrize("path", ["/v1", "/v1/ws/extra", "/watch", "//[bad"])
async def test_other_paths_are_not_found(server: SpeechServer, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await dial(server, path)
    assert refused.value.response.status_code == 404


async def test_whole_conversation(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await enter(client, events=["playback", "lifecycle"], audio={"sample_rate": 24000})
        await say(client, {**SPEECH, "sample_rate": 16000, "utterance_id": "u1"})
        assert await hear(client) == {
            "type": "agent.speak.confirmed",
            "audio_samples": 160,
            "segment_id": 1,
        }
        await say(client, {"type": "agent.speak.begin", "utterance_id": "u2"})
        await client.send(b"\1\2\3")
        await client.send(b"\4")
        session_ready = SessionReady(640, 480, 25)
        await until(lambda: len(session.heard) == 3)
        session.emit(session_ready)
        assert (await hear(client))["type"] == "session.ready"
        await say(client, {"type": "agent.interrupt"})
        answers = [await hear(client) for _ in range(3)]
        assert [(body["type"], body.get("segment_id")) for body in answers] == [
            ("agent.speak.ended", 1),
            ("agent.speak.ended", 2),
            ("agent.interrupt.confirmed", None),
        ]
        await say(client, {"type": "session.end"})
        assert (await hear(client))["reason"] == "client_request"
        assert await closed(client) == (1000, "client_request")
    assert [each.pcm for each in session.heard] == [b"\1\2" * 160, b"\1\2", b"\3\4"]
    assert session.heard[1].sample_rate == 24000
    assert session.ended == "client_request"


async def test_wrong_token(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await say(
            client, {"type": "session.init", "session_id": "sess_1", "session_token": "wrong"}
        )
        assert await hear(client) == {"type": "error", "error": "Invalid session credentials"}
        assert await closed(client) == (1008, "invalid_credentials")
    assert session.attached == 0


async def test_init_timeout(session: FakeSession) -> None:
    async with listening(session, init_timeout_s=0.05) as server, dial(server) as client:
        assert (await hear(client))["error"] == "First message must be session.init"
        assert await closed(client) == (1008, "init_timeout")


async def test_address_is_refused_after_too_many_failed_inits(session: FakeSession) -> None:
    async with listening(session, failed_inits_per_minute=3) as server:
        for _ in range(3):
            async with dial(server) as client:
                await client.send("nonsense")
                await closed(client)
        await until(lambda: server.init_limit.blocked("127.0.0.1"))
        with pytest.raises(InvalidStatus) as refused:
            await dial(server)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["Retry-After"] == "60"


async def test_clients_behind_a_proxy_are_counted_apart(session: FakeSession) -> None:
    async with listening(session, failed_inits_per_minute=1, trust_forwarded_for=True) as server:
        bad = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7"}
        async with dial(server, additional_headers=bad) as client:
            await client.send("nonsense")
            await closed(client)
        await until(lambda: server.init_limit.blocked("203.0.113.7"))
        with pytest.raises(InvalidStatus):
            await dial(server, additional_headers=bad)
        async with dial(server, additional_headers={"X-Forwarded-For": "203.0.113.8"}) as client:
            assert (await enter(client))["type"] == "connection.established"


# Bad input


async def test_message_of_ten_mebibytes_and_one_byte(
    server: SpeechServer, session: FakeSession
) -> None:
    client = await dial(server)
    await enter(client, reconnect_grace_s=7)
    with suppress(ConnectionClosed):
        await client.send(" " * (10 * 2**20 + 1))
    assert (await closed(client))[0] == 1009
    await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
    assert session.detached == [(False, 7.0)], "1009 counts as a lost socket"


async def test_message_of_nearly_ten_mebibytes_is_taken(
    server: SpeechServer, session: FakeSession
) -> None:
    pcm = bytes(7_800_000)
    async with dial(server) as client:
        await enter(client)
        await say(client, {"type": "agent.speak", "audio": base64.b64encode(pcm).decode()})
        assert (await hear(client))["audio_samples"] == 3_900_000
    assert session.heard[0].pcm == pcm


async def test_binary_garbage_is_answered_and_the_session_goes_on(
    server: SpeechServer, session: FakeSession
) -> None:
    async with dial(server) as client:
        await enter(client)
        await client.send(bytes(range(256)) * 10)
        assert (await hear(client))["error"] == "Binary frames are not enabled"
        await client.send('{"type": "agent.speak", "audio"')
        assert (await hear(client))["error"] == "Invalid JSON"
        await say(client, SPEECH)
        assert (await hear(client))["type"] == "agent.speak.confirmed"


async def test_text_that_is_not_utf8_is_a_lost_socket(
    server: SpeechServer, session: FakeSession
) -> None:
    async with dial(server) as client:
        await enter(client)
        await client.send(b"\xff\xfe", text=True)
        assert (await closed(client))[0] == 1007
    await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
    assert session.detached == [(False, 0.0)]


async def test_ten_thousand_tiny_messages_sent_before_any_answer_is_read(
    server: SpeechServer, session: FakeSession
) -> None:
    async with dial(server, max_queue=100_000) as client:
        await enter(client)
        for number in range(10_000):
            await say(client, {"type": "ping", "id": number})
        for number in range(10_000):
            assert (await hear(client))["id"] == number
        await say(client, SPEECH)
        assert (await hear(client))["type"] == "agent.speak.confirmed"


async def test_speech_into_an_ended_session(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await enter(client)
        session.ended = "expired"  # the event is not out yet
        await say(client, SPEECH)
        assert (await hear(client))["error"] == "Session has ended"
        assert await closed(client) == (1008, "session_ended")


async def test_full_backlog(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await enter(client)
        session.full = True
        await say(client, SPEECH)
        assert (await hear(client))["error"] == "Audio buffer is full"
        session.full = False
        await say(client, SPEECH)
        assert (await hear(client))["type"] == "agent.speak.confirmed"


async def test_failure_in_the_session_closes_the_socket_and_tells_nothing(
    server: SpeechServer, session: FakeSession
) -> None:
    async with dial(server) as client:
        await enter(client)
        session.broken = True
        await say(client, SPEECH)
        assert await hear(client) == {"type": "error", "error": "Internal server error"}
        assert await closed(client) == (1011, "internal_error")
    assert session.listeners == 0


# Backpressure


async def test_flooding_client_is_made_to_wait(session: FakeSession) -> None:
    """While the session is busy the server stops reading, so that the client's sends block."""
    message = json.dumps({"type": "agent.speak", "audio": "A" * 2**20})
    async with (
        # Keepalive far shorter than the wait: a client that we do not read is not taken for dead.
        listening(session, ping_interval_s=0.1, ping_timeout_s=0.5) as server,
        dial(server, write_limit=2**16, ping_interval=None, max_queue=100_000) as client,
    ):
        await enter(client)
        session.gate.clear()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 60:
                await client.send(message)
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.8)
        waiting = session.calls.count("speak")
        session.gate.set()
        assert sent < 40, "the server took in what the session could not take"
        assert waiting == 1
        await asyncio.wait_for(flooding, PATIENCE_S)
        await until(lambda: len(session.heard) == 60)


@pytest.mark.parametrize(
    ("event", "count", "send_timeout_s"),
    [
        (SessionReady(640, 480, 25), 200_000, 60),  # more messages than may wait
        (SessionDraining(datetime(2026, 1, 1, tzinfo=UTC), "x" * 100_000), 200, 0.3),  # too slowly
    ],
    ids=["many", "slow"],
)
async def test_client_that_reads_nothing_is_cut_off(
    session: FakeSession, event: SessionEvent, count: int, send_timeout_s: float
) -> None:
    async with (
        listening(session, send_timeout_s=send_timeout_s) as server,
        dial(server, max_queue=1, ping_interval=None) as client,
    ):
        await enter(client, events=["lifecycle"])
        client.transport.pause_reading()
        for number in range(count):
            session.emit(event)
            if number % 100 == 0:
                await asyncio.sleep(0)
            if session.gone.is_set():
                break
        await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
        assert session.detached == [(False, 0.0)]
        assert session.listeners == 0
        client.transport.abort()


async def test_dead_connection_is_noticed(session: FakeSession) -> None:
    async with (
        listening(session, ping_interval_s=0.05, ping_timeout_s=0.2) as server,
        dial(server, ping_interval=None) as client,
    ):
        await enter(client, reconnect_grace_s=3)
        client.transport.pause_reading()  # no pong is ever sent
        await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
        assert session.detached == [(False, 3.0)]
        client.transport.abort()


async def test_quiet_but_living_client_stays(session: FakeSession) -> None:
    async with (
        listening(session, ping_interval_s=0.02, ping_timeout_s=5) as server,
        dial(server, ping_interval=None) as client,
    ):
        await enter(client)
        await asyncio.sleep(0.3)
        await say(client, {"type": "ping"})
        assert (await hear(client))["type"] == "pong"


# Leaving


async def test_clean_close_ends_without_grace(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await enter(client, reconnect_grace_s=10)
    await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
    assert session.detached == [(True, 0.0)]


async def test_abnormal_loss_asks_for_the_grace(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as client:
        await enter(client, reconnect_grace_s=10)
        client.transport.abort()
        await asyncio.wait_for(session.gone.wait(), PATIENCE_S)
    assert session.detached == [(False, 10.0)]
    async with dial(server) as client:
        assert (await enter(client))["type"] == "connection.established"
    assert session.attached == 2


async def test_newest_socket_wins(server: SpeechServer, session: FakeSession) -> None:
    async with dial(server) as older, dial(server) as newer:
        await enter(older, events=["lifecycle"])
        await enter(newer, events=["lifecycle"])
        assert await closed(older) == (1008, "replaced")
        assert session.detached == [], "the session goes on"
        session.emit(SessionReady(640, 480, 25))
        assert (await hear(newer))["type"] == "session.ready"
        await say(newer, SPEECH)
        assert (await hear(newer))["type"] == "agent.speak.confirmed"
        assert session.listeners == 1


async def test_end_of_the_session_closes_the_socket(
    server: SpeechServer, session: FakeSession
) -> None:
    async with dial(server) as client:
        await enter(client, events=["lifecycle"])
        await session.end("server_shutdown")
        assert (await hear(client))["type"] == "session.ended"
        assert await closed(client) == (1001, "server_shutdown")


async def test_nothing_is_left_behind(session: FakeSession) -> None:
    tasks = asyncio.all_tasks()
    async with listening(session) as server:
        for leave in ("close", "abort", "nonsense", "crowd"):
            async with dial(server) as client:
                await enter(client)
                match leave:
                    case "close":
                        await client.close()
                    case "abort":
                        client.transport.abort()
                    case "nonsense":
                        await client.send(b"\xff", text=True)
                    case "crowd":
                        async with dial(server) as other:
                            await enter(other)
        await until(lambda: len(session.detached) == 4)
        await until(lambda: server.current == {})
    await until(lambda: asyncio.all_tasks() == tasks)
    assert session.listeners == 0
