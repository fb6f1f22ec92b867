"""What a session tells those who listen: the same events for every way in.

Frozen dataclasses; the WebSocket protocol turns them into messages, metrics count them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

SegmentReason = Literal["completed", "interrupted", "session_ended", "error"]

EndReason = Literal[
    "client_request",
    "websocket_closed",
    "room_empty",
    "never_joined",
    "agent_left",
    "expired",
    "minutes_exhausted",
    "removed_from_room",
    "room_closed",
    "join_failed",
    "connection_lost",
    "server_error",
    "server_shutdown",
]


@dataclass(frozen=True)
class SegmentStarted:
    """The first sample of a segment left the room's audio queue."""

    segment_id: int
    utterance_id: str | None
    latency_ms: int
    """From the first received byte of the segment to its first sample heard."""


@dataclass(frozen=True)
class SegmentEnded:
    """A segment is over; exactly one per segment."""

    segment_id: int
    utterance_id: str | None
    playback_position: float
    """Seconds of the segment's own audio that were heard."""
    audio_duration: float
    """Seconds of audio received for it."""
    reason: SegmentReason


@dataclass(frozen=True)
class SessionReady:
    """The avatar is in the room and publishing."""

    width: int
    height: int
    fps: int


@dataclass(frozen=True)
class SessionExpiring:
    """The session's time is nearly over."""

    expiration: datetime
    seconds_left: int


@dataclass(frozen=True)
class SessionDraining:
    """The worker is shutting down; sessions may go on until the deadline."""

    deadline: datetime
    reason: str


@dataclass(frozen=True)
class SessionEnded:
    """The session is over; the last event."""

    reason: EndReason
    duration_s: float
    ended_at: datetime


@dataclass(frozen=True)
class SessionMetrics:
    """Every five seconds: how the session fares."""

    fps: float
    frames_dropped: int
    audio_buffer_ms: int
    av_offset_ms: int
    render_ms_p50: float
    render_ms_p95: float
    first_frame_ms: int | None


SessionEvent = (
    SegmentStarted
    | SegmentEnded
    | SessionReady
    | SessionExpiring
    | SessionDraining
    | SessionEnded
    | SessionMetrics
)
