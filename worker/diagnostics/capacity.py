"""How many sessions an engine holds on this machine, measured.

Three things bound it: how many pictures a second the render threads make; how much processor time a
picture takes in all, from its motion to its place in a compressed video, with the cores there are;
and the event loop, which handles every frame. A canvas whose scale is ``auto`` is chosen here, too.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from models.engine import FPS, Canvas, Engine, Identity, MotionBatchEngine
from models.face import load_photo
from worker.diagnostics.speed_cache import Speed, SpeedCache, fingerprint
from worker.pipeline.render_pool import pool_size
from worker.process.cores import usable_cores
from worker.rooms.port import SAMPLES_PER_FRAME
from worker.rooms.whep.encoder import LiveEncoder, VideoCodec
from worker.settings import AUTO_SCALES, WorkerSettings

logger = structlog.get_logger(__name__)

MEASURE_S = 1.0
"""How long capacity is measured."""

HEADROOM = 0.75
"""Share of the measured speed that is promised. Of a renderer that kept two cores busy, a share of
0.7 held 25 frames/s and a share of 0.9 did not."""

UNDISTURBED = 0.7
"""Share of the time that render threads have a processor at least, once nothing else disturbs."""

HANDLING_CPU_S, LOOP_S = 0.002, 0.001
"""Processor time of everything else a frame takes (sound, pacing, handing over, sending), and what
of it is on the one event loop. ``scripts/benchmark.py capacity`` tells: eight sessions of 640x480
keep 0.97 cores busy recorded and 0.48 with nobody watching; rendering and compressing are 3.3 and
1.6 ms a frame of that."""

AUTO_SESSIONS = 2
"""Sessions a canvas has to hold to be chosen by itself, where so many are allowed."""

_WARM_UP = 3
"""Rounds that are not counted."""
_MOTION_AHEAD = 10
"""Frames of speech that are heard beyond an engine's lookahead while it is measured."""
_COMPRESSED = 10
"""Pictures that are compressed to learn what that costs; twice as many for its warm-up and all."""


@dataclass(frozen=True)
class Capacity:
    """What a worker may promise."""

    scale: float
    """Factor on the size of every canvas."""
    sessions: int
    """Live sessions of such a canvas."""
    speed: Speed | None = None
    """What it was found from; None: it was not measured."""


def measured_batch(engine: Engine) -> int:
    """How many sessions at once a thread is measured with: as many as are worth a batch, within
    reason; four where batches do not pay."""
    return max(4, min(16, engine.preferred_batch))


def sessions_held(speed: Speed) -> int:
    """How many live sessions an engine of this speed holds, headroom for everything else left. One
    that leaves no headroom is taken all the same; none where 25 frames/s are out of reach."""
    cpu_s = speed.render_cpu_s + speed.encode_cpu_s + HANDLING_CPU_S
    rate = min(speed.frames_per_second, usable_cores() / cpu_s, 1 / LOOP_S)
    return int(rate * HEADROOM / FPS) or int(rate >= FPS)


def measured_speed(
    engine: Engine,
    portrait: np.ndarray,
    canvas: Canvas,
    *,
    seconds: float,
    threads: int = 1,
    batch: int | None = None,
) -> Speed:
    """What ``engine`` does with ``canvas`` in ``threads`` render threads, measured for ``seconds``
    after a warm-up. Each thread acts and renders ``batch`` sessions (default: ``measured_batch``)
    that speak, as the render pool does.

    Other work must not make the machine look slow for good: threads of an engine that runs on the
    processor count as if they had had ``UNDISTURBED`` of their time, if they had less."""
    identity = engine.prepare(portrait, canvas)
    count = measured_batch(engine) if batch is None else batch
    lines = [_Line(engine, identity, count) for _ in range(pool_size(engine, threads))]
    begun, cpu = time.perf_counter(), time.process_time()
    for line in lines:
        for _ in range(_WARM_UP):
            line.frame()
            elapsed = time.perf_counter() - begun
            if elapsed > 10 * seconds:  # so slow that a warm-up changes nothing
                each_s = (time.process_time() - cpu) / line.frames
                return Speed(line.frames / elapsed, each_s, encode_cpu_s(line.pictures, canvas))
    rate, cpu_s = _run(lines, seconds)
    if engine.preferred_batch == 1:
        rate = max(rate, UNDISTURBED * len(lines) / cpu_s)
    return Speed(rate, cpu_s, encode_cpu_s(lines[0].pictures, canvas))


