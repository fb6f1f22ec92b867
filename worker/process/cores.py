"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit: time it may take and the period it is counted in, in microseconds."""


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores this process may run on, at least 1: those of the machine, within its affinity and its
    container's quota (``docker run --cpus``, rounded up)."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    try:
        taken, period = quota.read_text().split()
        if taken != "max":
            cores = min(cores, math.ceil(int(taken) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no container, or one that counts in another way
    return max(1, cores)
