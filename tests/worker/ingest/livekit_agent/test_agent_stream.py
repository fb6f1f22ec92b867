"""The output of real ``livekit-agents``, through a LiveKit room, into a real session.

With ``LIVEKIT_URL``, ``LIVEKIT_API_KEY`` and ``LIVEKIT_API_SECRET`` set, what needs no faults runs
on that server by ``pytest -m livekit_server``.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

rtc = pytest.importorskip("livekit.rtc")
avatar = pytest.importorskip("livekit.agents.voice.avatar")
pytest.importorskip("livekit.protocol")

from models.engine import Canvas  # noqa: E402
from tests.fakes.engine import FlapEngine  # noqa: E402
from tests.fakes.livekit_server import LiveKitServer, running_livekit  # noqa: E402
from worker.clock import SystemClock  # noqa: E402
from worker.ingest.livekit_agent.agent_stream import AgentStream  # noqa: E402
from worker.metrics import Metrics  # noqa: E402
from worker.pipeline.render_pool import RenderPool  # noqa: E402
from worker.rooms.whep.room import WhepRoom  # noqa: E402
from worker.session import Session  # noqa: E402

RATE = 24_000
AVATAR, AGENT = "avatar", "agent"


async def until(condition: Callable[[], bool], patience_s: float = 10.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("did not happen")
        await asyncio.sleep(0.01)


class OwnServer:
    """A LiveKit server that runs elsewhere."""

    def __init__(self) -> None:
        self.url = os.environ["LIVEKIT_URL"]

    def token(self, identity: str, room: str, *, kind: str, attributes: dict[str, str]) -> str:
        api = pytest.importorskip("livekit.api")
        token = api.AccessToken().with_identity(identity).with_kind(kind)
        grants = api.VideoGrants(room_join=True, room=room)
        return token.with_attributes(attributes).with_grants(grants).to_jwt()


@asynccontextmanager
async def own_livekit() -> AsyncIterator[OwnServer]:
    yield OwnServer()


VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
on_any_server = pytest.mark.parametrize(
    "server",
    [
        pytest.param(running_livekit, id="in-process"),
        pytest.param(
            own_livekit,
            id="own",
            marks=[
                pytest.mark.livekit_server,
                pytest.mark.skipif(
                    not all(os.environ.get(name) for name in VARIABLES),
                    reason=f"needs {', '.join(VARIABLES)}",
                ),
            ],
        ),
    ],
)


class Agent:
    """An agent's side of the room: the real audio output, and what it was told."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.output = avatar.DataStreamAudioOutput(
            room, destination_identity=AVATAR, sample_rate=RATE, wait_playback_start=True
        )
        self.started = 0
        self.finished: list[tuple[float, bool]] = []
        self.output.on("playback_started", self._on_started)
        self.output.on("playback_finished", self._on_finished)

    def _on_started(self, event) -> None:
        self.started += 1

    def _on_finished(self, event) -> None:
        self.finished.append((event.playback_position, event.interrupted))

    async def say(self, seconds: float, flush: bool = True) -> None:
        for at in range(round(seconds * 50)):
            pcm = (9000 * np.sin((at * 480 + np.arange(480)) / 12)).astype("<i2")
            await self.output.capture_frame(rtc.AudioFrame(pcm.tobytes(), RATE, 1, 480))
        if flush:
            self.output.flush()

    async def clear(self) -> str:
        return await clear(self.room)


async def clear(room: rtc.Room) -> str:
    return await room.local_participant.perform_rpc(
        destination_identity=AVATAR, method="lk.clear_buffer", payload=""
    )


def count(events: list, kind: str) -> int:
    return sum(type(event).__name__ == kind for event in events)


class Scene:
    """A running session whose agent may come into the room."""

    def __init__(
        self, server: LiveKitServer, name: str, session: Session, stream: AgentStream
    ) -> None:
        self.server = server
        self.name = name
        self.session = session
        self.stream = stream
        self.stack = AsyncExitStack()

    async def enter(self, identity: str = AGENT, kind: str = "agent") -> Agent:
        return Agent(await self.enter_mutely(identity, kind))

    async def enter_mutely(self, identity: str, kind: str) -> rtc.Room:
        room = await join(self.server, self.name, identity, kind, {})
        self.stack.push_async_callback(room.disconnect)
        await until(lambda: AVATAR in room.remote_participants)
        return room


async def join(
    server: LiveKitServer | OwnServer,
    name: str,
    identity: str,
    kind: str,
    attributes: dict[str, str],
) -> rtc.Room:
    room = rtc.Room()
    token = server.token(identity, name, kind=kind, attributes=attributes)
    await room.connect(server.url, token, rtc.RoomOptions(auto_subscribe=False))
    return room


