"""What the server does wrong on purpose. Change the fields while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from livekit.protocol import models


@dataclass
class Faults:
    """All off by default."""

    refuse_token: str | None = None
    """Answer every join with 401 and this text."""
    refuse_joins: bool = False
    """Answer every join with 503, as a server that is gone for a while."""
    allow_resume: bool = False
    """Keep a participant whose signalling connection broke, and let it come back as the same.
    Takes the client some seconds, for aiortc cannot restart ICE."""
    join_delay_s: float = 0.0
    """Between the upgrade and the ``join`` message."""
    lose_trailers: bool = False
    """Forward no stream trailer."""
    never_subscribe: bool = False
    """Forward no media to anyone."""
    never_tell_subscribed: bool = False
    """Forward media, but never tell the publisher that somebody takes it."""
    no_pongs: bool = False
    """Leave pings unanswered."""
    drop_packet: Callable[[models.DataPacket], bool] | None = None
    """Data packets for which it answers True are not forwarded."""
    packet_delay_s: Callable[[models.DataPacket], float] | None = None
    """How long a data packet is held back, in seconds; later ones wait behind it."""
