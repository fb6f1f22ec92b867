"""What the protocol is told of a session by whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from models.engine import SPEECH_RATE, Canvas
from protocol.events import SessionDraining, SessionReady

AuthFailure = Literal[
    "credentials", "ended", "not_started", "room_platform", "start_failed", "join_failed"
]

AUTH_FAILURES: tuple[AuthFailure, ...] = get_args(AuthFailure)


def speech_samples(samples: int, sample_rate: int) -> int:
    """How many 16 kHz samples ``samples`` at ``sample_rate`` (Hz) amount to, rounded half up."""
    return (2 * samples * SPEECH_RATE + sample_rate) // (2 * sample_rate)


@dataclass(frozen=True)
class SessionInfo:
    """What a newly attached client is told about its session."""

    session_id: str
    expiration: datetime | None
    canvas: Canvas
    ready: SessionReady | None = None
    """Set when the avatar is publishing already, so that a late client hears of it too."""
    draining: SessionDraining | None = None
    """Set while the worker drains."""


@dataclass(frozen=True)
class SpeakReceipt:
    """Speech was queued."""

    segment_id: int
    audio_samples: int
    """Samples queued by this call, counted at 16 kHz: see ``speech_samples``."""
