"""Sound into a Daily call: our own queue in front of the SDK's, which cannot be cleared.

A ``CustomAudioSource`` plays what it is given in real time, first in, first out, and calls back
when a piece has left. So it is given little at a time, and the rest waits here, where an
interruption can still throw it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.clock import NS_PER_SECOND, Clock
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME, RoomError

PIECE = MEDIA_RATE // 100
"""Samples handed over at a time: 10 ms. The SDK reports other lengths as played at once."""

IN_FLIGHT = 4 * PIECE
"""Samples that the SDK may hold, 40 ms: they can no longer be taken back, and they are the time
in which the event loop has to bring the next piece."""

STALLED_S = 5.0
"""Without a sign of progress for this long (and at most twice as long) the sound is dead."""


class _Sources:
    """One SDK's audio sources, kept until the process ends."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.idle: list[Any] = []


_sources: weakref.WeakKeyDictionary[Any, _Sources] = weakref.WeakKeyDictionary()


def borrow_source(sdk: Any) -> Any:
    """A ``CustomAudioSource``, 48 kHz mono, that plays for nobody else."""
    sources = _sources.setdefault(sdk, _Sources())
    if not sources.idle:
        sources.all.append(sdk.CustomAudioSource(MEDIA_RATE, 1))
        return sources.all[-1]
    return sources.idle.pop()


def return_source(sdk: Any, source: Any) -> None:
    """Give back a borrowed source that has nothing left to play."""
    _sources[sdk].idle.append(source)


@dataclass(frozen=True)
class _Piece:
    pcm: bytes
    on_start: Callable[[], None] | None

    @property
    def samples(self) -> int:
        return len(self.pcm) // 2

    def begin(self) -> None:
        if self.on_start is not None:
            self.on_start()


class AudioFeed:
    """Feeds one ``CustomAudioSource``. Belongs to the event loop it was made on; only the SDK's
    completions come from another thread.

    Args:
        source: a borrowed one: the lender keeps it alive.
        clock: for the watch over the SDK's progress.
        on_idle: called once, after ``close``, when the source has nothing left to play.
    """

    def __init__(
        self, source: Any, clock: Clock, on_idle: Callable[[], None] = lambda: None
    ) -> None:
        self._source = source
        self._clock = clock
        self._on_idle: Callable[[], None] | None = on_idle
        self._loop = asyncio.get_running_loop()
        self._queued: deque[_Piece] = deque()
        self._in_flight: deque[_Piece] = deque()
        self._played = 0
        self._changed: set[asyncio.Future[None]] = set()
        self._end: str | None = None

    @property
    def played(self) -> int:
        """Samples that have left the SDK's queue."""
        return self._played

    @property
    def waiting(self) -> int:
        """Samples that have not: in our queue and in the SDK's."""
        return sum(p.samples for p in self._queued) + self.in_flight

    @property
    def in_flight(self) -> int:
        """Samples in the SDK's queue, which nobody can take back."""
        return sum(piece.samples for piece in self._in_flight)

    def push(self, pcm: bytes, on_start: Callable[[], None] | None = None) -> None:
        """Append sound; ``on_start`` is called when its first sample begins to be heard.

        Raises:
            ValueError: not ``bytes``, or not a multiple of 10 ms.
            RoomError: the feed has been closed.
        """
        self._check_open()
        step = 2 * PIECE
        if not isinstance(pcm, bytes) or not pcm or len(pcm) % step:
            raise ValueError(f"pcm must be bytes, a multiple of {step} (10 ms at 48 kHz mono)")
        for start in range(0, len(pcm), step):
            self._queued.append(_Piece(pcm[start : start + step], None if start else on_start))
        self._feed()

    def clear(self) -> int:
        """Throw away what the SDK does not have yet; returns its samples."""
        dropped = sum(piece.samples for piece in self._queued)
        self._queued.clear()
        self._notify()
        return dropped

    async def space(self, samples: int = SAMPLES_PER_FRAME) -> None:
        """Return when at most ``samples`` samples wait.

        Raises:
            RoomError: the feed was closed, or the SDK no longer plays.
        """
        while True:
            self._check_open()
            if self.waiting <= samples:
                return
            await self._progress()

    def close(self, why: str) -> None:
        """Play nothing more; a waiting caller gets ``RoomError(why)``."""
        if self._end is None:
            self._end = why
        self.clear()
        self._rest()

    def _check_open(self) -> None:
        if self._end is not None:
            raise RoomError(self._end)

    def _feed(self) -> None:
        while self._queued and self.in_flight + self._queued[0].samples <= IN_FLIGHT:
            piece = self._queued.popleft()
            self._in_flight.append(piece)
            self._source.write_frames(piece.pcm, completion=self._completed)
            if len(self._in_flight) == 1:
                piece.begin()

    def _completed(self, _frames: int) -> None:
        """On Daily's thread."""
        # The source may outlive the loop; what comes then concerns nobody.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_left)

    def _note_left(self) -> None:
        if not self._in_flight:
            return
        piece = self._in_flight.popleft()
        if self._end is not None:
            self._rest()
            return
        self._played += piece.samples
        follower = self._in_flight[0] if self._in_flight else None
        # Sound first: it cannot wait for what ``begin`` does.
        self._feed()
        self._notify()
        if follower is not None:
            follower.begin()

    def _rest(self) -> None:
        if not self._in_flight and self._on_idle is not None:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    def _notify(self) -> None:
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)

    async def _progress(self) -> None:
        """Return after a piece left or was thrown away."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._changed.add(waiter)
        alarm = asyncio.create_task(self._ring(waiter))
        try:
            await waiter
        finally:
            self._changed.discard(waiter)
            alarm.cancel()

    async def _ring(self, waiter: asyncio.Future[None]) -> None:
        # Two waits: when the whole process was suspended the first ends at once, although the
        # SDK goes on as soon as we do.
        for _ in range(2):
            await self._clock.sleep_until(
                self._clock.now_ns() + round(STALLED_S / 2 * NS_PER_SECOND)
            )
        if not waiter.done():
            self.close("Daily stopped taking the avatar's sound; start a new session")
