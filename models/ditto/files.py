"""Where the released files lie, and whether they are all there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from models.assets import cache_dir
from models.ditto.networks.ditto_networks import DittoSizes
from models.ditto.weights.reader import FETCH, FILES, WeightsError

SPEECH_ENCODER = "hubert_streaming_fix_kv.onnx"
"""The speech network's file."""
SIZES = "sizes.json"
"""Beside weights of another size than the official one: the fields of ``DittoSizes``. Who trains
smaller networks, or tests with tiny ones, puts them into a folder with such a file."""


def model_folder() -> Path:
    """The folder of Ditto's files: ``ditto`` in AVATAR_MODELS_DIR if that is set, else in the
    cache. It need not exist yet."""
    given = os.environ.get("AVATAR_MODELS_DIR")
    return (Path(given).expanduser() if given else cache_dir()) / "ditto"


def wanted_files() -> list[str]:
    """Names of the files the engine cannot do without."""
    return [*(file.name for file in FILES.values()), SPEECH_ENCODER]


def missing_files(folder: str | Path | None = None) -> list[str]:
    """Of those, the ones that ``folder`` (default: :func:`model_folder`) lacks."""
    place = model_folder() if folder is None else Path(folder)
    return [name for name in wanted_files() if not (place / name).is_file()]


def require_files(folder: str | Path | None = None) -> Path:
    """The folder, every file in it.

    Raises:
        WeightsError: names each file that is missing and the command that fetches it.
    """
    place = model_folder() if folder is None else Path(folder)
    if lacking := missing_files(place):
        raise WeightsError(f"{place} lacks {', '.join(lacking)}; run: {FETCH}")
    return place


def read_sizes(folder: str | Path) -> DittoSizes:
    """Sizes of the networks whose weights lie in ``folder``: the official ones, unless it holds a
    ``sizes.json`` that says otherwise.

    Raises:
        WeightsError: the file cannot be read, or has a field that ``DittoSizes`` does not know.
    """
    path = Path(folder) / SIZES
    if not path.is_file():
        return DittoSizes.official()
    known = {field.name for field in fields(DittoSizes)}
    try:
        values = json.loads(path.read_text())
        unknown = sorted(set(values) - known)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} is no JSON object of sizes: {error}") from error
    if unknown:
        raise WeightsError(f"{path} names {', '.join(unknown)}, which no network has")
    plain: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
    }
    return DittoSizes(**plain)


def write_sizes(sizes: DittoSizes, folder: str | Path) -> Path:
    """Write ``sizes`` where :func:`read_sizes` finds them; returns the file."""
    path = Path(folder) / SIZES
    path.write_text(json.dumps(asdict(sizes), indent=2) + "\n")
    return path