def _run(lines: Sequence[_Line], seconds: float) -> tuple[float, float]:
    """Frames per second of all lines at work side by side, and processor time of a frame in s."""
    rates: list[float] = []
    faults: list[Exception] = []
    for line in lines:
        line.frames = 0

    def work(line: _Line) -> None:
        begun = time.perf_counter()
        try:
            while (elapsed := time.perf_counter() - begun) < seconds:
                line.frame()
            rates.append(line.frames / elapsed)
        except Exception as error:
            faults.append(error)

    cpu = time.process_time()
    threads = [threading.Thread(target=work, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    frames = sum(line.frames for line in lines)
    return sum(rates), (time.process_time() - cpu) / frames


class _Line:
    """The sessions that one thread acts and renders, all speaking."""

    def __init__(self, engine: Engine, identity: Identity, count: int) -> None:
        self.frames = 0
        self.pictures: list[np.ndarray] = []
        """Of the last round."""
        self._engine = engine
        self._actors: list[Any] = [engine.actor(identity, seed) for seed in range(count)]
        self._rng = np.random.default_rng(0)
        # Speech is heard so far ahead that all of it has a motion.
        self._hear(math.ceil(engine.lookahead_s * FPS) + _MOTION_AHEAD)

    def _hear(self, frames: int) -> None:
        for actor in self._actors:
            actor.push_audio(self._rng.integers(-3000, 3000, 640 * frames).astype(np.int16))

    def frame(self) -> None:
        """One frame of every session."""
        self._hear(1)
        engine = self._engine
        if isinstance(engine, MotionBatchEngine):
            headroom = [actor.motion_headroom for actor in self._actors]
            if 0 in headroom:  # then for all who want motion, as the render pool does
                wanting = [a for a, d in zip(self._actors, headroom, strict=True) if d is not None]
                for at in range(0, len(wanting), engine.motion_batch):
                    engine.generate_motion(wanting[at : at + engine.motion_batch])
        size = engine.preferred_batch
        poses = [actor.next_poses(1, True)[0] for actor in self._actors]
        self.pictures = [
            picture
            for at in range(0, len(poses), size)
            for picture in engine.render(poses[at : at + size])
        ]
        self.frames += len(self._actors)


def encode_cpu_s(pictures: Sequence[np.ndarray], canvas: Canvas) -> float:
    """Processor time of compressing one of ``pictures`` as a WHEP room does, in s."""
    encoder = LiveEncoder(canvas)
    codecs: list[VideoCodec] = ["VP8"]
    silence = np.zeros(SAMPLES_PER_FRAME, np.int16)
    begun = 0.0
    for at in range(2 * _COMPRESSED):
        if at == _COMPRESSED:  # the first ones are a key frame and what follows it
            begun = time.process_time()
        picture = pictures[at % len(pictures)]
        encoder.encode(picture, silence, at * SAMPLES_PER_FRAME, codecs)
    return (time.process_time() - begun) / _COMPRESSED


def capacity_meter(
    settings: WorkerSettings,
    portrait: Path,
    *,
    seconds: float = MEASURE_S,
    cache: SpeedCache | None = None,
) -> Callable[[Engine], Capacity]:
    """A function that warms an engine up and answers what a worker with these settings may promise.

    ``portrait``: an image file to measure with. ``seconds``: how long each canvas is measured.
    ``cache``: where speeds are known from and kept; default: nothing is kept, and everything is
    measured.
    """

    def measure(engine: Engine) -> Capacity:
        for scale in scales(settings):
            canvas = settings.canvas.at(scale).canvas("4:3")
            speed = known_speed(
                engine, portrait, canvas, threads=settings.threads, seconds=seconds, cache=cache
            )
            found = Capacity(scale, sessions_held(speed), speed)
            if found.sessions >= wanted_sessions(settings):
                break
        if not found.sessions:
            logger.warning(
                "too slow for a live session: none is accepted; lower AVATAR_WORKER_CANVAS__SCALE, "
                "use a faster machine, or set AVATAR_WORKER_MAX_SESSIONS to accept some all the "
                "same",
                engine=engine.name,
                frames_per_second=round(speed.frames_per_second, 1),
            )
        return found

    return measure


def known_speed(
    engine: Engine,
    portrait: Path,
    canvas: Canvas,
    *,
    threads: int,
    seconds: float,
    cache: SpeedCache | None,
    again: bool = False,
) -> Speed:
    """The speed that ``cache`` knows, else (and with ``again`` in any case) the measured one, which
    it then keeps. That of an engine of batches is always measured: loading it takes far longer."""
    if cache is None or engine.preferred_batch > 1:
        photo = load_photo(portrait)
        return measured_speed(engine, photo, canvas, threads=threads, seconds=seconds)
    key = fingerprint(engine.name, threads, canvas, portrait)
    speed = None if again else cache.get(key)
    if speed is None:
        photo = load_photo(portrait)
        speed = measured_speed(engine, photo, canvas, threads=threads, seconds=seconds)
        cache.put(key, speed)
    return speed


def wanted_sessions(settings: WorkerSettings) -> int:
    """Sessions a canvas has to hold to be chosen by itself."""
    return min(AUTO_SESSIONS, settings.max_sessions or AUTO_SESSIONS)


def scales(settings: WorkerSettings) -> tuple[float, ...]:
    """The scales to choose from, the largest first: the first that holds ``wanted_sessions`` is
    taken, or the last."""
    scale = settings.canvas.scale
    return AUTO_SCALES if scale == "auto" else (scale,)
