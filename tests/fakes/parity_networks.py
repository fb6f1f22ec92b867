"""What the reference's networks answer to seeded weights, and how to hold ours to it.

``tests/fixtures/parity/networks`` has a pair of files for each network: the ``.json`` lists every
entry of its weight file (key, shape, checksum of the seeded values), the shape and the limit of
every output, and the size and first values of intermediate results; the ``.npz`` has the outputs,
every ``stride``-th value of them, in float32 and, as ``<output>.f64``, in double precision.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.ditto.weights.reader import FILES, load_weights
from tests.fakes.parity_rules import entry_value, is_constant, network_input

FOLDER = Path(__file__).parents[1] / "fixtures" / "parity" / "networks"

DOUBLE_LIMIT = 1e-9
"""How far the outputs may be from the reference's when both compute in double precision."""


@dataclass(frozen=True)
class Reference:
    """The reference's answers of one network; ``name`` is a key of
    ``models.ditto.weights.reader.FILES``."""

    name: str
    network: str
    about: dict[str, Any]
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, name: str) -> Reference:
        network = FILES[name].name.removesuffix(".pth")
        about = json.loads((FOLDER / f"{network}.json").read_text())
        with np.load(FOLDER / f"{network}.npz") as arrays:
            return cls(name, network, about, dict(arrays))

    def inputs(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The seeded inputs, in the order of the network's arguments."""
        arrays = (network_input(self.network, name) for name in self.about["inputs"])
        return [torch.from_numpy(array).to(dtype) for array in arrays]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every entry of the weight file, in its order."""
        return {key: tuple(shape) for key, shape, _ in self.about["entries"]}

    def weights(self) -> dict[str, Tensor]:
        """The seeded entries; a few of them are checked against their checksums."""
        state = {}
        for i, (key, shape, checksum) in enumerate(self.about["entries"]):
            if key.endswith("num_batches_tracked"):
                value = np.zeros(shape, np.int64)
            elif is_constant(key):  # a rotary table
                width = 2 * shape[0]
                exponent = torch.arange(0, width, 2).float() / width
                value = (1.0 / 10000**exponent).numpy()
            else:
                value = entry_value(key, tuple(shape))
            if i % 16 == 0 or is_constant(key):
                assert zlib.crc32(np.ascontiguousarray(value).tobytes()) == checksum, key
            state[key] = torch.from_numpy(value)
        return state

    def load_into(self, network: nn.Module, folder: Path) -> None:
        """Write the weights to a file as released, and load that into the network. The file is
        deleted again: some are 200 MB."""
        path = write_file(self.name, self.weights(), folder)
        try:
            load_weights(network.eval().requires_grad_(False), self.name, folder)
        finally:
            path.unlink()

    def check(self, outputs: Mapping[str, Tensor], stages: Mapping[str, Tensor]) -> None:
        """Every output within its limit, all of them there; if not, say from which stage on the
        numbers are others."""
        where = self.first_wrong_stage(stages)
        assert where is None, where
        assert set(outputs) == set(self.about["outputs"])
        for name, output in outputs.items():
            error = self.error(name, output)
            limit = self.about["outputs"][name]["limit"]
            print(f"{self.network} {name}: {error:.2g} of {limit:.2g}")
            assert error <= limit, f"{name} is {error:.3g} off, more than {limit:.3g}"

    def check_double(self, outputs: Mapping[str, Tensor]) -> None:
        """Every output in double precision within ``DOUBLE_LIMIT``."""
        for name, output in outputs.items():
            assert output.dtype == torch.float64
            error = self.error(name, output)
            print(f"{self.network} {name}: {error:.2g} in double precision")
            assert error <= DOUBLE_LIMIT, f"{name} is {error:.3g} off in double precision"

    def error(self, name: str, output: Tensor) -> float:
        """The largest difference from the stored values, which are chosen by the dtype."""
        about = self.about["outputs"][name]
        assert math.prod(output.shape) == math.prod(about["shape"]), (name, output.shape)
        double = output.dtype == torch.float64
        stored = self.arrays[f"{name}.f64" if double else name]
        stride = about["f64_stride" if double else "stride"]
        return float(np.abs(output.detach().numpy().reshape(-1)[::stride] - stored).max())

    def first_wrong_stage(self, stages: Mapping[str, Tensor]) -> str | None:
        """The first stage, in the order of the computation, that is not the reference's."""
        for name, about in self.about["stages"].items():
            assert name in stages, f"stage {name} did not run"
            found = stages[name][: about["shape"][0]].double()
            rms = float(found.square().mean().sqrt())
            head = found.reshape(-1)[: len(about["first"])].numpy()
            error = np.abs(head - np.array(about["first"])).max()
            if abs(rms / about["rms"] - 1) > 1e-4 or error > 1e-4 * max(1.0, about["rms"]):
                return (
                    f"{self.network}: the first stage that differs is {name} {tuple(found.shape)}: "
                    f"rms {rms:.6g} instead of {about['rms']:.6g}, first values off by {error:.3g}"
                )
        return None

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Collects what the stages gave out while the block ran, the first time each."""
        seen: dict[str, Tensor] = {}
        modules = dict(network.named_modules())

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: object, output: Any) -> None:
                seen.setdefault(name, output)

            return hook

        hooks = [modules[name].register_forward_hook(keep(name)) for name in self.about["stages"]]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def write_file(name: str, state: Mapping[str, Tensor], folder: Path) -> Path:
    """Write weights in the layout of the released file: wrapped, prefixed and in company where
    that is."""
    file = FILES[name]
    # The prefix may stand anywhere in a key; behind its first part is the awkward place.
    named = {}
    for key, value in state.items():
        head, _, tail = key.partition(".")
        named[f"{head}.{file.prefix}{tail}" if file.prefix else key] = value
    content: Any = {"epoch": 7, file.entry: named} if file.entry else named
    path = folder / file.name
    torch.save(content, path)
    return path
