"""Engines by name: how a worker gets a warm one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.assets import cache_dir
from models.engine import Engine, EngineError
from portraits import ANNA

if TYPE_CHECKING:
    from worker.settings import WorkerSettings

EngineName = Literal["warp", "ditto"]

NO_TORCH = "the engine ditto needs torch, which is not installed: pip install '.[gpu]'"


def torch_installed() -> bool:
    """Whether torch can be imported. It is not: that takes seconds and hundreds of MB."""
    return importlib.util.find_spec("torch") is not None


def engine_name(settings: WorkerSettings) -> EngineName:
    """The engine that ``settings`` mean: by default ditto where its files, torch and CUDA are."""
    if settings.engine != "auto":
        return settings.engine
    given = os.environ.get("AVATAR_MODELS_DIR")
    folder = (Path(given).expanduser() if given else cache_dir()) / "ditto"
    # torch is asked last: importing it takes seconds.
    if settings.device == "cpu" or not folder.is_dir() or not torch_installed():
        return "warp"
    import torch

    from models.ditto.files import missing_files

    return "ditto" if torch.cuda.is_available() and not missing_files() else "warp"


def engine_loader(settings: WorkerSettings) -> Callable[[], Engine]:
    """A function that loads the engine ``settings`` name. It is slow; run it in a thread.

    It raises ``models.engine.EngineError`` or ``models.assets.AssetError`` where a file or a
    package is missing or this machine cannot run it.
    """

    def load() -> Engine:
        if engine_name(settings) == "ditto":
            return _ditto(settings)
        from models.warp.engine import WarpEngine

        return WarpEngine(liveliness=settings.liveliness)

    return load


def _ditto(settings: WorkerSettings) -> Engine:
    if not torch_installed():
        raise EngineError(NO_TORCH)
    import torch

    from models.ditto.engine import DittoEngine

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(settings.threads)
    return DittoEngine.load(device=device, liveliness=settings.liveliness, compile=settings.compile)


def sample_portrait() -> Path:
    """The portrait that engines are measured with."""
    return ANNA.path
