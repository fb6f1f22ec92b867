import asyncio
import threading
import time

import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.engine import IDLE, LOUD, FlapEngine
from worker.performer import Performer
from worker.render_pool import RenderPool

CANVAS = Canvas(64, 64)


@pytest.fixture
def engine():
    return FlapEngine()


@pytest.fixture
def renders(engine):
    thread = RenderPool(engine, time.monotonic_ns)
    thread.start()
    yield thread
    thread.stop()


def performer(engine: FlapEngine) -> Performer:
    return Performer(engine.actor(engine.prepare(np.zeros((1, 1, 3), np.uint8), CANVAS)))


def need(renders: RenderPool, one: Performer, generation: int, speaking: bool):
    """Ask for a frame that is rendered however late it is."""
    return renders.submit(one, generation, speaking, time.monotonic_ns(), required=True)


async def test_frames_of_one_session_come_in_order(engine, renders):
    one = performer(engine)
    one.hear(np.full(640, 20_000, np.int16))
    loud = need(renders, one, 0, True)
    idle = need(renders, one, 0, False)
    pictures = [(await future).picture for future in (loud, idle)]
    assert [int(picture[0, 0]) for picture in pictures] == [LOUD, IDLE]
    assert pictures[0].shape == CANVAS.i420_shape


async def test_waiting_sessions_are_rendered_in_one_batch(engine, renders):
    engine.gate.clear()
    first = need(renders, performer(engine), 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)  # the thread is at work on the first now
    rest = [need(renders, performer(engine), 0, False) for _ in range(3)]
    engine.gate.set()
    await asyncio.gather(first, *rest)
    assert engine.batches == [1, 3]


async def test_a_late_frame_is_acted_but_not_rendered(engine, renders):
    one = performer(engine)
    one.hear(np.full(640, 20_000, np.int16))
    answer = await renders.submit(one, 0, True, time.monotonic_ns() - 1)
    assert answer.late
    assert answer.picture is None
    assert engine.batches == []
    assert engine.actors[0].acted == [LOUD]


async def test_a_frame_that_would_come_late_leaves_its_time_to_the_next(engine, renders):
    """Slower than its deadlines allow, a session gets some of its pictures rather than none."""
    engine.render_s = 0.06
    one = performer(engine)
    pictures = 0
    for _ in range(24):
        answer = await renders.submit(one, 0, False, time.monotonic_ns() + 50_000_000)
        pictures += answer.picture is not None
    assert len(engine.actors[0].acted) == 24
    assert 1 <= len(engine.batches) < 20
    assert pictures == len(engine.batches)


async def test_too_much_work_freezes_nobody(engine, renders):
    """Six sessions, time for about half of their pictures: everybody gets some."""
    engine.render_s = 0.03
    sessions = [performer(engine) for _ in range(6)]
    pictures = [0] * 6

    async def play(index: int) -> None:
        await asyncio.sleep(index * 0.002)
        due_ns = time.monotonic_ns()
        for _ in range(25):
            due_ns += 40_000_000
            answer = await renders.submit(sessions[index], 0, False, due_ns)
            pictures[index] += answer.picture is not None
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))

    await asyncio.gather(*(play(index) for index in range(6)))
    assert min(pictures) >= 3


async def test_a_frame_overtaken_by_an_interrupt_is_neither_acted_nor_rendered(engine, renders):
    one = performer(engine)
    await need(renders, one, 0, False)
    await need(renders, one, 0, False)
    one.cut(shown=1)
    assert (await need(renders, one, 0, False)).picture is None
    assert (await need(renders, one, 1, False)).picture is not None
    assert engine.actors[0].cuts == [1]
    assert len(engine.actors[0].acted) == 3


async def test_one_session_s_fault_does_not_end_the_others(engine, renders):
    engine.gate.clear()
    bad, good = performer(engine), performer(engine)
    engine.actors[0].fault = RuntimeError("broken identity")
    blocker = need(renders, good, 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)
    broken = need(renders, bad, 0, False)
    fine = need(renders, good, 0, False)
    engine.gate.set()
    await blocker
    assert (await fine).picture is not None
    with pytest.raises(RuntimeError, match="broken identity"):
        await broken


async def test_stop_cancels_what_waits_and_ends_the_thread(engine):
    thread = RenderPool(engine, time.monotonic_ns)
    engine.gate.clear()
    thread.start()
    at_work = need(thread, performer(engine), 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)
    waiting = need(thread, performer(engine), 0, False)
    stopping = asyncio.create_task(asyncio.to_thread(thread.stop))
    await asyncio.sleep(0.05)
    engine.gate.set()
    await stopping
    assert (await at_work).picture is not None
    assert waiting.cancelled()
    assert need(thread, performer(engine), 0, False).cancelled()
    assert not [alive for alive in threading.enumerate() if alive.name == "render"]
