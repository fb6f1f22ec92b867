"""The media clock of rooms without an audio device of their own.

``PlayoutQueue`` is the arithmetic: audio that drains by itself in real time, in integer samples
and nanoseconds counted from one epoch, so that nothing drifts. ``Pacer`` puts it on a clock and an
event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.clock import Clock, ns_to_samples, samples_to_ns
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME, RoomError

T = TypeVar("T")

HANDOVER_LIMIT = 12
"""Blocks that may wait to be popped; the reader may fall that far behind (480 ms, as when an
encoder stumbles) before time has to wait for it."""


@dataclass(frozen=True)
class Block(Generic[T]):
    """A stretch of audio, with whatever goes along with it, and when it is heard."""

    item: T
    samples: int
    start_ns: int
    """When its first sample leaves the queue, by the clock."""
    end_ns: int
    """When its last sample has left."""
    media_time: int
    """The first sample's place on the media clock: samples since the first block ever started.
    Counts the gaps too, so that it stays in step with time outside."""


class PlayoutQueue(Generic[T]):
    """A queue of audio that drains at its sample rate, whether or not anybody looks.

    Blocks play back to back. When the queue ran dry (the publisher was late, or the process was
    suspended) the next block starts at once when it comes, and later ones follow it: what was
    missed is never made up for, and never counted as played. A block that has begun leaves whole.
    """

    def __init__(self, rate: int = MEDIA_RATE) -> None:
        self._rate = rate
        self._blocks: deque[Block[T]] = deque()
        self._finished = 0
        # Starts of blocks are counted from the moment the queue last began to play after a pause.
        self._origin_ns: int | None = None
        self._epoch_ns = 0
        self._since_epoch = 0

    def push(self, now_ns: int, item: T, samples: int) -> Block[T]:
        """Append ``samples`` samples; answers when they will be heard."""
        self._drop_finished(now_ns)
        end_ns = self._epoch_ns + samples_to_ns(self._since_epoch, self._rate)
        if self._origin_ns is None:
            self._origin_ns = self._epoch_ns = now_ns
        elif now_ns > end_ns:
            self._epoch_ns, self._since_epoch = now_ns, 0
        start_ns = self._epoch_ns + samples_to_ns(self._since_epoch, self._rate)
        media_time = ns_to_samples(self._epoch_ns - self._origin_ns, self._rate) + self._since_epoch
        self._since_epoch += samples
        end_ns = self._epoch_ns + samples_to_ns(self._since_epoch, self._rate)
        block = Block(item, samples, start_ns, end_ns, media_time)
        self._blocks.append(block)
        return block

    def clear(self, now_ns: int) -> int:
        """Throw away the blocks that have not begun; returns their samples."""
        dropped = 0
        while self._blocks and self._blocks[-1].start_ns > now_ns:
            dropped += self._blocks.pop().samples
        self._since_epoch -= dropped
        return dropped

    def played(self, now_ns: int) -> int:
        """Samples that have left. Never decreases."""
        self._drop_finished(now_ns)
        return self._finished + self._begun(now_ns)

    def waiting(self, now_ns: int) -> int:
        """Samples inside that have not left yet."""
        self._drop_finished(now_ns)
        return sum(block.samples for block in self._blocks) - self._begun(now_ns)

    def when_waiting(self, samples: int) -> int:
        """The time at which at most ``samples`` samples wait, if nothing more is pushed."""
        keep = max(self._since_epoch - samples, 0)
        # Rounded up: at the time answered the samples must have left.
        return self._epoch_ns - samples_to_ns(-keep, self._rate)

    def _begun(self, now_ns: int) -> int:
        if not self._blocks:
            return 0
        head = self._blocks[0]
        return min(max(ns_to_samples(now_ns - head.start_ns, self._rate), 0), head.samples)

    def _drop_finished(self, now_ns: int) -> None:
        while self._blocks and self._blocks[0].end_ns <= now_ns:
            self._finished += self._blocks.popleft().samples


class Pacer(Generic[T]):
    """Holds the publisher to real time and hands each block out when it begins to be heard.

    One side pushes, the other pops. ``push`` returns when at most ``capacity`` samples wait, which
    leaves the publisher that long to bring the next block without a gap.
    """

    def __init__(self, clock: Clock, capacity: int = SAMPLES_PER_FRAME) -> None:
        self._clock = clock
        self._capacity = capacity
        self._queue: PlayoutQueue[T] = PlayoutQueue()
        self._unpopped: deque[Block[T]] = deque()
        self._pushing = asyncio.Lock()
        self._wakers: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def played(self) -> int:
        """Samples that have left; see ``worker.rooms.port.Room.played``."""
        return self._queue.played(self._clock.now_ns())

    @property
    def waiting(self) -> int:
        """Samples inside that have not left yet."""
        return self._queue.waiting(self._clock.now_ns())

    async def push(self, item: T, samples: int) -> None:
        """Append a block, then wait for space. Raises ``RoomError`` once closed."""
        await self.push_all([item], samples)

    async def push_all(
        self,
        items: Sequence[T],
        samples: int,
        taken: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Append a block of ``samples`` samples for each item, then wait for space. ``taken`` is
        awaited in between, once they are in. Raises ``RoomError`` once closed."""
        async with self._pushing:
            # Space is awaited before, too: a push that was cancelled while it waited after
            # appending has left the queue full.
            await self._space()
            now_ns = self._clock.now_ns()
            self._unpopped.extend(self._queue.push(now_ns, item, samples) for item in items)
            self._notify()
            if taken is not None:
                await taken()
            await self._space()

    async def pop(self) -> Block[T]:
        """The next block, once its first sample leaves. Raises ``RoomError`` when closed and every
        block that had begun by then has been handed out."""
        while True:
            if not self._unpopped:
                self._check_open()
                await self._changed(None)
            elif (due_ns := self._unpopped[0].start_ns) > self._clock.now_ns():
                await self._changed(due_ns)
            else:
                block = self._unpopped.popleft()
                self._notify()
                return block

    def pop_due(self) -> Block[T] | None:
        """The next block if its first sample has left already."""
        if not self._unpopped or self._unpopped[0].start_ns > self._clock.now_ns():
            return None
        block = self._unpopped.popleft()
        self._notify()
        return block

    def clear(self) -> int:
        """Throw away what has not begun; returns its samples."""
        now_ns = self._clock.now_ns()
        dropped = self._queue.clear(now_ns)
        while self._unpopped and self._unpopped[-1].start_ns > now_ns:
            self._unpopped.pop()
        self._notify()
        return dropped

    def close(self) -> None:
        """Throw away what has not begun; from now on ``push`` raises ``RoomError``."""
        self.clear()
        self._closed = True
        self._notify()

    async def _space(self) -> None:
        while True:
            self._check_open()
            if len(self._unpopped) > HANDOVER_LIMIT:
                await self._changed(None)
            elif self.waiting > self._capacity:
                await self._changed(self._queue.when_waiting(self._capacity))
            else:
                return

    def _check_open(self) -> None:
        if self._closed:
            raise RoomError("the room is closed; nothing can be published to it any more")

    def _notify(self) -> None:
        for waker in self._wakers:
            if not waker.done():
                waker.set_result(None)

    async def _changed(self, deadline_ns: int | None) -> None:
        """Wait until the queue changed or the deadline came."""
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wakers.add(waker)
        alarm = None if deadline_ns is None else asyncio.create_task(self._ring(deadline_ns, waker))
        try:
            await waker
        finally:
            self._wakers.discard(waker)
            if alarm is not None:
                alarm.cancel()

    async def _ring(self, deadline_ns: int, waker: asyncio.Future[None]) -> None:
        await self._clock.sleep_until(deadline_ns)
        if not waker.done():
            waker.set_result(None)
