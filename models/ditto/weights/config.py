"""The release's configuration: a pickle, opened by a reader that can build nothing but data.

A pickle is a program. This one may make numbers, strings, lists, tuples, dictionaries and numpy
arrays of numbers; the first thing beyond that is refused by name, before it is looked up. What was
read is kept as JSON and npz, and the pickle is never opened again.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.ditto.weights.reader import FETCH
from models.engine import EngineError

CONFIG_JSON = "ditto_config.json"
"""The configuration; an array stands there as ``{"array": "<name in the npz>"}``."""
CONFIG_NPZ = "ditto_config.npz"
"""Its arrays."""

MAX_BYTES = 16 << 20
"""A larger pickle is not opened. The released ones have some ten kilobytes."""

_KINDS = "biuf"
"""Of numpy's dtypes: truth values, integers and floats."""


class ConfigError(EngineError):
    """The configuration cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class DittoConfig:
    """What the release says about its pipeline."""

    values: dict[str, Any]
    """The tree, arrays included."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its ``default_kwargs``, where settings and arrays of the pipeline are."""
        found = self.values.get("default_kwargs", {})
        return found if isinstance(found, dict) else {}

    @property
    def clip(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Smallest and largest value of each channel of motion: float32 (265,) twice."""
        rows = self._array("v_min_max_for_clip", (None, 265))
        if rows is None:
            return None
        if len(rows) < 2 or not (rows[0] <= rows[1]).all():
            raise ConfigError("the release's v_min_max_for_clip is no pair of lower, upper limits")
        return rows[0], rows[1]

    @property
    def emotion(self) -> np.ndarray | None:
        """Emotion of frames, one row each: float32 (n, 8)."""
        return self._array("emo", (None, 8))

    @property
    def blink(self) -> np.ndarray | None:
        """What the eye points' expression differs by in a blink: float32 (n, 63)."""
        return self._array("delta_eye_arr", (None, 63))

    @property
    def reference(self) -> dict[str, np.ndarray] | None:
        """Motion of the face that the performance was made for, by name, as far as it is given."""
        found = self.settings.get("ch_info")
        if not isinstance(found, dict):
            return None
        if isinstance(found.get("x_s_info"), dict):
            found = {**found, **found["x_s_info"]}
        return {key: value for key, value in found.items() if isinstance(value, np.ndarray)}

    def _array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray | None:
        found = self.settings.get(name)
        if not isinstance(found, np.ndarray):
            return None
        right = len(found.shape) == len(shape) and all(
            want is None or have == want for have, want in zip(found.shape, shape, strict=True)
        )
        if not right or not np.isfinite(found).all():
            wanted = " x ".join("n" if want is None else str(want) for want in shape)
            raise ConfigError(f"the release's {name} is {found.shape}, not {wanted} finite numbers")
        return found.astype(np.float32)


def read_config(folder: str | Path) -> DittoConfig:
    """The configuration as :func:`convert_config` left it.

    Raises:
        ConfigError: it is missing or damaged.
    """
    text, arrays = Path(folder) / CONFIG_JSON, Path(folder) / CONFIG_NPZ
    for path in (text, arrays):
        if not path.is_file():
            raise ConfigError(f"{path} is missing; run: {FETCH}")
    try:
        with np.load(arrays, allow_pickle=False) as stored:
            values = _joined(json.loads(text.read_text()), dict(stored))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"{text} and {arrays.name} cannot be used: {error}. Delete them and run: {FETCH}"
        ) from error
    return DittoConfig(values)


def convert_config(path: str | Path, folder: str | Path) -> DittoConfig:
    """Read the released pickle and write it as JSON and npz into ``folder``.

    Raises:
        ConfigError: the pickle is damaged, or wants to be more than data.
    """
    path = Path(path)
    config = DittoConfig(read_pickle(path))
    arrays: dict[str, np.ndarray] = {}
    tree = _split(config.values, "", arrays)
    for name, write in (
        (CONFIG_NPZ, lambda file: np.savez(file, **arrays)),  # type: ignore[arg-type]
        (CONFIG_JSON, lambda file: file.write((json.dumps(tree, indent=1) + "\n").encode())),
    ):
        _write(Path(folder) / name, write)
    return config


def read_pickle(path: Path) -> dict[str, Any]:
    """The tree in a pickle: a dictionary of numbers, strings, None, lists (tuples become lists),
    dictionaries and numpy arrays of numbers.

    Raises:
        ConfigError: as in :func:`convert_config`.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is missing; run: {FETCH}")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size} bytes: that is no configuration")
    try:
        tree = _plain(_DataUnpickler(io.BytesIO(path.read_bytes())).load(), "")
    except _RefusedError as refused:
        raise ConfigError(f"{path} is refused: {refused}. Do not open it elsewhere") from refused
    except RecursionError:
        raise ConfigError(f"{path} is refused: it is nested without end") from None
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise ConfigError(f"{path} is damaged ({error}). Delete it and run: {FETCH}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}, not a dictionary")
    return tree


class _RefusedError(Exception):
    """Something else than data."""


class _Dtype:
    """Stands in for ``numpy.dtype``: a kind and size of number, and nothing numpy would act on."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        try:
            self.dtype = np.dtype(str(name))
        except TypeError as error:
            raise _RefusedError(f"it has an array of {name!r}") from error
        if self.dtype.kind not in _KINDS:
            raise _RefusedError(f"it has an array of {self.dtype}")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray`` while it is read."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise _RefusedError(f"it has an array of class {kind!r}")
    return _Array()


def _scalar(dtype: Any, data: Any) -> int | float | bool:
    item: int | float | bool = _from_bytes(data, dtype, (1,), "C")[0].item()
    return item


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    result = _Array()
    result.array = _from_bytes(data, dtype, shape, order)
    return result


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
        raise _RefusedError("it has an array that is not of plain numbers")
    if not isinstance(shape, tuple) or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise _RefusedError("it has an array whose shape is not that of its numbers")
    return np.frombuffer(bytes(data), dtype.dtype).reshape(
        shape, order="F" if order == "F" else "C"
    )


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("it has bytes in an unusual coat")
    return text.encode("latin1")


# Names that numpy's arrays are pickled under, by the versions since 2006; and bytes as protocol 2
# writes them. Each is answered with something of ours.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _DataUnpickler(pickle.Unpickler):
    """Imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or refusal."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _RefusedError(f"it wants to use {module}.{name}, which is no data") from None

    def persistent_load(self, pid: Any) -> Any:
        """Refused: it would point outside of the file."""
        raise _RefusedError("it points to something outside of itself")


def _plain(value: Any, where: str) -> Any:
    """The tree without stand-ins."""
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        if odd := next((key for key in value if not isinstance(key, (str, int))), None):
            raise _RefusedError(f"a key of {where or 'its tree'} is a {type(odd).__name__}")
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise _RefusedError(f"{where or 'its tree'} is a {type(value).__name__}, which is no data")


def _split(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree for JSON; its arrays go to ``arrays``, named by their place."""
    if isinstance(value, np.ndarray):
        arrays[where] = value
        return {"array": where}
    if isinstance(value, list):
        return [_split(item, f"{where}.{i}".strip("."), arrays) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            key: _split(item, f"{where}.{key}".strip("."), arrays) for key, item in value.items()
        }
    return value


def _joined(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_joined(item, arrays) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {key: _joined(item, arrays) for key, item in value.items()}
    return value


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        write(file)
    os.replace(part, path)
