"""Playout: one session's frames, each with its 40 ms of audio, in order, into the room.

The room paces it (``publish`` returns when there is space for the next frame), so the audio that
is really played is the clock. A frame is planned one step ahead, rendered while its predecessor
plays, and handed over together with its sound. If its picture is late, the sound goes on and the
last picture stays; sound is never held back for a picture. In a room without a time of its own
(``realtime`` false) every picture is waited for instead, and time passes only while there is
something to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protocol.events import SegmentEnded, SegmentReason, SegmentStarted
from worker.metrics import Metrics
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.playback_tracker import PlaybackTracker
from worker.pipeline.render_pool import Rendered, RenderPool
from worker.pipeline.speech import Segment, Speech
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME, Room

FRAME_NS = 40_000_000
"""Duration of a frame."""

HANDOVER_NS = 8_000_000
"""A live picture must be there this long before the room would run dry."""

SPEAKING_AHEAD = 2
"""Frames planned ahead while there is speech to play."""

IDLE_AHEAD = 1
"""Frames planned ahead while idle: speech that arrives has to wait for no more than these."""

TAIL_FRAMES = 25
"""In a room whose time stands still: frames that follow the last speech."""

_SILENCE = np.zeros(SAMPLES_PER_FRAME, dtype=np.int16)


@dataclass(frozen=True)
class _Planned:
    generation: int
    segment: Segment | None
    audio: np.ndarray
    samples: int
    rendered: asyncio.Future[Rendered]


@dataclass
class PlayoutStats:
    """Running counts of one session's playout."""

    frames: int = 0
    pictures: int = 0
    dropped: int = 0
    shed: int = 0
    """Pictures of an idle face that were given up for faces that speak."""
    first_frame_ms: int | None = None
    repeated: int = 0
    """How often in a row the last picture had to stay."""


