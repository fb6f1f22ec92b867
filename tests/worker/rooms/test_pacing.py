from __future__ import annotations

import asyncio
import random

import pytest

from tests.fakes.clock import FakeClock, settle
from worker.clock import NS_PER_MS, NS_PER_SECOND
from worker.rooms.pacing import HANDOVER_LIMIT, Pacer, PlayoutQueue
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError

FRAME_NS = 40 * NS_PER_MS


def test_ten_hours_show_no_drift() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue()
    chance = random.Random(1)
    start = now = 12_345_678_901
    frames = 10 * 3600 * 25
    for n in range(frames):
        block = queue.push(now, n, SAMPLES_PER_FRAME)
        assert block.start_ns == start + n * FRAME_NS
        assert block.media_time == n * SAMPLES_PER_FRAME
        # The publisher comes back late now and then, but never too late.
        now = max(now, queue.when_waiting(SAMPLES_PER_FRAME)) + chance.randrange(39 * NS_PER_MS)
        assert queue.waiting(now) <= SAMPLES_PER_FRAME
    end = start + frames * FRAME_NS
    assert queue.played(end - 1) == frames * SAMPLES_PER_FRAME - 1
    assert queue.played(end) == frames * SAMPLES_PER_FRAME


def test_odd_block_lengths_do_not_drift_either() -> None:
    queue: PlayoutQueue[None] = PlayoutQueue()
    pushed = 0
    for n in range(10_000):
        block = queue.push(0, None, 1 + n % 997)
        assert block.start_ns == pushed * NS_PER_SECOND // 48_000
        pushed += 1 + n % 997
    due = queue.when_waiting(500)
    assert queue.waiting(due) <= 500 < queue.waiting(due - NS_PER_MS)


def test_a_suspended_process_neither_catches_up_nor_claims_what_was_not_heard() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue()
    queue.push(0, 0, SAMPLES_PER_FRAME)
    queue.push(0, 1, SAMPLES_PER_FRAME)
    late = 80 * NS_PER_MS + NS_PER_SECOND
    assert queue.played(late) == 2 * SAMPLES_PER_FRAME
    assert queue.waiting(late) == 0
    following = [queue.push(late, n, SAMPLES_PER_FRAME) for n in (2, 3, 4)]
    assert [block.start_ns - late for block in following] == [0, FRAME_NS, 2 * FRAME_NS]
    # The media clock is where it would be without the pause.
    assert following[0].media_time == 2 * SAMPLES_PER_FRAME + 48_000
    assert queue.played(late + FRAME_NS) == 3 * SAMPLES_PER_FRAME


def test_many_short_gaps_leave_the_media_clock_in_step_with_time() -> None:
    queue: PlayoutQueue[None] = PlayoutQueue()
    now = 7
    for _ in range(10_000):
        block = queue.push(now, None, SAMPLES_PER_FRAME)
        assert abs(block.media_time - (block.start_ns - 7) * 48_000 / NS_PER_SECOND) <= 1
        now = block.end_ns + 1_234_567


def test_clear_drops_what_has_not_begun_and_the_rest_closes_up() -> None:
    queue: PlayoutQueue[str] = PlayoutQueue()
    queue.push(0, "heard", SAMPLES_PER_FRAME)
    queue.push(0, "dropped", SAMPLES_PER_FRAME)
    queue.push(0, "dropped", SAMPLES_PER_FRAME)
    now = 10 * NS_PER_MS
    assert queue.clear(now) == 2 * SAMPLES_PER_FRAME
    assert queue.clear(now) == 0
    assert queue.push(now, "next", SAMPLES_PER_FRAME).start_ns == FRAME_NS
    assert queue.played(2 * FRAME_NS) == 2 * SAMPLES_PER_FRAME


def test_played_never_goes_back_and_adds_up_whatever_happens() -> None:
    chance = random.Random(2)
    queue: PlayoutQueue[None] = PlayoutQueue()
    now = pushed = dropped = played = 0
    for _ in range(20_000):
        now += chance.choice([0, 1, NS_PER_MS, 17 * NS_PER_MS, FRAME_NS, 300 * NS_PER_MS])
        if chance.random() < 0.5 and queue.waiting(now) <= 2 * SAMPLES_PER_FRAME:
            queue.push(now, None, SAMPLES_PER_FRAME)
            pushed += SAMPLES_PER_FRAME
        if chance.random() < 0.1:
            dropped += queue.clear(now)
        assert queue.played(now) >= played
        played = queue.played(now)
        assert pushed == played + dropped + queue.waiting(now)


async def test_blocks_come_out_when_they_begin_to_be_heard() -> None:
    clock = FakeClock(0)
    pacer: Pacer[int] = Pacer(clock)
    popped: list[tuple[int, int]] = []

    async def push() -> None:
        for n in range(100):
            await pacer.push(n, SAMPLES_PER_FRAME)

    async def pop() -> None:
        for _ in range(100):
            block = await pacer.pop()
            popped.append((block.item, clock.now_ns()))

    await clock.drive(asyncio.gather(push(), pop()))
    assert popped == [(n, n * FRAME_NS) for n in range(100)]


async def test_a_stumble_of_whoever_pops_is_not_heard() -> None:
    clock = FakeClock(0)
    pacer: Pacer[int] = Pacer(clock)
    starts: list[int] = []

    async def push() -> None:
        for n in range(100):
            await pacer.push(n, SAMPLES_PER_FRAME)

    async def pop() -> None:
        for n in range(100):
            starts.append((await pacer.pop()).start_ns)
            if n % 20 == 10:
                await clock.sleep_until(clock.now_ns() + 300 * NS_PER_MS)

    await clock.drive(asyncio.gather(push(), pop()))
    assert starts == [n * FRAME_NS for n in range(100)]


async def test_whoever_pops_too_slowly_holds_up_time_instead_of_filling_memory() -> None:
    clock = FakeClock(0)
    pacer: Pacer[int] = Pacer(clock)

    async def push() -> None:
        for n in range(100):
            await pacer.push(n, SAMPLES_PER_FRAME)

    pushing = asyncio.create_task(push())
    await clock.advance(10 * NS_PER_SECOND)
    assert pacer.played <= (HANDOVER_LIMIT + 1) * SAMPLES_PER_FRAME
    assert [(await pacer.pop()).item for _ in range(3)] == [0, 1, 2]
    pushing.cancel()


async def test_a_cancelled_push_does_not_let_the_queue_grow() -> None:
    clock = FakeClock(0)
    pacer: Pacer[int] = Pacer(clock)
    for n in range(10):
        pushing = asyncio.create_task(pacer.push(n, SAMPLES_PER_FRAME))
        await settle()
        pushing.cancel()
        await settle()
    assert pacer.waiting <= 2 * SAMPLES_PER_FRAME


async def test_close_releases_everybody() -> None:
    clock = FakeClock(0)
    pacer: Pacer[int] = Pacer(clock)
    await pacer.push(0, SAMPLES_PER_FRAME)
    pushing = asyncio.create_task(pacer.push(1, SAMPLES_PER_FRAME))
    await settle()
    pacer.close()
    with pytest.raises(RoomError, match="closed"):
        await pushing
    # What had begun is still handed out, so that it is not lost on its way.
    assert (await pacer.pop()).item == 0
    with pytest.raises(RoomError):
        await pacer.pop()
    with pytest.raises(RoomError):
        await pacer.push(2, SAMPLES_PER_FRAME)
