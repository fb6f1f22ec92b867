"""One LiteRT network."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_NOTES = (b"INFO: ", b"I0000 ", b"WARNING: All log messages before absl::InitializeLog")
"""How lines begin that LiteRT prints and nobody needs: it has no level to set."""

_redirecting = threading.Lock()


class Network:
    """A LiteRT network with one image input. Not thread-safe."""

    def __init__(self, path: Path, threads: int) -> None:
        with _without_notes():
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


@contextmanager
def _without_notes() -> Iterator[None]:
    """Keep LiteRT's notes off standard error, and pass on everything else that comes: its errors,
    and what other threads write meanwhile. (LiteRT is C++ and writes past ``sys.stderr``.)"""
    with _redirecting, tempfile.TemporaryFile() as written:
        try:
            real = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        _flush()
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(real, 2)
            os.close(real)
            written.seek(0)
            for line in written:
                if not line.startswith(_NOTES):
                    os.write(2, line)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
