"""What the Ditto project released on Hugging Face: the files, and the terms of each.

All files lie in one folder here, under their bare names. The release does not publish checksums
outside of its host: the first fetch pins what it got (``models.ditto.weights.download``).
"""

from __future__ import annotations

from dataclasses import dataclass

HOST = "https://huggingface.co"
REPOSITORY = "digital-avatar/ditto-talkinghead"
REVISION = "main"


@dataclass(frozen=True)
class ReleaseFile:
    """One file."""

    path: str
    """Inside the repository."""
    licence: str
    """SPDX identifier, or ``non-commercial``."""
    origin: str
    """Who made it, for people."""
    size: int | None = None
    """Bytes; None: not known beforehand."""
    needed: bool = True
    """Whether the engine does without it. Files that are not needed are fetched by name only."""

    @property
    def name(self) -> str:
        """Bare file name."""
        return self.path.rpartition("/")[2]

    @property
    def commercial(self) -> bool:
        """Whether it may be used commercially."""
        return self.licence != "non-commercial"

    def url(self, host: str = HOST) -> str:
        """Where it is, on the original host or on one that mirrors it path by path."""
        return f"{host.rstrip('/')}/{REPOSITORY}/resolve/{REVISION}/{self.path}"


_WEIGHTS = "ditto_pytorch/models"
_OTHERS = "ditto_pytorch/aux_models"
_LIVEPORTRAIT = "LivePortrait, Kuaishou"
_DITTO = "Ditto, Ant Group"
_INSIGHTFACE = "InsightFace; commercial use takes a licence from them"

CONFIG = ReleaseFile("ditto_cfg/v0.4_hubert_cfg_trt_online.pkl", "Apache-2.0", _DITTO)
"""Settings of the live pipeline, and arrays that go with the weights; a pickle, so it is read by
``models.ditto.weights.config`` and by nothing else."""

RELEASE: tuple[ReleaseFile, ...] = (
    ReleaseFile(f"{_WEIGHTS}/appearance_extractor.pth", "MIT", _LIVEPORTRAIT, 3_387_959),
    ReleaseFile(f"{_WEIGHTS}/motion_extractor.pth", "MIT", _LIVEPORTRAIT, 112_545_506),
    ReleaseFile(f"{_WEIGHTS}/stitch_network.pth", "MIT", _LIVEPORTRAIT, 2_393_098),
    ReleaseFile(f"{_WEIGHTS}/warp_network.pth", "MIT", _LIVEPORTRAIT, 182_180_086),
    ReleaseFile(f"{_WEIGHTS}/decoder.pth", "MIT", _LIVEPORTRAIT, 221_813_590),
    ReleaseFile(f"{_WEIGHTS}/lmdm_v0.4_hubert.pth", "Apache-2.0", _DITTO, 191_247_715),
    ReleaseFile(
        f"{_OTHERS}/hubert_streaming_fix_kv.onnx", "Apache-2.0", "HuBERT, Meta", 1_460_740_880
    ),
    CONFIG,
    ReleaseFile(f"{_OTHERS}/landmark203.onnx", "MIT", _LIVEPORTRAIT, 114_666_491, needed=False),
    ReleaseFile(
        f"{_OTHERS}/det_10g.onnx", "non-commercial", _INSIGHTFACE, 16_923_827, needed=False
    ),
    ReleaseFile(
        f"{_OTHERS}/2d106det.onnx", "non-commercial", _INSIGHTFACE, 5_030_888, needed=False
    ),
)
"""All files that are of use here."""
