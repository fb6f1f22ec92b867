"""Measured speeds, kept on disk: a worker that starts again on the same machine need not measure.

A speed is kept under a fingerprint of everything it depends on: the processor and the cores that
may be used, the engine's code, the packages it computes with, render threads, canvas and portrait.
Where one of them changes it is measured again.
``python -m worker check`` always measures, and keeps what it finds.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import models
from models.assets import cache_dir
from models.engine import Canvas
from worker.process.cores import usable_cores

KEPT = 64
"""Speeds that are kept, the latest."""

_COMPUTES_WITH = ("av", "numpy", "opencv-python-headless")
_CODE = {".py", ".so", ".pyd", ".safetensors"}


@dataclass(frozen=True)
class Speed:
    """What an engine does with a canvas on this machine."""

    frames_per_second: float
    """Pictures that all render threads together make in a second, motion and all."""
    render_cpu_s: float
    """Processor time of a picture and its motion."""
    encode_cpu_s: float
    """Processor time of compressing a picture for a room."""


class SpeedCache:
    """The file of speeds. It never fails: a file that cannot be read or written is passed over."""

    def __init__(self, path: Path | None = None) -> None:
        """``path``: default ``speeds.json`` in the cache folder (``AVATAR_CACHE``)."""
        self._path = path if path is not None else cache_dir() / "speeds.json"

    def get(self, fingerprint: str) -> Speed | None:
        """The speed kept under ``fingerprint``."""
        known = self._read().get(fingerprint)
        try:
            return Speed(**{name: float(value) for name, value in known.items()}) if known else None
        except (AttributeError, TypeError, ValueError):
            return None

    def put(self, fingerprint: str, speed: Speed) -> None:
        """Keep a speed."""
        known = {key: value for key, value in self._read().items() if key != fingerprint}
        known[fingerprint] = asdict(speed)
        text = json.dumps(dict(list(known.items())[-KEPT:]), indent=1)
        part = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text)
            os.replace(part, self._path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def fingerprint(engine: str, threads: int, canvas: Canvas, portrait: Path) -> str:
    """Stands for everything that a speed depends on."""
    code = hashlib.sha256()
    for file in sorted(Path(models.__path__[0]).rglob("*.*")):
        if file.suffix not in _CODE:
            continue
        found = file.stat()
        code.update(f"{file}:{found.st_size}:{found.st_mtime_ns};".encode())
    parts = (
        *(engine, threads, canvas, portrait.stat().st_size),
        *(_processor(), usable_cores(), platform.python_version()),
        *(_version(name) for name in _COMPUTES_WITH),
        code.hexdigest(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
