"""What the speech gateway counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60)


class GatewayMetrics:
    """Sockets, bytes and waiting of one process. Durations are in seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("avatar_api_sockets", "Open speech sockets", registry=registry)
        self._refused = Counter(
            "avatar_api_sockets_refused_total",
            "Speech sockets that were refused before they entered a session",
            registry=registry,
        )
        self._bytes = Counter(
            "avatar_api_socket_bytes_total",
            "Bytes of messages piped",
            ["direction"],
            registry=registry,
        )
        self._wait = Histogram(
            "avatar_api_socket_wait_seconds",
            "Time from session.init to the worker's connection",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        for direction in ("to_worker", "to_client"):
            self._bytes.labels(direction)

    def refused(self) -> None:
        """A client was refused by its own fault."""
        self._refused.inc()

    def waited(self, seconds: float) -> None:
        """A worker was reached."""
        self._wait.observe(seconds)

    def piped(self, up: int, down: int) -> None:
        """So many bytes went to the worker and to the client."""
        self._bytes.labels("to_worker").inc(up)
        self._bytes.labels("to_client").inc(down)
