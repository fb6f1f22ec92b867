"""A clock that moves only when told to: simulated hours run in seconds, the same way every time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class FakeClock:
    """A ``worker.clock.Clock`` for tests.

    ``advance`` walks from sleeper to sleeper and lets everything that became ready run before it
    goes on, so the order of events is the order of their deadlines. ``suspend`` jumps, as when the
    whole process was stopped. ``drive`` runs something to its end, however long that sleeps.
    """

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now

    async def sleep_until(self, deadline_ns: int) -> None:
        if deadline_ns <= self._now:
            # A sleep of no length still lets others run, as the real one may.
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline_ns, next(self._order), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many sleepers wait at present."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, ns: int) -> None:
        """Let ``ns`` nanoseconds pass, waking each sleeper at exactly its deadline."""
        target = self._now + ns
        await settle()
        while (deadline := self._next_deadline()) is not None and deadline <= target:
            self._wake(deadline)
            await settle()
        self._now = target
        await settle()

    async def suspend(self, ns: int) -> None:
        """Jump ``ns`` nanoseconds ahead with nobody running meanwhile; then all wake late."""
        self._now += ns
        while (deadline := self._next_deadline()) is not None and deadline <= self._now:
            self._wake(self._now)
        await settle()

    async def drive(self, awaitable: Awaitable[T], patience_s: float = 20.0) -> T:
        """Await ``awaitable``, moving on to the next deadline whenever nothing else can run.

        ``patience_s``: real seconds to wait for threads and sockets when nobody sleeps at all;
        then the test is stuck, and ``TimeoutError`` says so.
        """
        task = asyncio.ensure_future(awaitable)
        stuck_since = time.monotonic()
        while True:
            await settle()
            if task.done():
                return task.result()
            deadline = self._next_deadline()
            if deadline is not None:
                self._wake(deadline)
                stuck_since = time.monotonic()
            elif time.monotonic() - stuck_since > patience_s:
                task.cancel()
                raise TimeoutError("nothing sleeps on the fake clock and nothing else happens")
            else:
                await asyncio.sleep(0.001)

    def _next_deadline(self) -> int | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake(self, now_ns: int) -> None:
        self._now = max(self._now, now_ns)
        while (deadline := self._next_deadline()) is not None and deadline <= self._now:
            heapq.heappop(self._sleepers)[2].set_result(None)


async def settle() -> None:
    """Let every task that can run do so, until all of them wait for something."""
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if ready is None:
        for _ in range(50):
            await asyncio.sleep(0)
        return
    while True:
        await asyncio.sleep(0)
        if not ready:
            return
