"""Which codecs, room packages and onnxruntime build are installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata

ENCODERS = {
    "libx264": "H.264 video",
    "libvpx": "VP8 video",
    "libopus": "Opus sound",
    "aac": "AAC sound of recordings",
}
"""What the worker encodes with, by FFmpeg's names."""

ROOM_PACKAGES = {
    "aiortc": "whep rooms",
    "livekit": "LiveKit rooms",
    "livekit-api": "LiveKit tokens",
    "daily-python": "Daily rooms",
    "runpod": "RunPod serverless",
}
"""Distributions that rooms and platforms need, and what for."""

GPU_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntime:
    """The installed onnxruntime: which packages claim it, and what the code found says."""

    packages: tuple[str, ...]
    """Installed distributions with versions, such as ``onnxruntime-gpu 1.27.0``."""
    providers: tuple[str, ...] = ()
    failure: str | None = None
    """Why it cannot be imported."""

    @property
    def shadowed(self) -> bool:
        """onnxruntime-gpu is installed, but the CPU build's files lie where its own should."""
        installed = any(package.startswith("onnxruntime-gpu ") for package in self.packages)
        return installed and self.failure is None and GPU_PROVIDER not in self.providers


def version(distribution: str) -> str | None:
    """The installed version of a distribution; None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def onnxruntime_facts() -> OnnxRuntime | None:
    """The installed onnxruntime; None when there is none."""
    names = ("onnxruntime", "onnxruntime-gpu")
    packages = tuple(f"{name} {found}" for name in names if (found := version(name)))
    if not packages:
        return None
    try:
        runtime = importlib.import_module("onnxruntime")
        providers = tuple(runtime.get_available_providers())
    except (ImportError, OSError, AttributeError) as error:
        return OnnxRuntime(packages, failure=str(error).splitlines()[0] if str(error) else "?")
    return OnnxRuntime(packages, providers)


def missing_encoders() -> list[str]:
    """Encoders that PyAV's FFmpeg lacks, by FFmpeg's names."""
    import av

    missing = []
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # UnknownCodecError is one
            missing.append(name)
    return missing
