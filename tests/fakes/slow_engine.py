"""An engine whose time passes on a clock of its own, and a worker's day against it, in steps.

Nothing here waits: rendering and motion move the clock on by what they cost, and the render
thread is worked by hand. The same run comes out the same way every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.engine import Canvas
from tests.fakes.clock import FakeClock
from tests.fakes.engine import FlapActor, FlapEngine, FlapIdentity, FlapPose
from worker.pipeline.actor_proxy import ActorProxy
from worker.pipeline.render_pool import Rendered, RenderPool

FRAME_NS = 40_000_000
MS = 1_000_000


class SlowEngine(FlapEngine):
    """Renders on a clock: ``batch_ms`` for any batch and ``pose_ms`` for each pose in it."""

    def __init__(self, pose_ms: float, batch_ms: float = 0.0, batch: int = 4) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.pose_ms, self.batch_ms, self.preferred_batch = pose_ms, batch_ms, batch

    def render(self, poses: Sequence[FlapPose]) -> list[np.ndarray]:
        self.clock.pass_ms(self.batch_ms + self.pose_ms * len(poses))
        return super().render(poses)


class SlowMotionActor(FlapActor):
    """Its motion is worked out five frames at a time; it does so itself, at ``alone_ms``, if it was
    not done before."""

    def __init__(self, identity: FlapIdentity, engine: SlowMotionEngine) -> None:
        super().__init__(identity)
        self.known = 0
        self.alone = 0
        self.broken: Exception | None = None
        self._engine = engine

    @property
    def motion_headroom(self) -> int | None:
        return self.known if self.buffered_frames - self.known >= 5 and self.known < 10 else None

    def next_poses(self, n: int, speaking: bool) -> list[FlapPose]:
        if speaking:
            assert n == 1
            if not self.known:
                self.alone += 1
                self._engine.generate_motion([self])
            self.known -= 1
        return super().next_poses(n, speaking)


class SlowMotionEngine(SlowEngine):
    """``motion_ms`` for any batch of actors; ``motion_each_ms`` for each in it."""

    def __init__(
        self, pose_ms: float, motion_ms: float, motion_each_ms: float = 0.0, motion_batch: int = 16
    ) -> None:
        super().__init__(pose_ms, batch=16)
        self.motion_ms, self.motion_each_ms = motion_ms, motion_each_ms
        self.motion_batch = motion_batch
        self.motion_batches: list[list[SlowMotionActor]] = []

    def actor(self, identity: FlapIdentity, seed: int = 0) -> SlowMotionActor:
        self.actors.append(SlowMotionActor(identity, self))
        return self.actors[-1]

    def generate_motion(self, actors: Sequence[SlowMotionActor]) -> None:
        self.motion_batches.append(list(actors))
        self.clock.pass_ms(self.motion_ms + self.motion_each_ms * len(actors))
        for actor in actors:
            if actor.broken is not None:
                raise actor.broken
        for actor in actors:
            actor.known += 5


class ManualClock(FakeClock):
    """Nobody sleeps on it."""

    def pass_ms(self, ms: float) -> None:
        self._wake(self.now_ns() + round(ms * MS))


@dataclass
class Seat:
    """A session of the simulation."""

    actor_proxy: ActorProxy
    speaks: Callable[[int], bool]
    offset_ns: int
    answers: list[Rendered] = field(default_factory=list)

    def count(self, since: int = 0, until: int | None = None) -> tuple[int, int, int]:
        """Pictures, frames given up and frames late, of a range of frames."""
        some = self.answers[since:until]
        pictures = sum(a.picture is not None for a in some)
        return pictures, sum(a.shed for a in some), sum(a.late for a in some)


class Day:
    """Live sessions at 25 frames/s against an engine's clock; a frame has 72 ms from being asked
    for until it is too late."""

    def __init__(self, engine: SlowEngine) -> None:
        self.engine = engine
        self.renders = RenderPool(engine, engine.clock.now_ns)
        self.seats: list[Seat] = []

    def seat(self, speaks: Callable[[int], bool], ahead_frames: int = 8) -> Seat:
        """A session that speaks in the frames ``speaks`` says; its speech is heard so far ahead."""
        identity = self.engine.prepare(np.zeros((1, 1, 3), np.uint8), Canvas(64, 64))
        seat = Seat(ActorProxy(self.engine.actor(identity)), speaks, len(self.seats) * 3 * MS)
        for frame in range(ahead_frames):
            if speaks(frame):
                seat.actor_proxy.push_audio(np.full(640, 300, np.int16))
        self._ahead_frames = ahead_frames
        self.seats.append(seat)
        return seat

    async def run(self, frames: int) -> None:
        """Let so many frames pass."""
        clock = self.engine.clock
        begun_ns = clock.now_ns()
        asks = sorted(
            (begun_ns + frame * FRAME_NS + seat.offset_ns, i, frame)
            for i, seat in enumerate(self.seats)
            for frame in range(frames)
        )
        waiting: list[tuple[Seat, asyncio.Future[Rendered]]] = []
        while asks or self.renders.waiting:
            while asks and asks[0][0] <= clock.now_ns():
                at_ns, i, frame = asks.pop(0)
                seat = self.seats[i]
                if seat.speaks(frame + self._ahead_frames):
                    seat.actor_proxy.push_audio(np.full(640, 300, np.int16))
                speaking = seat.speaks(frame)
                deadline_ns = at_ns + 72 * MS
                future = self.renders.submit(seat.actor_proxy, 0, speaking, deadline_ns)
                waiting.append((seat, future))
            if self.renders.waiting:
                self.renders.work()
                await asyncio.sleep(0)
            elif asks:
                clock.pass_ms((asks[0][0] - clock.now_ns()) / MS)
        for seat, future in waiting:
            try:
                seat.answers.append(await future)
            except Exception:
                seat.answers.append(Rendered(None))