@asynccontextmanager
async def scene(
    on_behalf_of: str | None = AGENT,
    backlog_s: float = 300.0,
    server: Callable[[], AbstractAsyncContextManager] = running_livekit,
) -> AsyncIterator[Scene]:
    engine = FlapEngine()
    renders = RenderPool(engine, time.monotonic_ns)
    renders.start()
    identity = engine.prepare(np.zeros((1, 1, 3), np.uint8), Canvas(64, 64))
    clock = SystemClock()
    session = Session(
        session_id="sess-1",
        canvas=identity.canvas,
        actor=engine.actor(identity),
        room=WhepRoom("sess-1", identity.canvas, clock),
        renders=renders,
        clock=clock,
        metrics=Metrics(),
        backlog_s=backlog_s,
    )
    attributes = {} if on_behalf_of is None else {"lk.publish_on_behalf": on_behalf_of}
    async with server() as livekit:
        name = f"test-{secrets.token_hex(6)}"
        room = await join(livekit, name, AVATAR, "agent", attributes)
        stream = AgentStream(room, session)
        stream.start()
        session.start()
        made = Scene(livekit, name, session, stream)
        try:
            async with made.stack:
                yield made
        finally:
            await session.end("client_request")
            await stream.aclose()
            await room.disconnect()
            await asyncio.to_thread(renders.stop)


@on_any_server
async def test_two_seconds_are_heard_and_reported_once(server):
    async with scene(server=server) as at:
        agent = await at.enter()
        await agent.say(2.0)
        await until(lambda: agent.finished != [])
        await asyncio.sleep(0.2)
        assert agent.started == 1
        assert agent.finished == [(pytest.approx(2.0, abs=0.05), False)]


@on_any_server
async def test_clear_in_mid_speech_twice_and_when_idle(server):
    async with scene(server=server) as at:
        agent = await at.enter()
        assert await agent.clear() == "ok"
        await agent.say(10.0)
        await until(lambda: agent.started == 1)
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        agent.output.clear_buffer()
        assert await agent.clear() == "ok"
        await until(lambda: agent.finished != [])
        assert time.monotonic() - begun < 4, "long before the rest could have been played"
        [(position, interrupted)] = agent.finished
        assert interrupted
        assert 0.4 < position < 5.0
        assert await agent.clear() == "ok"
        await agent.say(0.4)
        await until(lambda: len(agent.finished) == 2)
        assert agent.finished[1] == (pytest.approx(0.4, abs=0.05), False)


@on_any_server
async def test_three_queued_segments_cleared_make_three_reports(server):
    async with scene(server=server) as at:
        agent = await at.enter()
        for _ in range(3):
            await agent.say(3.0)
        await until(lambda: agent.started == 1)
        begun = time.monotonic()
        agent.output.clear_buffer()
        await until(lambda: len(agent.finished) == 3)
        assert time.monotonic() - begun < 3, "long before the three could have been played"
        assert all(interrupted for _, interrupted in agent.finished)
        assert [position for position, _ in agent.finished[1:]] == [0.0, 0.0]


async def test_a_lost_trailer_does_not_block_the_next_stream():
    async with scene() as at:
        agent = await at.enter()
        at.server.faults.lose_trailers = True
        await agent.say(0.6)
        await asyncio.sleep(0.1)
        at.server.faults.lose_trailers = False
        await agent.say(0.4)
        await until(lambda: len(agent.finished) == 2)
        assert agent.finished == [
            (pytest.approx(0.6, abs=0.05), False),
            (pytest.approx(0.4, abs=0.05), False),
        ]


@on_any_server
async def test_one_stream_with_gaps_and_clears_goes_on_for_ever(server):
    async with scene(server=server) as at:
        agent = await at.enter()
        heard = []
        at.session.subscribe(heard.append)
        for turn in range(3):
            await agent.say(0.4, flush=False)
            await until(lambda turn=turn: count(heard, "SegmentStarted") == turn + 1)
            assert await agent.clear() == "ok"
            assert count(heard, "SegmentEnded") == turn + 1
            await asyncio.sleep(0.4)
        await until(lambda: agent.finished != [])
        assert len(agent.finished) == 1


