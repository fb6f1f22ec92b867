"""A resident worker as a process of its own: the real command line, with a test engine."""

from __future__ import annotations

import sys

import worker.engines
from tests.fakes.engine import FlapEngine
from worker.cli import main

if __name__ == "__main__":
    worker.engines.engine_loader = lambda settings: FlapEngine
    sys.exit(main(["serve"]))
