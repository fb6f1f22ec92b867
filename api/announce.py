"""What a person at a terminal reads when the service has started."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import TextIO

from api.dispatch.port import Capacity, Dispatcher

PATIENCE_S = 60.0
"""How long the workers are waited for before the address alone is told."""
_LOOK_S = 0.05


async def announce(
    address: str,
    dispatcher: Dispatcher,
    stream: TextIO | None = None,
    *,
    patience_s: float = PATIENCE_S,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Write to ``stream`` (default: standard output) where to go. At a terminal that is the last
    thing of the start, with what the workers hold; elsewhere the address is written at once."""
    out = stream or sys.stdout
    if not out.isatty():
        print(f"\n  Open {address}\n", file=out, flush=True)
        return
    until = now() + patience_s
    while not (capacity := await dispatcher.capacity()).engines and capacity.slots is not None:
        if now() > until:
            break
        await asyncio.sleep(_LOOK_S)
    print("\n".join(["", *_lines(address, capacity), ""]), file=out, flush=True)


def _lines(address: str, capacity: Capacity) -> list[str]:
    engines = ", ".join(capacity.engines) or "not there yet: no worker is ready"
    if capacity.slots is None:
        engines, sessions = "on workers that are started on demand", "as many as those hold"
    elif capacity.slots == 0 and capacity.engines:
        sessions = "none: too slow for live video (python -m worker check)"
    else:
        sessions = f"{capacity.slots} at a time"
    return [f"  Open      {address}", f"  Engine    {engines}", f"  Sessions  {sessions}"]
