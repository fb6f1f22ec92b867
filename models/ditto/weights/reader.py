"""The released weight files, read strictly: every entry of a file has its place, or it is refused.

Files are unpickled with tensors only (``weights_only``), so a file that was tampered with can
spoil a picture but run nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.engine import EngineError

FETCH = "python scripts/download_models.py ditto"
"""What fetches the files."""


class WeightsError(EngineError):
    """A weight file cannot be used; the message names it, what is wrong and what fetches it."""


@dataclass(frozen=True)
class WeightsFile:
    """Where a network's weights lie."""

    name: str
    """File name."""
    entry: str | None = None
    """The entry of the file that holds them; ``None`` where the file is nothing else."""
    prefix: str = ""
    """Text to delete wherever it occurs in a key: training on several GPUs left it there."""


FILES: Mapping[str, WeightsFile] = {
    "appearance": WeightsFile("appearance_extractor.pth"),
    "motion": WeightsFile("motion_extractor.pth"),
    "warp": WeightsFile("warp_network.pth"),
    "decoder": WeightsFile("decoder.pth"),
    "stitch": WeightsFile("stitch_network.pth", entry="retarget_shoulder", prefix="module."),
    "lmdm": WeightsFile("lmdm_v0.4_hubert.pth", entry="model_state_dict"),
}
"""The files of each network, by the names of ``DittoNetworks``."""


def load_weights(network: nn.Module, name: str, folder: str | Path) -> None:
    """Fill a network from its file, in place, on its device and in its dtype.

    Args:
        network: of the size that the file was made with.
        name: a key of ``FILES``.
        folder: holds the file.

    Raises:
        WeightsError: the file is missing, is damaged, holds other things than tensors, or its
            entries are not exactly those of the network.
    """
    path = Path(folder) / FILES[name].name
    state = read_weights(path, FILES[name])
    _check(path, state, network.state_dict())
    network.load_state_dict(state, strict=True)


def read_weights(path: Path, file: WeightsFile) -> dict[str, Tensor]:
    """The tensors of a file by the network's keys, on the CPU.

    Raises:
        WeightsError: as in ``load_weights``.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing; run: {FETCH}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _wrong(path, f"it holds more than tensors ({_first_line(error)})") from error
    except Exception as error:  # torch.load raises whatever the zip or pickle reader does
        raise _wrong(path, f"it cannot be read ({_first_line(error)})") from error
    if file.entry is not None:
        if not isinstance(content, Mapping) or file.entry not in content:
            raise _wrong(path, f"it has no entry {file.entry!r}")
        content = content[file.entry]
    if not isinstance(content, Mapping):
        raise _wrong(path, f"it holds a {type(content).__name__} instead of named tensors")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise _wrong(path, f"its entry {key!r} is no tensor")
        short = key.replace(file.prefix, "") if file.prefix else key
        if short in state:
            raise _wrong(path, f"two of its entries are named {short!r}")
        state[short] = value
    return state


def _check(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Every key there, no other, and of the right shape and kind."""
    faults = [f"{key} is missing" for key in wanted if key not in state]
    faults += [f"{key} is unexpected" for key in state if key not in wanted]
    for key in wanted.keys() & state.keys():
        found, right = state[key], wanted[key]
        if found.shape != right.shape:
            faults.append(f"{key} is {tuple(found.shape)} instead of {tuple(right.shape)}")
        elif found.is_floating_point() != right.is_floating_point():
            faults.append(f"{key} is {found.dtype} instead of {right.dtype}")
        elif found.is_floating_point() and not bool(torch.isfinite(found).all()):
            faults.append(f"{key} holds values that are not finite")
    if faults:
        shown = "; ".join(faults[:8])
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise _wrong(path, f"its entries are not the network's: {shown}{more}")


def _wrong(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path} cannot be used: {what}. Delete it and run: {FETCH}")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
