"""How many sessions an engine holds on this machine, measured."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from models.engine import FPS, Canvas, Engine, ThinkingEngine
from models.face import load_photo

logger = structlog.get_logger(__name__)

MEASURE_S = 1.0
"""How long capacity is measured."""

HEADROOM = 0.75
"""Share of the measured speed that is promised. On two cores four sessions that speak and are
recorded, a share of 0.7, hold 25 frames/s; five, a share of 0.9, do not (docs/benchmarks.md)."""

_WARM_UP = 3
"""Rounds that are not counted."""
_MOTION_AHEAD = 10
"""Frames of speech that are heard beyond an engine's lookahead while it is measured."""

UNMEASURED_PER_CORE = 1
"""Sessions per core that are promised where there is no portrait to measure with."""


def measured_batch(engine: Engine) -> int:
    """How many sessions at once capacity is measured with: as many as are worth a batch, within
    reason; four where batches do not pay."""
    return max(4, min(16, engine.preferred_batch))


def frames_per_second(
    engine: Engine,
    portrait: np.ndarray,
    canvas: Canvas,
    *,
    batch: int | None = None,
    seconds: float,
) -> float:
    """Frames per second that ``engine`` acts and renders, motion and all, in batches of ``batch``
    sessions (default: ``measured_batch``) that speak, measured for ``seconds`` after a warm-up."""
    identity = engine.prepare(portrait, canvas)
    count = measured_batch(engine) if batch is None else batch
    actors: list[Any] = [engine.actor(identity, seed) for seed in range(count)]
    rng = np.random.default_rng(0)

    def hear(frames: int) -> None:
        for actor in actors:
            actor.hear(rng.integers(-3000, 3000, 640 * frames).astype(np.int16))

    def frame() -> None:
        hear(1)
        if isinstance(engine, ThinkingEngine):
            due = [actor.due for actor in actors]
            if 0 in due:  # then for all who want motion, as the render thread does
                wanting = [a for a, d in zip(actors, due, strict=True) if d is not None]
                for at in range(0, len(wanting), engine.think_batch):
                    engine.think(wanting[at : at + engine.think_batch])
        engine.render([actor.act(1, True)[0] for actor in actors])

    # Speech is heard so far ahead that all of it has a motion.
    hear(math.ceil(engine.lookahead_s * FPS) + _MOTION_AHEAD)
    begun = time.perf_counter()
    for _ in range(_WARM_UP):
        frame()
        if (elapsed := time.perf_counter() - begun) > 10 * seconds:
            return count / elapsed  # so slow that a warm-up changes nothing
        begun += elapsed
    frames, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        frame()
        frames += count
    return frames / elapsed


def sessions_held(rate: float) -> int:
    """How many live sessions a measured frame rate holds. One that leaves no headroom is taken all
    the same; none where 25 frames/s are out of reach."""
    return int(rate * HEADROOM / FPS) or int(rate >= FPS)


def capacity_meter(portrait: Path | None, canvas: Canvas) -> Callable[[Engine], int]:
    """A function that warms an engine up and answers how many sessions of ``canvas`` it holds.

    ``portrait``: an image file to measure with; without one the cores are counted.
    """

    def measure(engine: Engine) -> int:
        if portrait is None:
            return UNMEASURED_PER_CORE * (os.cpu_count() or 1)
        photo = load_photo(portrait)
        rate = frames_per_second(engine, photo, canvas, seconds=MEASURE_S)
        if not (held := sessions_held(rate)):
            logger.warning(
                "too slow for a live session: none is accepted; lower AVATAR_WORKER_CANVAS__SCALE, "
                "use a faster machine, or set AVATAR_WORKER_MAX_SESSIONS to accept some all the "
                "same",
                engine=engine.name,
                frames_per_second=round(rate, 1),
            )
        return held

    return measure
