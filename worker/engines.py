"""Engines by name: how a worker gets a warm one, and how many sessions it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.engine import FPS, Canvas, Engine
from models.face import load_photo

if TYPE_CHECKING:
    from worker.settings import WorkerSettings

MEASURE_S = 1.0
"""How long capacity is measured."""

HEADROOM = 0.75
"""Share of the measured speed that is promised. On two cores four sessions that speak and are
recorded, a share of 0.7, hold 25 frames/s; five, a share of 0.9, do not (docs/benchmarks.md)."""

UNMEASURED_PER_CORE = 1
"""Sessions per core that are promised where there is no portrait to measure with."""


def engine_loader(settings: WorkerSettings) -> Callable[[], Engine]:
    """A function that loads the engine ``settings`` name. It is slow; run it in a thread.

    It raises ``models.engine.EngineError`` or ``models.assets.AssetError`` where a file is missing
    or this machine cannot run it.
    """

    def load() -> Engine:
        import torch

        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(settings.render_threads)
        if settings.engine == "ditto":
            from models.ditto.engine import DittoEngine

            return DittoEngine.load(device=device, liveliness=settings.liveliness)
        from models.warp.engine import WarpEngine

        return WarpEngine(device=device, liveliness=settings.liveliness)

    return load


def frames_per_second(
    engine: Engine, portrait: np.ndarray, canvas: Canvas, *, batch: int = 4, seconds: float
) -> float:
    """Frames per second that ``engine`` acts and renders, in batches of ``batch`` sessions that
    speak, measured for ``seconds`` after a warm-up."""
    identity = engine.prepare(portrait, canvas)
    actors = [engine.actor(identity, seed) for seed in range(batch)]
    rng = np.random.default_rng(0)

    def frame() -> None:
        for actor in actors:
            actor.hear(rng.integers(-3000, 3000, 640).astype(np.int16))
        engine.render([actor.act(1, True)[0] for actor in actors])

    for _ in range(3):
        frame()
    frames, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        frame()
        frames += batch
    return frames / elapsed


def sessions_held(rate: float) -> int:
    """How many live sessions a measured frame rate holds, at least one."""
    return max(1, int(rate * HEADROOM / FPS))


def capacity_meter(portrait: Path | None, canvas: Canvas) -> Callable[[Engine], int]:
    """A function that warms an engine up and answers how many sessions of ``canvas`` it holds.

    ``portrait``: an image file to measure with; without one the cores are counted.
    """

    def measure(engine: Engine) -> int:
        if portrait is None:
            return UNMEASURED_PER_CORE * (os.cpu_count() or 1)
        photo = load_photo(portrait)
        return sessions_held(frames_per_second(engine, photo, canvas, seconds=MEASURE_S))

    return measure


def sample_portrait() -> Path | None:
    """The portrait that comes with a checkout."""
    path = Path(__file__).resolve().parent.parent / "assets" / "portrait.jpg"
    return path if path.is_file() else None
