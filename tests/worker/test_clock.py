from __future__ import annotations

import asyncio

import pytest

from tests.fakes.clock import FakeClock
from worker.clock import NS_PER_MS, NS_PER_SECOND, SystemClock, ns_to_samples, samples_to_ns


async def test_the_system_clock_never_wakes_early() -> None:
    clock = SystemClock()
    for ms in (0, 1, 7):
        deadline = clock.now_ns() + ms * NS_PER_MS
        await clock.sleep_until(deadline)
        assert clock.now_ns() >= deadline


async def test_a_deadline_in_the_past_returns_at_once() -> None:
    await asyncio.wait_for(SystemClock().sleep_until(0), 1)


def test_a_frame_is_exactly_forty_milliseconds() -> None:
    assert samples_to_ns(1920, 48_000) == 40 * NS_PER_MS
    assert ns_to_samples(40 * NS_PER_MS, 48_000) == 1920


def test_counts_survive_the_way_to_nanoseconds_within_one_sample_after_a_year() -> None:
    samples = 48_000 * 3600 * 24 * 365 + 1
    assert samples - ns_to_samples(samples_to_ns(samples, 48_000), 48_000) in (0, 1)


async def test_fake_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    clock = FakeClock(0)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, ms: int) -> None:
        await clock.sleep_until(ms * NS_PER_MS)
        woken.append((name, clock.now_ns() // NS_PER_MS))

    tasks = [asyncio.create_task(sleeper(*each)) for each in (("c", 30), ("a", 10), ("b", 20))]
    await clock.advance(25 * NS_PER_MS)
    assert woken == [("a", 10), ("b", 20)]
    assert clock.now_ns() == 25 * NS_PER_MS
    assert clock.sleeping == 1
    await clock.advance(5 * NS_PER_MS)
    assert woken[-1] == ("c", 30)
    await asyncio.gather(*tasks)


async def test_fake_sleepers_may_sleep_again_within_one_advance() -> None:
    clock = FakeClock(0)
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            await clock.sleep_until(clock.now_ns() + 10 * NS_PER_MS)
            ticks.append(clock.now_ns() // NS_PER_MS)

    task = asyncio.create_task(tick())
    await clock.advance(35 * NS_PER_MS)
    assert ticks == [10, 20, 30]
    task.cancel()
    await clock.advance(NS_PER_SECOND)
    assert ticks == [10, 20, 30]


async def test_suspended_sleepers_all_wake_late() -> None:
    clock = FakeClock(0)
    seen: list[int] = []

    async def sleeper() -> None:
        await clock.sleep_until(10)
        seen.append(clock.now_ns())

    task = asyncio.create_task(sleeper())
    await clock.advance(0)
    await clock.suspend(NS_PER_SECOND)
    await task
    assert seen == [NS_PER_SECOND]


async def test_drive_runs_hours_at_once_and_tells_a_deadlock() -> None:
    clock = FakeClock(0)

    async def three_hours() -> str:
        for _ in range(3):
            await clock.sleep_until(clock.now_ns() + 3600 * NS_PER_SECOND)
        return "done"

    assert await clock.drive(three_hours()) == "done"
    assert clock.now_ns() == 3 * 3600 * NS_PER_SECOND
    with pytest.raises(TimeoutError, match="nothing sleeps"):
        await clock.drive(asyncio.Event().wait(), patience_s=0.01)
