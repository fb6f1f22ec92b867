"""Memory that is no longer used, handed back to the system.

Preparing a portrait and measuring an engine need a few hundred megabytes for a second. glibc keeps
most of that for later, and a worker that rests would look twice its size. What a session leaves
behind, its encoder's buffers above all, refers to itself in circles: Python would find that after
some more sessions only.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def hand_back() -> None:
    """Return free memory to the system: 2-4 ms after a portrait was prepared, else nearly nothing.
    Does nothing where the C library has no ``malloc_trim`` (only glibc has it). Thread-safe."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def tidy_up() -> None:
    """Find what refers to itself in circles and free it, then ``hand_back``. Holds the GIL for
    20 ms, after ``spare_the_loaded`` for 2-3."""
    gc.collect()
    hand_back()


def spare_the_loaded() -> None:
    """Say that what is loaded now stays: collections of garbage no longer look at it. For a process
    that has started and from now on only serves."""
    gc.collect()
    gc.freeze()
