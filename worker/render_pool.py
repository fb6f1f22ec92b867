"""The one thread that acts and renders, for all sessions of the process.

Sessions ask for their next frame; the thread takes what is waiting, nearest deadline first, and
renders it in one batch. Who went without a picture goes before the others, so that too much work
slows everybody's pictures and freezes nobody's. A frame that would miss its deadline is acted (so
that motion stays in step with the sound) but not rendered: late video is dropped before it costs
anything, and the next frame gets the time. Idle faces give way to speaking ones: they are served
after them, and under load less often (``worker.shedding``).

Where motion is dear, it is worked out for many sessions at once before they need it
(``worker.thinking``).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.engine import Engine, Pose, ThinkingEngine
from worker.performer import Performer
from worker.shedding import Shedding
from worker.thinking import Thinking

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
"""Time without a request after which a session is no longer thought for."""
_FROZEN_AFTER = 5
"""Pictures dropped in a row after which a face counts as frozen."""
_IDLE_WAITS_NS = 40_000_000
"""How much later the deadline of an idle face counts than that of a speaking one."""


@dataclass(order=True)
class _Request:
    urgency_ns: int
    order: int
    deadline_ns: int = field(compare=False)
    performer: Performer = field(compare=False)
    generation: int = field(compare=False)
    speaking: bool = field(compare=False)
    required: bool = field(compare=False)
    future: asyncio.Future[Rendered] = field(compare=False)

    @property
    def must_end_ns(self) -> float:
        return math.inf if self.required else self.deadline_ns


class RenderPool:
    """Owns the engine's frame-rate work. Use as: ``start``, any number of ``submit``, ``stop``."""

    def __init__(self, engine: Engine, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ns = now_ns
        self._requests: list[_Request] = []
        self._orders = itertools.count()
        self._wake = threading.Condition()
        self._stopping = False
        self._expected_ns = 0.0
        """Render time of a frame, as experience has it; the render thread's own."""
        self._shedding = Shedding()
        self._seen_ns: dict[Performer, int] = {}
        """Sessions, and when each was seen last."""
        self._thinking = Thinking(engine, now_ns) if isinstance(engine, ThinkingEngine) else None
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at work, cancel the rest and join the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        for request in self._requests:
            request.future.cancel()
        self._requests.clear()

    def submit(
        self,
        performer: Performer,
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
            urgency_ns -= performer.dropped_in_a_row * _PRECEDENCE_NS
        else:
            urgency_ns += _IDLE_WAITS_NS - performer.dropped_in_a_row * _IDLE_PRECEDENCE_NS
        order = next(self._orders)
        request = _Request(
            urgency_ns, order, deadline_ns, performer, generation, speaking, required, future
        )
        with self._wake:
            if self._stopping:
                future.cancel()
            else:
                heapq.heappush(self._requests, request)
                self._wake.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._requests and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
            self.work()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._requests)

    def work(self) -> None:
        """Serve the most urgent of the requests that wait. The thread does it, once started."""
        begun_ns = self._now_ns()
        if self._thinking is not None:
            self._think(self._thinking)
        with self._wake:
            batch = self._next_batch()
        late, shed = self._serve(batch)
        end_ns = self._now_ns()
        saved_ns = int(shed * self._expected_ns)
        self._shedding.worked(end_ns, end_ns - begun_ns, saved_ns, late)

    def _think(self, thinking: Thinking) -> None:
        with self._wake:
            waiting = sorted(self._requests)
        now_ns = self._now_ns()
        for request in waiting:
            self._seen_ns[request.performer] = now_ns
        # Those whose next request is not here yet may want motion as well.
        gone = [p for p, seen_ns in self._seen_ns.items() if now_ns - seen_ns > _GONE_NS]
        for performer in gone:
            del self._seen_ns[performer]
        for performer in self._seen_ns:
            performer.listen()
        needed = list(dict.fromkeys(r.performer for r in waiting if r.speaking))
        last_ns = min(request.must_end_ns for request in waiting)
        renders_ns = self._expected_ns * min(len(waiting), self._engine.preferred_batch)
        spare_ns = last_ns - now_ns - renders_ns
        thinking.think(needed, [p for p in self._seen_ns if p not in needed], spare_ns)

    def _next_batch(self) -> list[_Request]:
        """The most urgent requests that are worth a batch: pictures come when all of it is done,
        so none is added that would make another one late."""
        batch = [heapq.heappop(self._requests)]
        end_ns = self._now_ns() + self._expected_ns
        first_due_ns = batch[0].must_end_ns
        while self._requests and len(batch) < self._engine.preferred_batch:
            end_ns += self._expected_ns
            due_ns = min(first_due_ns, self._requests[0].must_end_ns)
            if end_ns > due_ns:
                break
            first_due_ns = due_ns
            batch.append(heapq.heappop(self._requests))
        return batch

    def _serve(self, batch: list[_Request]) -> tuple[bool, int]:
        """Answer requests; says whether one was late, and how many were given up."""
        answers: list[tuple[_Request, Rendered | Exception]] = []
        posed: list[tuple[_Request, Pose, int]] = []
        for request in batch:
            begun_ns = self._now_ns()
            try:
                pose = request.performer.perform(request.generation, request.speaking)
            except Exception as error:  # one session's fault must not end the others
                answers.append((request, error))
                continue
            acted_ns = self._now_ns()
            if pose is None:
                answers.append((request, Rendered(None)))
            elif not request.required and request.performer.gives_up(self._shedding.stride):
                answers.append((request, Rendered(None, False, True, acted_ns - begun_ns)))
            elif acted_ns + self._expected_ns * (len(posed) + 1) > _too_late_ns(request):
                self._expected_ns *= _FORGET
                request.performer.dropped_in_a_row += 1
                answers.append((request, Rendered(None, True, False, acted_ns - begun_ns)))
            else:
                request.performer.dropped_in_a_row = 0
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
        # Believe a slow batch at once and a fast one by and by.
        settled = _FORGET * self._expected_ns + (1 - _FORGET) * each_ns
        self._expected_ns = max(float(each_ns), settled)
        return [
            (request, Rendered(picture, False, False, act_ns, each_ns))
            for (request, _, act_ns), picture in zip(posed, pictures, strict=True)
        ]


def _too_late_ns(request: _Request) -> float:
    """When a picture is of no use any more. To a face that froze, one a frame late is."""
    frozen = request.performer.dropped_in_a_row >= _FROZEN_AFTER
    return request.must_end_ns + (_PRECEDENCE_NS if frozen else 0)


def _resolve(answers: list[tuple[_Request, Rendered | Exception]]) -> None:
    for request, answer in answers:
        if request.future.done():
            continue
        if isinstance(answer, Exception):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)
