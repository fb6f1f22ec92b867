"""A worker that was spawned does not outlive who spawned it, not even one that was killed."""

from __future__ import annotations

import os
import signal
import threading
import time

import structlog

logger = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.25

GRACE_S = 3.0
"""From SIGTERM to the end, whatever is still going on: nobody is left to talk to the sessions'
clients, or to count their minutes."""


def follow_parent(pid: int) -> None:
    """Watch the parent process ``pid`` from a thread; once it is gone, drain for a moment and
    exit."""
    threading.Thread(target=_watch, args=(pid,), name="parent watch", daemon=True).start()


def _watch(pid: int) -> None:
    # An orphan is given another parent at once. (A pipe would not do: the parent's other children
    # may have inherited its end and live on.)
    while os.getppid() == pid:
        time.sleep(LOOK_EVERY_S)
    logger.warning("the parent process is gone", parent=pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
