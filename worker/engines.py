"""Engines by name: how a worker gets a warm one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.engine import Engine
from portraits import ANNA

if TYPE_CHECKING:
    from worker.settings import WorkerSettings


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
            torch.set_num_threads(1)  # the pool's threads are enough
        if settings.engine == "ditto":
            from models.ditto.engine import DittoEngine

            return DittoEngine.load(
                device=device, liveliness=settings.liveliness, compile=settings.compile
            )
        from models.warp.engine import WarpEngine

        return WarpEngine(liveliness=settings.liveliness)

    return load


def sample_portrait() -> Path:
    """The portrait that engines are measured with."""
    return ANNA.path
