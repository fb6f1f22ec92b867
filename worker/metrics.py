"""The worker's Prometheus metrics. No label tells sessions apart."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from protocol.events import EndReason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Stage = Literal["audio", "motion", "warp", "decode", "blend", "publish"]
DropReason = Literal["late", "stale", "overload"]

# Around the targets: 40 ms is one frame, 80 ms the limit of an interrupt, 120 and 250 ms those of
# the first frame, 2 s that of joining.
_STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.012, 0.016, 0.024, 0.032, 0.04, 0.08, 0.16)
_LATENCY_BUCKETS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.25, 0.35, 0.5, 1, 2, 5)
_JOIN_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)


class Metrics:
    """All metrics of one worker, in a registry of their own.

    Thread-safe: the render threads and the event loop both report. Durations are in seconds.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._ready = Gauge("avatar_ready", "1: a session can be taken", registry=registry)
        self._active = Gauge("avatar_sessions_active", "Sessions running", registry=registry)
        self._sessions = Counter(
            "avatar_sessions_total", "Sessions ended", ["outcome"], registry=registry
        )
        self._join = Histogram(
            "avatar_session_join_seconds",
            "Start of a session to its tracks published",
            buckets=_JOIN_BUCKETS,
            registry=registry,
        )
        self._first_frame = Histogram(
            "avatar_first_frame_seconds",
            "First byte of speech to its first frame",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._playback = Histogram(
            "avatar_playback_latency_seconds",
            "First byte of a segment to its first sample heard",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._interrupt = Histogram(
            "avatar_interrupt_latency_seconds",
            "Interrupt to silence",
            buckets=(0.001, 0.005, 0.01, *_LATENCY_BUCKETS),
            registry=registry,
        )
        self._stage = Histogram(
            "avatar_frame_render_seconds",
            "Time per frame by stage",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self._dropped = Counter(
            "avatar_frames_dropped_total", "Frames not shown", ["reason"], registry=registry
        )
        self._offset = Gauge(
            "avatar_av_offset_seconds",
            "Picture minus sound, of the session that reported last",
            registry=registry,
        )
        self._buffer = Gauge(
            "avatar_audio_buffer_seconds",
            "Unplayed speech, of the session that reported last",
            registry=registry,
        )
        self._reconnects = Counter(
            "avatar_transport_reconnects_total",
            "Reconnects of a room's transport",
            ["transport", "kind"],
            registry=registry,
        )
        self._rpc_failures = Counter(
            "avatar_rpc_failures_total", "Remote calls that failed", ["method"], registry=registry
        )

    def exposition(self) -> bytes:
        """Everything as Prometheus text (``CONTENT_TYPE``)."""
        return generate_latest(self.registry)

    def set_ready(self, ready: bool) -> None:
        """Whether a session can be taken."""
        self._ready.set(1 if ready else 0)

    def set_sessions(self, running: int) -> None:
        """How many sessions run."""
        self._active.set(running)

    def session_ended(self, reason: EndReason) -> None:
        """A session ended."""
        self._sessions.labels(reason).inc()

    def observe_join(self, seconds: float) -> None:
        """A session was in its room ``seconds`` after its start."""
        self._join.observe(seconds)

    def observe_first_frame(self, seconds: float) -> None:
        """The first spoken frame came ``seconds`` after its first byte of speech."""
        self._first_frame.observe(seconds)

    def observe_playback_latency(self, seconds: float) -> None:
        """A segment was first heard ``seconds`` after its first byte."""
        self._playback.observe(seconds)

    def observe_interrupt(self, seconds: float) -> None:
        """Silence came ``seconds`` after an interrupt."""
        self._interrupt.observe(seconds)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """One frame took ``seconds`` in ``stage``."""
        self._stage.labels(stage).observe(seconds)

    def frame_dropped(self, reason: DropReason, count: int = 1) -> None:
        """Frames were not shown."""
        self._dropped.labels(reason).inc(count)

    def set_av_offset(self, seconds: float) -> None:
        """Picture minus sound."""
        self._offset.set(seconds)

    def set_audio_buffer(self, seconds: float) -> None:
        """Unplayed speech."""
        self._buffer.set(seconds)

    def transport_reconnected(self, transport: str, kind: Literal["resume", "full"]) -> None:
        """A room's transport reconnected."""
        self._reconnects.labels(transport, kind).inc()

    def rpc_failed(self, method: str) -> None:
        """A remote call failed."""
        self._rpc_failures.labels(method).inc()
