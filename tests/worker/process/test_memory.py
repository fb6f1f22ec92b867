"""What a worker no longer uses is the system's again."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from worker.process.memory import hand_back

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the C library has no malloc_trim",
)


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def test_freed_memory_goes_back_to_the_system():
    # Blocks small enough to come from the heap; the last one keeps its end in use.
    blocks = [b"x" * 65_000 for _ in range(2_000)]
    pinned = blocks.pop()
    blocks.clear()
    kept = resident_mb()
    hand_back()
    assert resident_mb() < kept - 60
    assert len(pinned) == 65_000
