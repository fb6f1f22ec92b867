"""A RunPod worker as a process of its own: the real handler and SDK, with a test engine."""

from __future__ import annotations

import sys

import numpy as np

import runpod_handler
from models.engine import Canvas
from tests.fakes.engine import FlapEngine, FlapIdentity

BROKEN_WIDTH = 112
"""Portraits cannot be prepared for canvases of this width."""


class Engine(FlapEngine):
    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> FlapIdentity:
        if canvas.width == BROKEN_WIDTH:
            raise RuntimeError("inside of the engine")
        return super().prepare(portrait, canvas)


if __name__ == "__main__":
    sys.exit(runpod_handler.main(Engine))
