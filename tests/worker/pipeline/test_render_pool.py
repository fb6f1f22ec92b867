import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.engine import IDLE, LOUD, FlapEngine, FlapPose
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.load_shedding import LoadShedding
from worker.pipeline.render_pool import RenderPool

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


def actor_proxy(engine: FlapEngine) -> ActorProxy:
    return ActorProxy(engine.actor(engine.prepare(np.zeros((1, 1, 3), np.uint8), CANVAS)))


def render_threads() -> list[threading.Thread]:
    return [alive for alive in threading.enumerate() if alive.name.startswith("render-")]


def need(renders: RenderPool, one: ActorProxy, generation: int, speaking: bool):
    """Ask for a frame that is rendered however late it is."""
    return renders.submit(one, generation, speaking, time.monotonic_ns(), required=True)


async def test_frames_of_one_session_come_in_order(engine, renders):
    one = actor_proxy(engine)
    one.push_audio(np.full(640, 20_000, np.int16))
    loud = need(renders, one, 0, True)
    idle = need(renders, one, 0, False)
    pictures = [(await future).picture for future in (loud, idle)]
    assert [int(picture[0, 0]) for picture in pictures] == [LOUD, IDLE]
    assert pictures[0].shape == CANVAS.i420_shape


async def test_waiting_sessions_are_rendered_in_one_batch(engine, renders):
    engine.gate.clear()
    first = need(renders, actor_proxy(engine), 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)  # the thread is at work on the first now
    rest = [need(renders, actor_proxy(engine), 0, False) for _ in range(3)]
    engine.gate.set()
    await asyncio.gather(first, *rest)
    assert engine.batches == [1, 3]


async def test_a_late_frame_is_acted_but_not_rendered(engine, renders):
    one = actor_proxy(engine)
    one.push_audio(np.full(640, 20_000, np.int16))
    answer = await renders.submit(one, 0, True, time.monotonic_ns() - 1)
    assert answer.late
    assert answer.picture is None
    assert engine.batches == []
    assert engine.actors[0].acted == [LOUD]


async def test_a_frame_that_would_come_late_leaves_its_time_to_the_next(engine, renders):
    """Slower than its deadlines allow, a session gets some of its pictures rather than none."""
    engine.render_s = 0.06
    one = actor_proxy(engine)
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
    sessions = [actor_proxy(engine) for _ in range(6)]
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
    one = actor_proxy(engine)
    await need(renders, one, 0, False)
    await need(renders, one, 0, False)
    one.interrupt(shown=1)
    assert (await need(renders, one, 0, False)).picture is None
    assert (await need(renders, one, 1, False)).picture is not None
    assert engine.actors[0].cuts == [1]
    assert len(engine.actors[0].acted) == 3


async def test_one_session_s_fault_does_not_end_the_others(engine, renders):
    engine.gate.clear()
    bad, good = actor_proxy(engine), actor_proxy(engine)
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
    at_work = need(thread, actor_proxy(engine), 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)
    waiting = need(thread, actor_proxy(engine), 0, False)
    stopping = asyncio.create_task(asyncio.to_thread(thread.stop))
    await asyncio.sleep(0.05)
    engine.gate.set()
    await stopping
    assert (await at_work).picture is not None
    assert waiting.cancelled()
    assert need(thread, actor_proxy(engine), 0, False).cancelled()
    assert not render_threads()


# More threads than one


