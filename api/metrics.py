"""The control plane's Prometheus metrics. No label tells accounts or sessions apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api.dispatch.port import Capacity
from api.records import EndReason, Platform, SessionStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_BUCKETS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_DISPATCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30)


class ApiMetrics:
    """All metrics of one process, in a registry of their own. Durations are in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "avatar_api_requests_total",
            "Answered requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "avatar_api_request_seconds",
            "Time to answer a request",
            ["route"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._rate_limited = Counter(
            "avatar_api_rate_limited_total",
            "Requests refused by the rate limit",
            ["by"],
            registry=registry,
        )
        self._sessions = Gauge(
            "avatar_api_sessions", "Sessions in the store", ["status"], registry=registry
        )
        self._created = Counter(
            "avatar_api_sessions_created_total",
            "Sessions created",
            ["platform"],
            registry=registry,
        )
        self._ended = Counter(
            "avatar_api_sessions_ended_total", "Sessions ended", ["reason"], registry=registry
        )
        self._dispatch = Histogram(
            "avatar_api_dispatch_seconds",
            "Time to find a worker for a session",
            ["outcome"],
            buckets=_DISPATCH_BUCKETS,
            registry=registry,
        )
        self._workers = Gauge("avatar_api_workers", "Workers that answer", registry=registry)
        self._slots = Gauge(
            "avatar_api_worker_slots", "Sessions the workers hold at a time", registry=registry
        )
        self._running = Gauge(
            "avatar_api_worker_sessions", "Sessions the workers run", registry=registry
        )
        self._supervised = Counter(
            "avatar_api_supervisor_failures_total",
            "Sessions that could not be looked at, to be tried again",
            registry=registry,
        )
        # A series that begins with its first event hides that event from rate().
        for reason in get_args(EndReason):
            self._ended.labels(reason)
        for platform in get_args(Platform):
            self._created.labels(platform)
        for who in ("key", "address"):
            self._rate_limited.labels(who)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the template, never the path itself."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def rate_limited(self, by: str) -> None:
        """A request was refused; ``by`` is ``key`` or ``address``."""
        self._rate_limited.labels(by).inc()

    def session_created(self, platform: Platform) -> None:
        """A session was stored."""
        self._created.labels(platform).inc()

    def session_ended(self, reason: EndReason) -> None:
        """A session ended."""
        self._ended.labels(reason).inc()

    def dispatched(self, outcome: str, seconds: float) -> None:
        """A worker was looked for; ``outcome`` is ``placed``, ``no_worker``, ``refused`` or
        ``failed``."""
        self._dispatch.labels(outcome).observe(seconds)

    def supervisor_failed(self) -> None:
        """A session could not be looked at."""
        self._supervised.inc()

    def exposition(self, totals: Mapping[SessionStatus, int], capacity: Capacity) -> bytes:
        """Everything as Prometheus text."""
        for status in get_args(SessionStatus):
            self._sessions.labels(status).set(totals.get(status, 0))
        self._workers.set(capacity.workers)
        self._slots.set(capacity.slots if capacity.slots is not None else float("nan"))
        self._running.set(capacity.running)
        return generate_latest(self.registry)
