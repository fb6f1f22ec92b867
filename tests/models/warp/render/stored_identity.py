"""An identity as a flat set of arrays, so that a fixture can hold one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from models.engine import Canvas
from models.warp.grid import CoarseGrid
from models.warp.identity import EyeLayers, Field, MouthLayers, WarpIdentity

_KINDS = {
    kind.__name__: kind
    for kind in (Canvas, CoarseGrid, EyeLayers, Field, MouthLayers, WarpIdentity)
}


def flatten(value: Any, name: str = "") -> dict[str, np.ndarray]:
    """Arrays and numbers of an identity by their paths."""
    if is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
        out = {f"{name}#": np.array(type(value).__name__)}
    elif isinstance(value, tuple):
        items = [(str(i), item) for i, item in enumerate(value)]
        out = {f"{name}#": np.array("tuple")}
    else:
        return {} if value is None else {name: np.asarray(value)}
    for key, item in items:
        out.update(flatten(item, f"{name}.{key}" if name else key))
    return out


def restore(stored: dict[str, np.ndarray], name: str = "") -> Any:
    """The reverse of :func:`flatten`."""
    if name in stored:
        array = stored[name]
        return np.ascontiguousarray(array) if array.ndim else array.item()
    if f"{name}#" not in stored:
        return None
    kind = str(stored[f"{name}#"])
    prefix = f"{name}." if name else ""
    if kind == "tuple":
        found = {k[len(prefix) :].split(".")[0].rstrip("#") for k in stored if k.startswith(prefix)}
        return tuple(restore(stored, prefix + str(i)) for i in range(len(found)))
    made = _KINDS[kind]
    return made(**{field.name: restore(stored, prefix + field.name) for field in fields(made)})