class Playout:
    """Drives one session's room. ``run`` is its task; the other methods are called beside it, on
    the same event loop."""

    def __init__(
        self,
        *,
        room: Room,
        speech: Speech,
        actor_proxy: ActorProxy,
        renders: RenderPool,
        metrics: Metrics,
        now_ns: Callable[[], int],
        emit: Callable[[SegmentStarted | SegmentEnded], None],
    ) -> None:
        self._room = room
        self._speech = speech
        self._actor_proxy = actor_proxy
        self._renders = renders
        self._metrics = metrics
        self._now_ns = now_ns
        self._emit = emit
        self._tracker = PlaybackTracker()
        self._planned: deque[_Planned] = deque()
        self._wake = asyncio.Event()
        self._reported_first: set[int] = set()
        self._shown = 0
        self._overdue: asyncio.Future[Rendered] | None = None
        self._due_ns = 0
        self._tail = 0
        self._begun = not room.starts_on_speech
        self.render_ms: deque[float] = deque(maxlen=256)
        self.stats = PlayoutStats()

    @property
    def av_offset_ms(self) -> int:
        """How far the picture now showing is behind its sound."""
        return self.stats.repeated * (FRAME_NS // 1_000_000)

    def opened(self, segment: Segment) -> None:
        """A segment exists from now on; it will be reported exactly once."""
        self._tracker.open(segment)

    def wake(self) -> None:
        """Speech arrived or ended: look again, if time stood still."""
        self._wake.set()

    async def run(self) -> None:
        """Play until cancelled. Raises what the room or the engine raises."""
        while True:
            self._speech.underrun(self._now_ns())
            self._plan()
            if not self._planned:
                # Time stands still. A look every now and then lets a segment in underrun end.
                self._settle()
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 0.05)
                continue
            await self._hand_over()

    def interrupt(self, reason: SegmentReason) -> float | None:
        """Stop speaking now: drop what is planned, silence the room, report every segment.

        Returns the seconds of sound that are still heard, for the room had begun to play them.
        Does nothing, and returns None, when nothing is said: some clients interrupt whenever a
        person speaks, and the idle face must not stumble each time.
        """
        self._settle()
        if not self._tracker.owing:
            return None
        self._speech.interrupt()
        cleared = self._room.clear()
        self._shown = max(0, self._shown - cleared // SAMPLES_PER_FRAME)
        self._actor_proxy.interrupt(self._shown)
        self._drop(cleared, reason)
        # The room is empty now and the next picture is wanted at once.
        self._due_ns = self._now_ns()
        self._plan()
        self._wake.set()
        return max(0, self._tracker.pushed - self._room.played) / MEDIA_RATE

    def close(self, reason: SegmentReason) -> None:
        """Report what is still open when the session ends; ``run`` has been cancelled before."""
        self._settle()
        self._speech.interrupt()
        self._drop(self._room.clear(), reason)

    def _drop(self, cleared: int, reason: SegmentReason) -> None:
        self._overdue = None
        for planned in self._planned:
            planned.rendered.cancel()
        self._planned.clear()
        for event in self._tracker.cut(cleared, reason):
            self._report(event)

    def _plan(self) -> None:
        """Keep one frame (two in speech) on its way through the render pool."""
        while True:
            now_ns = self._now_ns()
            speaking = self._speech.can_take(now_ns)
            if speaking:
                self._begun = True
                self._tail = TAIL_FRAMES
            elif self._holds_time():
                return
            if len(self._planned) >= (SPEAKING_AHEAD if speaking else IDLE_AHEAD):
                return
            block = self._speech.take(now_ns)
            if block is None:
                self._tail -= 1
            ahead_ns = FRAME_NS * (1 + len(self._planned)) - HANDOVER_NS
            # There is no last picture to show instead of the very first one.
            first = self.stats.frames == 0 and not self._planned
            generation = self._speech.generation
            rendered = self._renders.submit(
                self._actor_proxy,
                generation,
                block is not None,
                max(now_ns, self._due_ns) + ahead_ns,
                required=first or not self._room.realtime,
            )
            if block is None:
                self._planned.append(_Planned(generation, None, _SILENCE, 0, rendered))
            else:
                self._planned.append(
                    _Planned(generation, block.segment, block.audio, block.samples, rendered)
                )

    def _holds_time(self) -> bool:
        if not self._begun:
            return True
        if self._room.realtime:
            return False
        return bool(self._speech.pending) or self._tail <= 0

    async def _hand_over(self) -> None:
        planned = self._planned[0]
        rendered = await self._wait(planned.rendered)
        if not self._planned or self._planned[0] is not planned:
            return  # an interrupt came while we waited
        self._planned.popleft()
        picture = self._picture(planned, rendered)
        speaking = planned.segment is not None
        if speaking:
            self._note_first_frame(planned.segment)
        self._tracker.push(planned.segment, planned.samples, SAMPLES_PER_FRAME)
        self._shown += 1
        self._count(rendered)
        self._plan()
        generation = planned.generation
        await self._room.publish(picture, planned.audio, speaking)
        if generation == self._speech.generation:
            self._due_ns = self._now_ns() + FRAME_NS
        self._settle()

    async def _wait(self, future: asyncio.Future[Rendered]) -> Rendered | None:
        """The rendered frame; None when a live room cannot wait for it any longer."""
        timeout = None
        if self._room.realtime and self.stats.frames and not future.done():
            left_ns = self._due_ns - HANDOVER_NS - self._now_ns()
            timeout = max(0.0, left_ns / 1e9)
        if not future.done():
            await asyncio.wait({future}, timeout=timeout)
        if future.cancelled() or not future.done():
            return None
        return future.result()

    def _picture(self, planned: _Planned, rendered: Rendered | None) -> np.ndarray | None:
        """The frame's own picture; failing that, one of the frame before that came too late for
        its own: a face that lags for a moment is better than one that freezes."""
        overdue, self._overdue = self._overdue, None
        if rendered is None:
            self._overdue = planned.rendered
        elif rendered.picture is not None:
            return rendered.picture
        if overdue is None or not overdue.done() or overdue.cancelled():
            return None
        return overdue.result().picture

    def _count(self, rendered: Rendered | None) -> None:
        self.stats.frames += 1
        if rendered is not None and rendered.shed:
            self.stats.shed += 1
            self._metrics.frame_dropped("overload")
            return
        if rendered is None or rendered.picture is None:
            self.stats.dropped += 1
            self.stats.repeated += 1
            self._metrics.frame_dropped("late")
            return
        self.stats.pictures += 1
        self.stats.repeated = 0
        self.render_ms.append(rendered.render_ns / 1e6)
        self._metrics.observe_stage("motion", rendered.act_ns / 1e9)
        self._metrics.observe_stage("warp", rendered.render_ns / 1e9)

    def _note_first_frame(self, segment: Segment | None) -> None:
        if segment is None or segment.id in self._reported_first or segment.first_byte_ns is None:
            return
        self._reported_first = {segment.id}
        elapsed_ns = self._now_ns() - segment.first_byte_ns
        self._metrics.observe_first_frame(elapsed_ns / 1e9)
        if self.stats.first_frame_ms is None:
            self.stats.first_frame_ms = elapsed_ns // 1_000_000

    def _settle(self) -> None:
        for event in self._tracker.settle(self._room.played, self._now_ns()):
            self._report(event)

    def _report(self, event: SegmentStarted | SegmentEnded) -> None:
        if isinstance(event, SegmentStarted):
            self._metrics.observe_playback_latency(event.latency_ms / 1000)
        self._emit(event)
