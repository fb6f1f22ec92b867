"""Speech from an agent in the session's LiveKit room, by byte streams: the avatar's side of what
``livekit-agents`` calls ``DataStreamAudioOutput``.

The decisions are those of ``agent_stream_core``; here are the room's handlers and the tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
from livekit import rtc

from protocol.events import SegmentEnded, SegmentStarted, SessionEnded, SessionEvent
from worker.ingest.livekit_agent.agent_stream_core import Action, AgentStreams, Begin, Speak
from worker.ingest.livekit_agent.playback_reports import PlaybackReports
from worker.interfaces import SessionOver, SpeechTarget
from worker.metrics import Metrics
from worker.rooms.livekit.room import LiveKitRoom

logger = structlog.get_logger(__name__)

AUDIO_TOPIC = "lk.audio_stream"
RPC_CLEAR_BUFFER = "lk.clear_buffer"
PUBLISH_ON_BEHALF = "lk.publish_on_behalf"

FAREWELL_S = 1.0
"""How long the last reports may take."""

FULL_AGAIN_S = 0.05
"""How long to wait before speech that the session had no space for is offered again."""


def hear_agent(room: LiveKitRoom, target: SpeechTarget, metrics: Metrics) -> None:
    """Have a session hear the agent in its room, from joining to leaving. Call it before the room
    is joined."""

    def joined(sdk_room: rtc.Room) -> None:
        stream = AgentStream(sdk_room, target, metrics=metrics)
        stream.start()
        room.on_leaving.append(stream.aclose)

    room.before_publish.append(joined)


class AgentStream:
    """Takes in the speech of one room's agent and tells it what was heard.

    The agent is the participant that our own attribute ``lk.publish_on_behalf`` names; without it,
    the first participant of kind agent that is not an avatar itself. Others are refused.

    ``start`` it once the room is connected and before a track is published: agents wait for the
    track and send then. ``aclose`` while the room is still connected, so that the last reports get
    out; nothing outlives it.
    """

    def __init__(
        self,
        room: rtc.Room,
        target: SpeechTarget,
        *,
        metrics: Metrics | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._room = room
        self._target = target
        self._now_ns = now_ns
        self._metrics = metrics or Metrics()
        self._streams = AgentStreams()
        self._readers: dict[int, rtc.ByteStreamReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._reports: PlaybackReports | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._agent = ""
        self._rejoined = False
        self._log = logger.bind(session_id=target.info.session_id)

    def start(self) -> None:
        """Listen. Call it on the event loop, once."""
        self._reports = PlaybackReports(self._room, self._metrics)
        self._unsubscribe = self._target.subscribe(self._on_session_event)
        self._speaking = asyncio.create_task(self._speak(), name="speech from an agent")
        self._tasks.add(self._speaking)
        self._room.on("participant_disconnected", self._on_participant_left)
        self._room.on("local_track_republished", self._on_track_republished)
        self._room.on("reconnected", self._on_reconnected)
        self._room.local_participant.register_rpc_method(RPC_CLEAR_BUFFER, self._on_clear)
        self._room.register_byte_stream_handler(AUDIO_TOPIC, self._on_stream)

    async def aclose(self) -> None:
        """Stop listening, report what is still open, release everything. Safe to call twice."""
        if self._reports is None:
            return
        reports, self._reports = self._reports, None
        self._room.unregister_byte_stream_handler(AUDIO_TOPIC)
        self._room.off("participant_disconnected", self._on_participant_left)
        self._room.off("local_track_republished", self._on_track_republished)
        self._room.off("reconnected", self._on_reconnected)
        if self._room.isconnected():
            self._room.local_participant.unregister_rpc_method(RPC_CLEAR_BUFFER)
        self._unsubscribe()
        self._speaking.cancel()
        for reader in list(self._readers.values()):
            reader.close()  # which ends its task
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._streams.session_over()
        self._pass_on(reports)
        await reports.aclose(FAREWELL_S if self._room.isconnected() else 0.0)

    # The room's handlers

    def _on_stream(self, reader: rtc.ByteStreamReader, identity: str) -> None:
        if not self._accepts(identity):
            self._log.warning("audio stream of a stranger refused", identity=identity)
            reader.close()
            return
        self._agent = identity
        number = self._streams.opened(identity, reader.info.attributes or {}, self._now_ns())
        if not self._streams.understood(number):
            self._log.warning("audio stream without a usable sample_rate and num_channels")
        self._readers[number] = reader
        task = asyncio.create_task(self._read(number, reader), name=f"audio stream {number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._wake.set()

    async def _on_clear(self, call: rtc.RpcInvocationData) -> str:
        if not self._accepts(call.caller_identity):
            self._log.warning("clear of a stranger refused", identity=call.caller_identity)
            return "reject"
        self._streams.clear(self._now_ns())
        try:
            await self._target.interrupt()
        finally:
            self._streams.silent()
            self._pass_on(self._reports)
            self._wake.set()
        return "ok"

    def _on_participant_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._agent:
            self._streams.sender_left()
            self._wake.set()

    def _on_track_republished(self, *_: object) -> None:
        self._rejoined = True

    def _on_reconnected(self) -> None:
        # We left and joined again: what the agent had opened does not reach us any more.
        if self._rejoined:
            self._rejoined = False
            self._streams.sender_left()
            self._wake.set()

    def _accepts(self, identity: str) -> bool:
        named = self._room.local_participant.attributes.get(PUBLISH_ON_BEHALF)
        if named:
            return identity == named
        if self._agent in self._room.remote_participants:
            return identity == self._agent
        agents = (
            participant.identity
            for participant in self._room.remote_participants.values()
            if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
            and PUBLISH_ON_BEHALF not in participant.attributes
        )
        return identity == next(agents, None)

    def _on_session_event(self, event: SessionEvent) -> None:
        if isinstance(event, SegmentStarted):
            self._streams.segment_started(event.utterance_id)
        elif isinstance(event, SegmentEnded):
            self._streams.segment_ended(
                event.utterance_id, event.playback_position, event.reason, self._now_ns()
            )
        elif isinstance(event, SessionEnded):
            self._streams.session_over()
        self._pass_on(self._reports)
        self._wake.set()

    def _pass_on(self, reports: PlaybackReports | None) -> None:
        if reports is not None:
            for report in self._streams.reports():
                reports.send(report)

    # Tasks

    async def _read(self, number: int, reader: rtc.ByteStreamReader) -> None:
        lost = False
        try:
            async for data in reader:
                if not self._streams.received(number, data, self._now_ns()) and not lost:
                    lost = True
                    self._log.warning("speech lost: too much of it waits to be spoken")
                self._wake.set()
        except rtc.StreamError as error:
            self._log.info("audio stream broke off", error=error.description)
        finally:
            reader.close()
            self._readers.pop(number, None)
            self._streams.closed(number)
            self._wake.set()

    async def _speak(self) -> None:
        """Do what the streams ask for, one thing after the other."""
        try:
            while True:
                self._wake.clear()
                action = self._streams.poll(self._now_ns())
                for number in [each for each in self._readers if not self._streams.reads(each)]:
                    self._readers.pop(number).close()
                if action is None:
                    await self._sleep()
                else:
                    await self._perform(action)
                    await asyncio.sleep(0)  # a long held stream must not hold up the loop
        except SessionOver:
            pass
        except Exception:
            self._log.exception("speech from the agent cannot go on")
        self._streams.session_over()
        self._pass_on(self._reports)

    async def _sleep(self) -> None:
        deadline_ns = self._streams.deadline_ns()
        seconds = None if deadline_ns is None else max(0, deadline_ns - self._now_ns()) / 1e9
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _perform(self, action: Action) -> None:
        if isinstance(action, Begin):
            self._target.begin_speech(action.utterance_id, action.sample_rate)
        elif isinstance(action, Speak):
            name = action.utterance_id
            while await self._target.speak(action.pcm, action.sample_rate, name) is None:
                await asyncio.sleep(FULL_AGAIN_S)
                if not self._streams.speaking(name):
                    return  # cleared meanwhile
        else:
            self._target.end_speech()
