"""Counts refused WebSocket clients per address, so that guessing credentials is slow."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000


class InitLimit:
    """Allows ``limit`` failed inits per minute from one address.

    IPv6 clients are counted by their /64, which one client commonly owns whole.
    """

    def __init__(self, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """An init from ``address`` failed now."""
        key = _key(address)
        times = self._failures.setdefault(key, deque(maxlen=self._limit))
        times.append(self._monotonic())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def blocked(self, address: str) -> bool:
        """Whether ``address`` has used up its failures of the last minute."""
        times = self._failures.get(_key(address))
        if times is None or len(times) < self._limit:
            return False
        return self._monotonic() - times[0] < WINDOW_S


def _key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
