"""The start-up check: what this machine has, whether the worker fits it, how much it holds.

``inspect`` looks and measures, ``render`` tells people, ``Report.as_dict`` tells programs. A
refusal means the worker would not work here; a warning, that it would work less well than one may
expect.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models import assets
from models.assets import AssetError
from models.engine import FPS, EngineError
from worker.diagnostics import gpu_facts, software_facts
from worker.diagnostics.capacity import (
    HEADROOM,
    known_speed,
    scales,
    sessions_held,
    wanted_sessions,
)
from worker.diagnostics.speed_cache import SpeedCache
from worker.engines import NO_TORCH, engine_loader, engine_name, torch_installed
from worker.pipeline.render_pool import pool_size
from worker.settings import WorkerSettings

MEASURE_S = 3.0


@dataclass(frozen=True)
class Speed:
    """What an engine was measured at with canvases of one size, all sessions speaking."""

    engine: str
    device: str
    size: str
    threads: int
    """Sessions rendered at the same time."""
    frames_per_second: float
    """Of all threads together."""
    sessions: int
    """Live sessions at 25 frames/s, headroom for everything else left."""
    chosen: bool
    """A worker takes this size here."""


@dataclass
class Report:
    """Everything found."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusal: str | None = None

    def ok(self, strict: bool) -> bool:
        """Whether the worker should start; ``strict`` takes warnings for refusals."""
        return self.refusal is None and not (strict and self.warnings)

    def as_dict(self, strict: bool) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "ok": self.ok(strict),
            "refusal": self.refusal,
            "warnings": self.warnings,
            "facts": dict(self.rows),
            "engines": [asdict(speed) for speed in self.speeds],
        }


def inspect(
    settings: WorkerSettings,
    portrait: Path,
    *,
    measure: bool = True,
    seconds: float | None = None,
) -> Report:
    """Look at the machine and, if nothing speaks against it, measure the engine.

    Args:
        settings: engine, device and picture size to check for.
        portrait: a photo to measure with.
        measure: load the engine (this fetches missing model files) and measure it.
        seconds: how long to measure; default ``MEASURE_S``.

    Raises:
        models.face.PortraitError: the photo cannot be used.
    """
    report = Report()
    _system(report)
    name = engine_name(settings)
    report.rows.append(("engine", f"{name} (auto)" if settings.engine == "auto" else name))
    device = "cpu"
    if name == "ditto":
        device = _device(report, settings)
    _onnxruntime(report, device)
    _software(report)
    _models(report)
    if name == "ditto" and torch_installed():
        _ditto(report)
    if measure and report.refusal is None:
        _speed(report, settings, device, portrait, MEASURE_S if seconds is None else seconds)
    return report


def render(report: Report) -> str:
    """The report as lines for people."""
    lines = [f"{name:<12}{value}" for name, value in report.rows]
    for speed in report.speeds:
        threads = f"{speed.threads} render threads" if speed.threads > 1 else "1 render thread"
        taken = ", which a worker takes here" if speed.chosen and len(report.speeds) > 1 else ""
        lines += [
            f"{'speed':<12}{speed.engine}: {speed.frames_per_second:.0f} frames/s at {speed.size}, "
            f"{threads}",
            f"{'capacity':<12}{speed.sessions} live sessions at {FPS} frames/s of "
            f"{speed.size}{taken}",
        ]
    lines += [f"{'warning':<12}{text}" for text in report.warnings]
    return "\n".join(lines)