@pytest.mark.parametrize("on_behalf_of", [AGENT, None])
async def test_only_the_agent_is_heard(on_behalf_of):
    async with scene(on_behalf_of) as at:
        agent = await at.enter()
        kind = "agent" if on_behalf_of else "standard"
        stranger = await at.enter_mutely("stranger", kind)
        heard = []
        at.session.subscribe(heard.append)
        writer = await stranger.local_participant.stream_bytes(
            "AUDIO_x",
            topic="lk.audio_stream",
            destination_identities=[AVATAR],
            attributes={"sample_rate": "24000", "num_channels": "1"},
        )
        await writer.write(b"\x20\x20" * RATE)
        with pytest.raises(TimeoutError):
            await until(lambda: heard != [], 0.3)
        assert await clear(stranger) == "reject"
        await agent.say(0.3)
        await until(lambda: agent.finished != [])
        assert agent.finished == [(pytest.approx(0.3, abs=0.05), False)]
        assert count(heard, "SegmentEnded") == 1
        await writer.aclose()


async def test_an_agent_that_leaves_closes_its_speech_and_may_come_again():
    async with scene() as at:
        agent = await at.enter()
        heard = []
        at.session.subscribe(heard.append)
        await agent.say(0.5, flush=False)
        await until(lambda: count(heard, "SegmentStarted") == 1)
        await agent.room.disconnect()
        await until(lambda: count(heard, "SegmentEnded") == 1)
        assert heard[-1].playback_position == pytest.approx(0.5, abs=0.05)
        again = await at.enter()
        await again.say(0.3)
        await until(lambda: again.finished != [])


async def test_speech_that_the_session_has_no_space_for_waits():
    async with scene(backlog_s=0.4) as at:
        agent = await at.enter()
        await agent.say(1.5)
        await until(lambda: agent.finished != [])
        assert agent.finished == [(pytest.approx(1.5, abs=0.05), False)]


async def test_a_connection_lost_in_mid_speech_costs_no_report():
    async with scene() as at:
        agent = await at.enter()
        await agent.say(1.2)
        await until(lambda: agent.started == 1)
        at.server.kill_socket(at.name, AVATAR)
        await until(lambda: agent.finished != [])
        assert agent.finished == [(pytest.approx(1.2, abs=0.05), False)]
        await agent.say(0.3)
        await until(lambda: len(agent.finished) == 2)


async def test_a_report_that_got_lost_is_made_again():
    lost = []

    def drop(packet) -> bool:
        method = packet.stream_header.attributes.get("lk.rpc_request_method")
        if method == "lk.playback_finished" and not lost:
            lost.append(method)
            return True
        return False

    async with scene() as at:
        at.server.faults.drop_packet = drop
        agent = await at.enter()
        await agent.say(0.3)
        await until(lambda: agent.finished != [])
        assert lost
        await asyncio.sleep(0.3)
        assert agent.finished == [(pytest.approx(0.3, abs=0.05), False)]


async def test_a_hundred_random_interrupts_each_segment_reported_once():
    chance = random.Random(1)
    async with scene() as at:
        agent = await at.enter()
        said = 0
        for _ in range(100):
            await agent.say(chance.choice([0.02, 0.06, 0.2]))
            said += 1
            if chance.random() < 0.3:
                await agent.say(0.06)
                said += 1
            await asyncio.sleep(chance.random() * 0.06)
            agent.output.clear_buffer()
            if chance.random() < 0.3:
                await agent.clear()
        await until(lambda: len(agent.finished) == said)
        await asyncio.sleep(0.2)
        assert len(agent.finished) == said
        assert all(0 <= position <= 0.21 for position, _ in agent.finished)


async def test_the_last_reports_get_out_before_leaving():
    async with scene() as at:
        agent = await at.enter()
        await agent.say(5.0)
        await until(lambda: agent.started == 1)
        await at.session.end("client_request")
        await at.stream.aclose()
        await until(lambda: agent.finished != [], 1.0)
        assert agent.finished[0][1]


async def test_nothing_outlives_it():
    before = asyncio.all_tasks()
    async with scene() as at:
        agent = await at.enter()
        await agent.say(1.0, flush=False)
        await asyncio.sleep(0.2)
        await at.stream.aclose()
        await at.stream.aclose()
        with pytest.raises(rtc.RpcError):
            await agent.clear()
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not any("stream" in name or "report" in name for name in names)


async def test_an_avatar_thrown_out_of_its_room_lets_go_at_once():
    async with scene() as at:
        agent = await at.enter()
        await agent.say(5.0)
        await until(lambda: agent.started == 1)
        await at.server.remove(at.name, AVATAR)
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await at.session.end("removed_from_room")
        await at.stream.aclose()
        assert time.monotonic() - begun < 3, "does not play to the end"
