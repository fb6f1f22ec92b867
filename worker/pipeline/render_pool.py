"""The threads that act and render, for all sessions of the process.

Sessions ask for their next frame; a thread takes what is most urgent, nearest deadline first. An
engine that renders batches has one thread, which takes what is waiting together; any other engine
has as many as the machine has cores to spare. The frames of one session are acted and rendered in
order: while a thread is at work on a session, no other takes that session's next frame.

Who went without a picture goes before the others, so that too much work slows everybody's pictures
and freezes nobody's. A frame that would miss its deadline is acted (so that motion stays in step
with the sound) but not rendered: late video is dropped before it costs anything, and the next frame
gets the time. Idle faces give way to speaking ones: they are served after them, and under load less
often (``worker.pipeline.load_shedding``).

Where motion is expensive, it is generated for many sessions at once before they need it
(``worker.pipeline.motion_scheduler``).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.engine import Engine, MotionBatchEngine, Pose
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.load_shedding import LoadShedding
from worker.pipeline.motion_scheduler import MotionScheduler

_FORGET = 0.8
"""What is left of the expected render time after each observation, and after each drop, so that
one slow batch cannot talk the thread into dropping for ever."""


@dataclass(frozen=True)
class Rendered:
    """The answer to a request."""

    picture: np.ndarray | None
    """I420, uint8; None when the frame was late, given up, or overtaken by an interrupt."""
    late: bool = False
    shed: bool = False
    """Given up, so that faces that speak have the time."""
    act_ns: int = 0
    render_ns: int = 0


_PRECEDENCE_NS = 40_000_000
"""How much nearer a session's deadline counts for each picture it went without."""
_IDLE_PRECEDENCE_NS = 5_000_000
"""The same of an idle face. It must not push aside what speaks, unless it were to freeze."""
_GONE_NS = 500_000_000
"""Time without a request after which no motion is generated for a session."""
_FROZEN_AFTER = 5
"""Pictures dropped in a row after which a face counts as frozen."""
_IDLE_WAITS_NS = 40_000_000
"""How much later the deadline of an idle face counts than that of a speaking one."""


@dataclass(order=True)
class _Request:
    urgency_ns: int
    order: int
    deadline_ns: int = field(compare=False)
    actor_proxy: ActorProxy = field(compare=False)
    generation: int = field(compare=False)
    speaking: bool = field(compare=False)
    required: bool = field(compare=False)
    future: asyncio.Future[Rendered] = field(compare=False)

    @property
    def must_end_ns(self) -> float:
        return math.inf if self.required else self.deadline_ns


def pool_size(engine: Engine, threads: int) -> int:
    """How many of ``threads`` an engine has a use for: one where it renders batches."""
    batches = engine.preferred_batch > 1 or isinstance(engine, MotionBatchEngine)
    return 1 if batches else max(1, threads)