def _system(report: Report) -> None:
    report.rows += [
        ("python", platform.python_version()),
        ("platform", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
    ]
    if (memory := available_memory()) is not None:
        report.rows.append(("memory", f"{memory / 1e9:.1f} GB available"))


def _device(report: Report, settings: WorkerSettings) -> str:
    """The device ditto will take; refuses a GPU that was asked for and does not fit."""
    asked = settings.device
    if not torch_installed():
        report.rows.append(("torch", "none"))
        report.refusal = NO_TORCH
        return asked
    index = int(asked.partition(":")[2] or 0)
    facts = gpu_facts.gpu_facts(index)
    refusal = gpu_facts.gpu_refusal(facts)
    # The same choice as the engine's loader makes.
    chosen = ("cuda" if facts.count else "cpu") if asked == "auto" else asked
    cuda = "none"
    if facts.name is not None:
        cuda = facts.name
        if facts.capability is not None:
            cuda += f", compute capability {facts.capability[0]}.{facts.capability[1]}"
        if facts.free_bytes is not None and facts.total_bytes is not None:
            cuda += f", {facts.free_bytes / 1e9:.1f} of {facts.total_bytes / 1e9:.1f} GB free"
    driver = "none"
    if facts.driver_cuda is not None:
        newest = ".".join(str(part) for part in facts.driver_cuda)
        driver = f"NVIDIA {facts.driver or '(version unknown)'}, CUDA up to {newest}"
    built = f"built for CUDA {facts.torch_cuda}" if facts.torch_cuda else "built for the CPU"
    report.rows += [
        ("torch", f"{facts.torch}, {built}"),
        ("driver", driver),
        ("cuda", cuda),
        ("device", f"{chosen} ({asked} asked for)" if chosen != asked else chosen),
    ]
    if chosen.startswith("cuda"):
        if refusal is not None:
            report.refusal = f"AVATAR_WORKER_DEVICE={asked}: {refusal}"
    elif asked == "auto" and facts.driver_cuda is not None and refusal is not None:
        report.warnings.append(f"the CPU is used although there is a GPU driver: {refusal}")
    return chosen


def _onnxruntime(report: Report, device: str) -> None:
    found = software_facts.onnxruntime_facts()
    if found is None:
        report.rows.append(
            ("onnxruntime", "none (only the ditto engine and the insightface analyser need it)")
        )
        return
    packages = ", ".join(found.packages)
    if found.failure is not None:
        report.rows.append(("onnxruntime", f"{packages}, broken"))
        report.warnings.append(
            f"onnxruntime cannot be imported ({found.failure}); "
            "run scripts/install_onnxruntime_gpu.py, or uninstall it"
        )
        return
    report.rows.append(("onnxruntime", f"{packages}: {', '.join(found.providers)}"))
    if found.shadowed:
        report.warnings.append(
            "the CPU build onnxruntime lies over onnxruntime-gpu's files, so onnx models run on "
            "the CPU; run scripts/install_onnxruntime_gpu.py"
        )
    elif device.startswith("cuda") and software_facts.GPU_PROVIDER not in found.providers:
        report.warnings.append(
            "onnxruntime is the CPU build; run scripts/install_onnxruntime_gpu.py to have onnx "
            "models on the GPU"
        )


def _software(report: Report) -> None:
    import av

    missing = software_facts.missing_encoders()
    there = [name for name in software_facts.ENCODERS if name not in missing]
    report.rows.append(("codecs", f"PyAV {av.__version__}: {', '.join(there) or 'none'}"))
    if missing:
        what = ", ".join(f"{software_facts.ENCODERS[name]} ({name})" for name in missing)
        report.warnings.append(
            f"PyAV cannot encode {what}; reinstall it from a wheel: "
            "pip install --force-reinstall --only-binary=av av"
        )
    rooms = [
        f"{name} {software_facts.version(name) or 'none'}" for name in software_facts.ROOM_PACKAGES
    ]
    report.rows.append(("rooms", ", ".join(rooms)))


def _models(report: Report) -> None:
    missing = [asset.name for asset in assets.ASSETS if assets.find(asset) is None]
    there = len(assets.ASSETS) - len(missing)
    given = os.environ.get("AVATAR_MODELS_DIR")
    folder = given or str(assets.cache_dir())
    text = f"{there} of {len(assets.ASSETS)} files whole in {folder}"
    if missing:
        text += f"; missing {', '.join(missing)}"
    report.rows.append(("models", text))
    if missing and given:
        report.refusal = report.refusal or (
            f"AVATAR_MODELS_DIR={given} lacks {', '.join(missing)}, or they are damaged; run "
            f"scripts/download_models.py --to {given} where there is a network, and copy them"
        )


def _ditto(report: Report) -> None:
    from models.ditto.files import missing_files, model_folder, wanted_files
    from models.ditto.weights.reader import FETCH

    folder, missing = model_folder(), missing_files()
    there = len(wanted_files()) - len(missing)
    text = f"{there} of {len(wanted_files())} files in {folder}"
    if missing:
        text += f"; missing {', '.join(missing)}"
        report.refusal = report.refusal or (
            f"the engine ditto lacks {', '.join(missing)} in {folder}; run: {FETCH}"
        )
    report.rows.append(("ditto", text))
    if software_facts.onnxruntime_facts() is None:
        report.refusal = report.refusal or (
            "the engine ditto needs onnxruntime for its speech network; install it: "
            "pip install '.[gpu]' for a GPU, pip install onnxruntime for the CPU"
        )


def _speed(
    report: Report, settings: WorkerSettings, device: str, portrait: Path, seconds: float
) -> None:
    name = engine_name(settings)
    try:
        engine = engine_loader(settings)()
    except (AssetError, EngineError) as error:
        report.refusal = str(error)
        return
    except RuntimeError as error:  # torch: out of memory, no kernel, a broken driver
        report.refusal = f"the engine {name} does not load on {device}: {_first(error)}"
        return
    report.rows.append(("loaded", f"{engine.name}, models and weights found"))
    threads = pool_size(engine, settings.threads)
    found = []
    try:
        for scale in scales(settings):
            canvas = settings.canvas.at(scale).canvas("4:3")
            speed = known_speed(
                *(engine, portrait, canvas),
                threads=threads,
                seconds=seconds,
                cache=SpeedCache(),
                again=True,
            )
            found.append((f"{canvas.width}x{canvas.height}", speed))
    except RuntimeError as error:
        report.refusal = f"the engine {name} does not render on {device}: {_first(error)}"
        return
    wanted = wanted_sessions(settings)
    chosen = next((size for size, speed in found if sessions_held(speed) >= wanted), found[-1][0])
    report.speeds += [
        Speed(
            *(engine.name, device, size, threads),
            *(round(speed.frames_per_second, 1), sessions_held(speed), size == chosen),
        )
        for size, speed in found
    ]
    rate = found[-1][1].frames_per_second
    if rate * HEADROOM < FPS:
        report.warnings.append(
            f"{rate:.0f} frames/s is too slow for one live session with headroom; lower "
            "AVATAR_WORKER_CANVAS__SCALE or use a faster machine"
        )


def available_memory() -> int | None:
    """Bytes of memory that can still be taken, by the kernel and by the container's limit."""
    amounts = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            amounts.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(amounts) if amounts else None


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def print_report(report: Report, *, strict: bool, as_json: bool) -> int:
    """Print and answer the exit status: 0 fits, 1 does not. Why not goes to standard error."""
    if as_json:
        print(json.dumps(report.as_dict(strict), indent=2))
    else:
        print(render(report))
    if report.ok(strict):
        return 0
    sentences: Sequence[str] = [report.refusal] if report.refusal else report.warnings
    print("\n".join(f"worker: {sentence}" for sentence in sentences), file=sys.stderr)
    return 1
