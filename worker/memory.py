"""Memory that the C library keeps after it was freed, handed back to the system.

Preparing a portrait and measuring an engine need a few hundred megabytes for a second. glibc keeps
most of that for later, and a worker that rests would look twice its size.
"""

from __future__ import annotations

import ctypes
import sys


def hand_back() -> None:
    """Return free memory to the system: 2-4 ms after a portrait was prepared, else nearly nothing.
    Does nothing where the C library has no ``malloc_trim`` (only glibc has it). Thread-safe."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
