"""A RunPod worker as a process of its own: the real handler and SDK, with a test engine."""

from __future__ import annotations

import sys
import time

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


def engine_without_weights() -> Engine:
    raise FileNotFoundError("weights are missing")


def engine_that_takes_long() -> Engine:
    print("loading", flush=True)
    time.sleep(60)
    return Engine()


ENGINES = {"--without-weights": engine_without_weights, "--slow": engine_that_takes_long}

if __name__ == "__main__":
    asked = [ENGINES[name] for name in sys.argv if name in ENGINES]
    sys.exit(runpod_handler.main(asked[0] if asked else Engine))
