"""One session's life: join the room, idle, speak, be interrupted, end, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import structlog

from models.engine import FPS, Actor, Canvas
from protocol.events import (
    EndReason,
    SegmentReason,
    SessionDraining,
    SessionEnded,
    SessionEvent,
    SessionExpiring,
    SessionMetrics,
    SessionReady,
)
from protocol.session_types import SessionInfo, SpeakReceipt, speech_samples
from worker.clock import Clock
from worker.interfaces import SessionOver
from worker.metrics import Metrics
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.playout import Playout, PlayoutStats
from worker.pipeline.render_pool import RenderPool
from worker.pipeline.speech import Speech
from worker.rooms.port import Room, RoomError, RoomEvent
from worker.settings import LifecycleSettings

logger = structlog.get_logger(__name__)

UNHURRIED_BACKLOG_S = 30.0
"""Below this backlog speech is taken in as fast as it comes."""

HURRY = 20.0
"""Above it, no faster than this many times real time, so that a flood is slowed down at its
source and an interrupt behind it still gets through."""

MAX_SLOWDOWN_S = 0.5

_WHEN_CLOSED: dict[str, EndReason] = {
    "removed": "removed_from_room",
    "connection_lost": "connection_lost",
}
"""End reasons for what a room says when it is closed; for all else it is ``room_closed``."""


class Session:
    """One avatar in one room. Belongs to the event loop it was started on.

    ``start`` once, then any of the speech methods, then ``end``; ``closed`` is set when everything
    is released. Subscribers are called on the loop and must not block.
    """

    def __init__(
        self,
        *,
        session_id: str,
        canvas: Canvas,
        actor: Actor,
        room: Room,
        renders: RenderPool,
        clock: Clock,
        metrics: Metrics,
        expiration: datetime | None = None,
        backlog_s: float = 300.0,
        start_lookahead_s: float = 0.0,
        lifecycle: LifecycleSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.canvas = canvas
        self.expiration = expiration
        self.room = room
        self._lifecycle = lifecycle or LifecycleSettings()
        self.created_at = datetime.now(UTC)
        self.closed = asyncio.Event()
        self.end_reason: EndReason | None = None
        self.failure: str | None = None
        """Why the room could not be joined or was lost, for the operator."""
        self._clock = clock
        self._metrics = metrics
        self._actor_proxy = ActorProxy(actor)
        self._speech = Speech(
            self._actor_proxy, backlog_s=backlog_s, start_lookahead_s=start_lookahead_s
        )
        self._playout = Playout(
            room=room,
            speech=self._speech,
            actor_proxy=self._actor_proxy,
            renders=renders,
            metrics=metrics,
            now_ns=clock.now_ns,
            emit=self._emit,
        )
        self._subscribers: list[Callable[[SessionEvent], None]] = []
        self._attached = False
        self._begun_ns = clock.now_ns()
        self._life: asyncio.Task[None] | None = None
        self._timers: set[asyncio.Task[None]] = set()
        self._graces: dict[str, asyncio.Task[None]] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._ready: SessionReady | None = None
        self._draining: SessionDraining | None = None
        self._log = logger.bind(session_id=session_id)

    def start(self) -> None:
        """Join the room and begin to appear in it."""
        self._life = asyncio.create_task(self._live(), name=f"session {self.session_id}")
        if self.expiration is not None:
            self._timer(self._expire(self.expiration))
        self._timer(self._report_metrics())
        self._timer(self._await_company())

    @property
    def info(self) -> SessionInfo:
        """What a newly attached client is told."""
        return SessionInfo(
            self.session_id, self.expiration, self.canvas, self._ready, self._draining
        )

    @property
    def ready(self) -> bool:
        """The avatar is in its room."""
        return self._ready is not None

    @property
    def stats(self) -> PlayoutStats:
        """Counts of frames so far."""
        return self._playout.stats

    @property
    def render_ms(self) -> Sequence[float]:
        """How long the latest pictures took to render, in ms."""
        return self._playout.render_ms

    # Speech

    async def speak(
        self, pcm: bytes, sample_rate: int, utterance_id: str | None = None
    ) -> SpeakReceipt | None:
        """Queue signed 16-bit little-endian mono PCM; None when the backlog is full.

        A sender that is far ahead of playing is held back here for a moment.

        Raises:
            SessionOver: the session has ended.
        """
        if self.end_reason is not None:
            raise SessionOver
        samples = np.frombuffer(pcm, dtype="<i2")
        now_ns = self._clock.now_ns()
        segment = self._speech.speak(samples, sample_rate, utterance_id, now_ns)
        self._metrics.observe_stage("audio", (self._clock.now_ns() - now_ns) / 1e9)
        if segment is not None:
            self._playout.opened(segment)
            self._playout.wake()
        if segment is None or self._speech.backlog_s > UNHURRIED_BACKLOG_S:
            seconds = len(samples) / sample_rate / HURRY
            await asyncio.sleep(min(MAX_SLOWDOWN_S, seconds))
        if segment is None:
            return None
        return SpeakReceipt(segment.id, speech_samples(len(samples), sample_rate))

    def begin_speech(self, utterance_id: str | None, sample_rate: int) -> None:
        """Close the open segment and open a new one."""
        if self.end_reason is not None:
            return
        segment = self._speech.begin(utterance_id, sample_rate, self._clock.now_ns())
        self._playout.opened(segment)
        self._playout.wake()

    def end_speech(self) -> None:
        """The open segment is complete."""
        self._speech.end()
        self._playout.wake()

    async def interrupt(self) -> None:
        """Fall silent; returns after every pending segment has been reported."""
        if self.end_reason is not None:
            return
        begun_ns = self._clock.now_ns()
        still_heard_s = self._playout.interrupt("interrupted")
        if still_heard_s is not None:
            taken_s = (self._clock.now_ns() - begun_ns) / 1e9
            self._metrics.observe_interrupt(taken_s + still_heard_s)

    # Listeners and sockets

    def subscribe(self, callback: Callable[[SessionEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; returns how to stop that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def attach(self) -> None:
        """A socket speaks for this session now; a grace under way is over."""
        self._attached = True
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def detach(self, clean: bool, grace_s: float) -> None:
        """The socket is gone; without another one within the grace the session ends."""
        self._attached = False
        if self.end_reason is None:
            wait_s = 0.0 if clean else grace_s
            self._leaving = self._timer(self._end_after(wait_s, "websocket_closed"))

    # End

    def drain(self, deadline: datetime) -> None:
        """Tell listeners that the worker shuts down."""
        self._draining = SessionDraining(deadline, "server_shutdown")
        self._emit(self._draining)

    async def end(self, reason: EndReason) -> None:
        """End the session, once; returns when it is released. Later reasons are ignored."""
        if self.end_reason is None:
            self.end_reason = reason
            if self._life is not None:
                self._life.cancel()
                await asyncio.gather(self._life, return_exceptions=True)
            await self._release(reason)
        await self.closed.wait()

    async def _release(self, reason: EndReason) -> None:
        timers = list(self._timers)
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)
        why: SegmentReason = "error" if reason == "server_error" else "session_ended"
        try:
            self._playout.close(why)
            await self.room.aclose(reason)
        except RoomError as error:
            self.failure = str(error)
            self._log.error("the room did not close cleanly", error=self.failure)
        except Exception:
            self._log.exception("the room did not close cleanly")
        ended_at = datetime.now(UTC)
        duration_s = (self._clock.now_ns() - self._begun_ns) / 1e9
        self._emit(SessionEnded(reason, duration_s, ended_at))
        self._subscribers.clear()
        self._metrics.session_ended(reason)
        self._log.info("session ended", reason=reason, duration_s=round(duration_s, 1))
        self.closed.set()

    # Tasks

    async def _live(self) -> None:
        try:
            async with asyncio.timeout(self._lifecycle.join_timeout_s):
                await self.room.connect(self._on_room_event)
        except (RoomError, TimeoutError) as error:
            self.failure = str(error) or "joining the room took too long"
            self._log.warning("could not join the room", error=self.failure)
            self._end_soon("join_failed")
            return
        joined_ns = self._clock.now_ns() - self._begun_ns
        self._metrics.observe_join(joined_ns / 1e9)
        self._ready = SessionReady(self.canvas.width, self.canvas.height, FPS)
        self._emit(self._ready)
        self._log.info("session ready", join_ms=joined_ns // 1_000_000)
        try:
            await self._playout.run()
        except RoomError as error:
            self.failure = str(error)
            self._log.warning("the room was lost", error=self.failure)
            self._end_soon("connection_lost")
        except Exception:
            self._log.exception("playout failed")
            self._end_soon("server_error")

    def _on_room_event(self, kind: RoomEvent, reason: str) -> None:
        if kind == "closed":
            self._end_soon(_WHEN_CLOSED.get(reason, "room_closed"))
        elif kind == "reconnected":
            self._metrics.transport_reconnected(
                type(self.room).__name__.removesuffix("Room").lower(),
                "resume" if reason == "resume" else "full",
            )
        elif self.end_reason is None:
            grace = "agent" if kind.startswith("agent") else "company"
            if (running := self._graces.pop(grace, None)) is not None:
                running.cancel()
            if kind == "participant_left" and (self.room.multi_party or not self._attached):
                self._graces[grace] = self._timer(self._end_if_alone())
            elif kind == "agent_left":
                self._graces[grace] = self._timer(self._end_without_agent())

    async def _end_if_alone(self) -> None:
        await asyncio.sleep(self._lifecycle.empty_room_grace_s)
        if (self.room.multi_party or not self._attached) and not self.room.viewers:
            self._end_soon("room_empty")

    async def _end_without_agent(self) -> None:
        await asyncio.sleep(self._lifecycle.agent_left_s)
        if not self._attached:
            self._end_soon("agent_left")

    async def _await_company(self) -> None:
        await asyncio.sleep(self._lifecycle.never_joined_s)
        if not self._attached and not self.room.viewers:
            self._end_soon("never_joined")

    async def _expire(self, expiration: datetime) -> None:
        notice = expiration - timedelta(seconds=self._lifecycle.expiring_notice_s)
        await asyncio.sleep(max(0.0, (notice - datetime.now(UTC)).total_seconds()))
        left_s = (expiration - datetime.now(UTC)).total_seconds()
        if left_s > 0:
            self._emit(SessionExpiring(expiration, round(left_s)))
            await asyncio.sleep(left_s)
        self._end_soon("expired")

    async def _end_after(self, wait_s: float, reason: EndReason) -> None:
        await asyncio.sleep(wait_s)
        self._end_soon(reason)

    async def _report_metrics(self) -> None:
        stats = self._playout.stats
        seen = stats.pictures
        every_s = self._lifecycle.metrics_interval_s
        while True:
            await asyncio.sleep(every_s)
            times = sorted(self._playout.render_ms) or [0.0]
            self._metrics.set_audio_buffer(self._speech.backlog_s)
            self._metrics.set_av_offset(self._playout.av_offset_ms / 1000)
            self._emit(
                SessionMetrics(
                    fps=round((stats.pictures - seen) / every_s, 2),
                    frames_dropped=stats.dropped,
                    audio_buffer_ms=round(self._speech.backlog_s * 1000),
                    av_offset_ms=self._playout.av_offset_ms,
                    render_ms_p50=round(times[len(times) // 2], 2),
                    render_ms_p95=round(times[int(len(times) * 0.95)], 2),
                    first_frame_ms=stats.first_frame_ms,
                )
            )
            seen = stats.pictures

    def _end_soon(self, reason: EndReason) -> None:
        if self.end_reason is None:
            # A task of its own: the task that noticed the end is cancelled by it.
            self._ending = asyncio.get_running_loop().create_task(self.end(reason))

    def _timer(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)
        return task

    def _emit(self, event: SessionEvent) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                self._log.exception("a subscriber failed")
