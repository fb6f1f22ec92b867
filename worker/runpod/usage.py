"""What a session used and how well it went, for the job's output."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from protocol.events import SegmentEnded, SegmentStarted, SessionEnded, SessionEvent
from worker.session import Session

KEPT = 4096
"""Latest latencies that the stats are made of."""


class Usage:
    """Counts a session's events; ``report`` when it has ended."""

    def __init__(self) -> None:
        self._latencies: deque[int] = deque(maxlen=KEPT)
        self._segments = 0
        self._spoken_s = 0.0
        self._seconds = 0.0
        self.ended_at: datetime | None = None

    def note(self, event: SessionEvent) -> None:
        """Take in an event of the session."""
        match event:
            case SegmentStarted():
                self._latencies.append(event.latency_ms)
            case SegmentEnded():
                self._segments += 1
                self._spoken_s += event.playback_position
            case SessionEnded():
                self._seconds = event.duration_s
                self.ended_at = event.ended_at

    def report(self, session: Session) -> dict[str, Any]:
        """Seconds, counts and milliseconds.

        ``drops`` are frames without a picture of their own; ``latency_ms`` counts from a segment's
        first byte to its first sample heard.
        """
        stats = session.stats
        return {
            "seconds": round(self._seconds, 2),
            "speech_seconds": round(self._spoken_s, 2),
            "segments": self._segments,
            "frames": stats.frames,
            "drops": stats.dropped,
            "first_frame_ms": stats.first_frame_ms,
            "latency_ms": percentiles(self._latencies),
            "render_ms": percentiles(session.render_ms),
        }


def percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """Median, 95th percentile and maximum; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 2),
        "max": round(ordered[-1], 2),
    }