class RenderPool:
    """Owns the engine's frame-rate work. Use as: ``start``, any number of ``submit``, ``stop``.

    ``threads``: how many render, at most; see ``pool_size``.
    """

    def __init__(self, engine: Engine, now_ns: Callable[[], int], threads: int = 1) -> None:
        self._engine = engine
        self._now_ns = now_ns
        count = pool_size(engine, threads)
        self._lock = threading.Condition()
        """Guards all that follows, except what is marked otherwise."""
        self._requests: dict[ActorProxy, deque[_Request]] = {}
        """What waits, by session and in the order it was asked for."""
        self._at_work: set[ActorProxy] = set()
        """Sessions that a thread acts or renders for."""
        self._orders = itertools.count()
        self._stopping = False
        self._expected_ns = 0.0
        """Time a thread takes to render a frame, as experience has it."""
        self._load_shedding = LoadShedding(count)
        self._seen_ns: dict[ActorProxy, int] = {}
        """Sessions, and when each was seen last. Of the one thread of a motion-batch engine."""
        self._scheduler = (
            MotionScheduler(engine, now_ns) if isinstance(engine, MotionBatchEngine) else None
        )
        self._threads = [
            threading.Thread(target=self._run, name=f"render-{number}", daemon=True)
            for number in range(count)
        ]

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches at work, cancel the rest and join the threads."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for requests in self._requests.values():
            for request in requests:
                request.future.cancel()
        self._requests.clear()

    def submit(
        self,
        actor_proxy: ActorProxy,
        generation: int,
        speaking: bool,
        deadline_ns: int,
        required: bool = False,
    ) -> asyncio.Future[Rendered]:
        """Ask for a session's next frame; call on the event loop's thread.

        Requests of one session must come with deadlines that do not decrease: its frames are
        acted in that order. ``required``: render it however late it is. The future's exception is
        the engine's.
        """
        future: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        urgency_ns = deadline_ns
        if speaking:
            urgency_ns -= actor_proxy.dropped_in_a_row * _PRECEDENCE_NS
        else:
            urgency_ns += _IDLE_WAITS_NS - actor_proxy.dropped_in_a_row * _IDLE_PRECEDENCE_NS
        order = next(self._orders)
        request = _Request(
            urgency_ns, order, deadline_ns, actor_proxy, generation, speaking, required, future
        )
        with self._lock:
            if self._stopping:
                future.cancel()
            else:
                self._requests.setdefault(actor_proxy, deque()).append(request)
                self._lock.notify()
        return future

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return sum(len(requests) for requests in self._requests.values())

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._most_urgent() is None and not self._stopping:
                    self._lock.wait()
                if self._stopping:
                    return
            self.work()

    def work(self) -> None:
        """Serve the most urgent of the requests that wait. The threads do it, once started."""
        begun_ns = self._now_ns()
        if self._scheduler is not None:
            self._schedule_motion(self._scheduler)
        with self._lock:
            batch = self._next_batch()
        if not batch:
            return  # another thread was faster
        late, shed = self._serve(batch)
        with self._lock:
            self._at_work.difference_update(request.actor_proxy for request in batch)
            # Their next frames can be taken now: one by this thread, the rest by others.
            self._lock.notify(len(batch))
            end_ns = self._now_ns()
            saved_ns = int(shed * self._expected_ns)
            self._load_shedding.worked(end_ns, end_ns - begun_ns, saved_ns, late)

    def _most_urgent(self) -> _Request | None:
        """The next request among those of sessions that no thread is at work on. With the lock."""
        free = [
            requests[0]
            for actor_proxy, requests in self._requests.items()
            if actor_proxy not in self._at_work
        ]
        return min(free, default=None)

    def _pop(self, request: _Request) -> _Request:
        requests = self._requests[request.actor_proxy]
        requests.popleft()
        if not requests:
            del self._requests[request.actor_proxy]
        return request

    def _schedule_motion(self, scheduler: MotionScheduler) -> None:
        with self._lock:
            waiting = sorted(itertools.chain.from_iterable(self._requests.values()))
        if not waiting:
            return
        now_ns = self._now_ns()
        for request in waiting:
            self._seen_ns[request.actor_proxy] = now_ns
        # Those whose next request is not here yet may want motion as well.
        gone = [p for p, seen_ns in self._seen_ns.items() if now_ns - seen_ns > _GONE_NS]
        for actor_proxy in gone:
            del self._seen_ns[actor_proxy]
        for actor_proxy in self._seen_ns:
            actor_proxy.listen()
        needed = list(dict.fromkeys(r.actor_proxy for r in waiting if r.speaking))
        last_ns = min(request.must_end_ns for request in waiting)
        renders_ns = self._expected_ns * min(len(waiting), self._engine.preferred_batch)
        spare_ns = last_ns - now_ns - renders_ns
        scheduler.schedule(needed, [p for p in self._seen_ns if p not in needed], spare_ns)

    def _next_batch(self) -> list[_Request]:
        """The most urgent requests that are worth a batch: pictures come when all of it is done,
        so none is added that would make another one late. With the lock."""
        batch: list[_Request] = []
        end_ns: float = self._now_ns()
        first_due_ns = math.inf
        while len(batch) < self._engine.preferred_batch:
            request = self._most_urgent()
            if request is None:
                break
            end_ns += self._expected_ns
            first_due_ns = min(first_due_ns, request.must_end_ns)
            if batch and end_ns > first_due_ns:
                break
            batch.append(self._pop(request))
        self._at_work.update(request.actor_proxy for request in batch)
        return batch

    def _serve(self, batch: list[_Request]) -> tuple[bool, int]:
        """Answer requests; says whether one was late, and how many were given up."""
        answers: list[tuple[_Request, Rendered | Exception]] = []
        posed: list[tuple[_Request, Pose, int]] = []
        for request in batch:
            begun_ns = self._now_ns()
            try:
                pose = request.actor_proxy.perform(request.generation, request.speaking)
            except Exception as error:  # one session's fault must not end the others
                answers.append((request, error))
                continue
            acted_ns = self._now_ns()
            if pose is None:
                answers.append((request, Rendered(None)))
            elif not request.required and self._gives_up(request.actor_proxy):
                answers.append((request, Rendered(None, False, True, acted_ns - begun_ns)))
            elif self._comes_too_late(request, acted_ns, len(posed) + 1):
                request.actor_proxy.dropped_in_a_row += 1
                answers.append((request, Rendered(None, True, False, acted_ns - begun_ns)))
            else:
                request.actor_proxy.dropped_in_a_row = 0
                posed.append((request, pose, acted_ns - begun_ns))
        answers.extend(self._render(posed))
        end_ns = self._now_ns()
        late = any(end_ns > request.must_end_ns for request, _, _ in posed)
        loops = {request.future.get_loop() for request in batch}
        for loop in loops:
            mine = [item for item in answers if item[0].future.get_loop() is loop]
            try:
                loop.call_soon_threadsafe(_resolve, mine)
            except RuntimeError:
                continue  # the loop was closed while the batch was at work: nobody waits
        given = [answer for _, answer in answers if isinstance(answer, Rendered)]
        return late or any(one.late for one in given), sum(one.shed for one in given)

    def _gives_up(self, actor_proxy: ActorProxy) -> bool:
        with self._lock:
            return actor_proxy.gives_up(self._load_shedding.stride)

    def _comes_too_late(self, request: _Request, now_ns: int, pictures: int) -> bool:
        """Whether the last of so many pictures, begun now, would come too late for ``request``."""
        with self._lock:
            late = now_ns + self._expected_ns * pictures > _too_late_ns(request)
            if late:
                self._expected_ns *= _FORGET
        return late

    def _render(
        self, posed: list[tuple[_Request, Pose, int]]
    ) -> list[tuple[_Request, Rendered | Exception]]:
        if not posed:
            return []
        begun_ns = self._now_ns()
        try:
            pictures = self._engine.render([pose for _, pose, _ in posed])
        except Exception as error:
            if len(posed) == 1:
                return [(posed[0][0], error)]
            # Find out whose frame it is; the other sessions go on.
            return [answer for item in posed for answer in self._render([item])]
        each_ns = (self._now_ns() - begun_ns) // len(posed)
        with self._lock:
            # Believe a slow batch at once and a fast one gradually.
            settled = _FORGET * self._expected_ns + (1 - _FORGET) * each_ns
            self._expected_ns = max(float(each_ns), settled)
        return [
            (request, Rendered(picture, False, False, act_ns, each_ns))
            for (request, _, act_ns), picture in zip(posed, pictures, strict=True)
        ]


def _too_late_ns(request: _Request) -> float:
    """When a picture is of no use any more. To a face that froze, one a frame late is."""
    frozen = request.actor_proxy.dropped_in_a_row >= _FROZEN_AFTER
    return request.must_end_ns + (_PRECEDENCE_NS if frozen else 0)


def _resolve(answers: list[tuple[_Request, Rendered | Exception]]) -> None:
    for request, answer in answers:
        if request.future.done():
            continue
        if isinstance(answer, Exception):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)
