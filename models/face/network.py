"""One LiteRT network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Network:
    """A LiteRT network with one image input. Not thread-safe."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = {
            detail["name"]: detail["index"] for detail in self._interpreter.get_output_details()
        }

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Run on float32 (1, height, width, 3); copies of the outputs by name."""
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(i) for name, i in self._outputs.items()}
