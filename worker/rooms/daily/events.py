"""What happens in a Daily call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

LossKind = Literal["removed", "connection_lost", "ended"]
"""Somebody put us out, the network failed, or anything else."""


@dataclass(frozen=True)
class ParticipantJoined:
    """Somebody else came into the call."""

    id: str


@dataclass(frozen=True)
class ParticipantLeft:
    """Somebody else left the call."""

    id: str
    reason: str


@dataclass(frozen=True)
class AppMessage:
    """Somebody sent a message to the call."""

    message: Any
    sender: str


@dataclass(frozen=True)
class CallLost:
    """We are no longer in the call and did not leave it ourselves."""

    reason: str
    """What Daily said about it, as a sentence."""
    kind: LossKind


CallEvent = ParticipantJoined | ParticipantLeft | AppMessage | CallLost


def loss_kind(complaint: str) -> LossKind:
    """What became of the call; the SDK gives its reasons as English text only."""
    text = complaint.lower()
    if "eject" in text:
        return "removed"
    if any(word in text for word in ("connection", "network", "signal", "timeout")):
        return "connection_lost"
    return "ended"