class SingleEngine(FlapEngine):
    """Renders one picture at a time, as the engine of a CPU does. Notes who is in it at once.

    ``meeting``: pictures are done when so many threads have come together.
    """

    preferred_batch = 1

    def __init__(self, meeting: int | None = None) -> None:
        super().__init__()
        self.meeting = threading.Barrier(meeting, timeout=10) if meeting else None
        self.inside: list[int] = []
        self.most_inside = 0
        self.met_itself = False
        self._came = threading.Condition()

    def wait_for(self, inside: int) -> None:
        """Until so many threads are in it."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.inside) >= inside, timeout=10)

    def render(self, poses: Sequence[FlapPose]) -> list[np.ndarray]:
        (pose,) = poses
        me = id(pose.identity)
        with self._came:
            self.met_itself |= me in self.inside
            self.inside.append(me)
            self.most_inside = max(self.most_inside, len(self.inside))
            self._came.notify_all()
        try:
            if self.meeting is not None:
                self.meeting.wait()
            return super().render(poses)
        finally:
            with self._came:
                self.inside.remove(me)


@pytest.fixture
def pool_of():
    """Call it for a running pool; it is stopped in the end."""
    pools = []

    def make(engine: FlapEngine, threads: int) -> RenderPool:
        pools.append(RenderPool(engine, time.monotonic_ns, threads))
        pools[-1].start()
        return pools[-1]

    yield make
    for pool in pools:
        pool.stop()


async def test_two_sessions_are_rendered_at_the_same_time(pool_of):
    engine = SingleEngine(meeting=2)
    pool = pool_of(engine, 2)
    answers = [need(pool, actor_proxy(engine), 0, False) for _ in range(2)]
    assert all(answer.picture is not None for answer in await asyncio.gather(*answers))
    assert engine.most_inside == 2


async def test_one_session_is_never_in_work_twice_and_keeps_its_order(pool_of):
    engine = SingleEngine()
    engine.render_s = 0.002
    pool = pool_of(engine, 4)
    one = actor_proxy(engine)
    one.push_audio(np.tile(np.repeat(np.array([20_000, 300], np.int16), 640), 10))
    greys = [
        int((await answer).picture[0, 0])
        for answer in [need(pool, one, 0, True) for _ in range(20)]
    ]
    assert greys == engine.actors[0].acted
    assert greys[::2] == [LOUD] * 10
    assert not engine.met_itself
    assert engine.most_inside == 1


async def test_many_sessions_on_few_threads_all_come_in_order(pool_of):
    engine = SingleEngine()
    engine.render_s = 0.001
    pool = pool_of(engine, 3)
    sessions = [actor_proxy(engine) for _ in range(8)]
    for one in sessions:
        one.push_audio(np.tile(np.repeat(np.array([20_000, 300], np.int16), 640), 10))

    async def play(one: ActorProxy) -> list[int]:
        answers = [need(pool, one, 0, True) for _ in range(20)]
        return [int((await answer).picture[0, 0]) for answer in answers]

    shown = await asyncio.gather(*(play(one) for one in sessions))
    assert shown == [[LOUD, 60] * 10] * 8
    assert not engine.met_itself
    assert 1 < engine.most_inside <= 3
    assert pool.waiting == 0


async def test_a_busy_session_s_next_frame_holds_up_nobody(pool_of):
    """Of two threads one is at work on a session; that session's next frame is the most urgent
    and waits, and the other thread takes what comes after it."""
    engine = SingleEngine()
    pool = pool_of(engine, 2)
    slow, other = actor_proxy(engine), actor_proxy(engine)
    engine.gate.clear()
    first = need(pool, slow, 0, False)
    await asyncio.to_thread(engine.entered.wait, 10)
    second = need(pool, slow, 0, False)
    later = need(pool, other, 0, False)
    await asyncio.to_thread(engine.wait_for, 2)
    assert not second.done()
    engine.gate.set()
    await asyncio.gather(first, second, later)
    assert not engine.met_itself


async def test_a_fault_hits_one_session_while_others_are_at_work(pool_of):
    engine = SingleEngine(meeting=2)
    pool = pool_of(engine, 2)
    bad, good = actor_proxy(engine), actor_proxy(engine)
    engine.actors[0].fault = RuntimeError("broken identity")
    broken, fine = need(pool, bad, 0, False), need(pool, good, 0, False)
    assert (await fine).picture is not None
    with pytest.raises(RuntimeError, match="broken identity"):
        await broken
    engine.actors[0].fault = None
    again = [need(pool, one, 0, False) for one in (bad, good)]
    assert all(answer.picture is not None for answer in await asyncio.gather(*again))


async def test_stop_joins_every_thread(pool_of):
    engine = SingleEngine()
    pool = pool_of(engine, 3)
    engine.gate.clear()
    at_work = [need(pool, actor_proxy(engine), 0, False) for _ in range(3)]
    await asyncio.to_thread(engine.wait_for, 3)
    waiting = need(pool, actor_proxy(engine), 0, False)
    assert len(render_threads()) == 3
    stopping = asyncio.create_task(asyncio.to_thread(pool.stop))
    await asyncio.sleep(0.05)
    engine.gate.set()
    await stopping
    assert all(answer.picture is not None for answer in await asyncio.gather(*at_work))
    assert waiting.cancelled()
    assert not render_threads()


def test_an_engine_of_batches_has_one_thread():
    engine = FlapEngine()
    assert RenderPool(engine, time.monotonic_ns, 8).threads == 1
    assert RenderPool(SingleEngine(), time.monotonic_ns, 8).threads == 8


def test_of_two_threads_that_are_half_busy_nothing_is_given_up():
    """Two threads have two seconds of work in a second."""
    one, two = LoadShedding(threads=1), LoadShedding(threads=2)
    for frame in range(200):
        for load_shedding in (one, two):
            load_shedding.worked(frame * 10_000_000, 10_000_000, 0, late=False)
    assert one.stride > 1
    assert two.stride == 1
