"""Clocks: where the worker's sense of time comes from.

Everything that waits or measures takes a ``Clock``, so that a test can run hours in seconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

NS_PER_SECOND = 1_000_000_000
"""Nanoseconds in a second."""

NS_PER_MS = 1_000_000
"""Nanoseconds in a millisecond."""


class Clock(Protocol):
    """A steady clock that never goes backwards; its zero means nothing."""

    def now_ns(self) -> int:
        """The present, in nanoseconds."""
        ...

    async def sleep_until(self, deadline_ns: int) -> None:
        """Return once ``now_ns() >= deadline_ns``; at once when that is past already."""
        ...


class SystemClock:
    """The machine's monotonic clock and the running event loop's timers."""

    def now_ns(self) -> int:
        """``time.monotonic_ns()``."""
        return time.monotonic_ns()

    async def sleep_until(self, deadline_ns: int) -> None:
        """Sleep; wakes at the deadline or a little after it, never before."""
        left_ns = deadline_ns - time.monotonic_ns()
        await asyncio.sleep(max(0, left_ns) / NS_PER_SECOND)
        # A loop's timer may fire early by the clock's resolution.
        while time.monotonic_ns() < deadline_ns:  # noqa: ASYNC110
            await asyncio.sleep(0)


def samples_to_ns(samples: int, rate: int) -> int:
    """Duration of ``samples`` at ``rate`` Hz in whole nanoseconds, rounded down.

    Convert counts since one fixed epoch, never durations to be added up: then nothing accumulates.
    """
    return samples * NS_PER_SECOND // rate


def ns_to_samples(ns: int, rate: int) -> int:
    """Whole samples at ``rate`` Hz that fit into ``ns`` nanoseconds."""
    return ns * rate // NS_PER_SECOND
