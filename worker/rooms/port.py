"""The room port: where a session's picture and sound go.

A room takes one frame and its 40 ms of audio at a time and paces the publisher: ``publish``
returns when the room can take the next one. What has left the room's audio queue, ``played``, is
the session's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

MEDIA_RATE = 48_000
"""Sample rate of the audio people hear, in Hz."""

SAMPLES_PER_FRAME = 1920
"""Audio samples (48 kHz) that belong to one frame of 40 ms."""

RoomEvent = Literal[
    "participant_joined", "participant_left", "agent_joined", "agent_left", "reconnected", "closed"
]
"""What happens in a room; the reason that comes with it is meant for the operator, unless said
otherwise here.

``participant_joined``: somebody is there to see the avatar. ``participant_left``: the last of
them has gone. ``agent_joined``, ``agent_left``: the agent that the avatar speaks for.
``reconnected``: the connection was lost for a moment; the reason is ``resume`` or ``full``.
``closed``: the avatar is out of the room for good; the reason is ``removed``, ``connection_lost``
or, for any other end, free text.
"""


class RoomError(Exception):
    """The room cannot be joined or was lost; the text says why and what to do."""


class PlatformNotInstalled(RoomError):
    """This worker lacks the package that rooms of this kind need."""

    def __init__(self, platform: str) -> None:
        super().__init__(f"Room platform {platform} is not available on this server")
        self.remedy = f"Install its package: pip install '.[{platform}]'"


class Room(Protocol):
    """One session's place to appear in."""

    realtime: bool
    """True: time passes by itself and a late picture is dropped. False: the room waits for every
    picture, and its time stands still while nothing is said."""

    multi_party: bool
    """True: people meet in this room whether the avatar is there or not, and a session is over
    when they have gone, even if its speech still comes. False: the room is the session's own."""

    starts_on_speech: bool
    """True: the room's time begins with the first speech; nothing is published before."""

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Join. ``on_event(kind, reason)`` is called on the event loop's thread, also after a
        failure later on. Raises ``RoomError`` when the room cannot be joined."""
        ...

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """Hand over one frame.

        ``picture``: I420 uint8 (height * 3 / 2, width), or None: show the last one again.
        ``audio``: int16, shape (1920,), 48 kHz mono; exact zeros while idle.
        ``speaking``: the frame belongs to speech (a recording may skip what is before the first).
        The frame is taken in at once; then ``publish`` returns as soon as no more than 40 ms of
        audio wait inside, so the publisher has those 40 ms to bring the next frame.
        """
        ...

    def clear(self) -> int:
        """Throw away audio and pictures that wait inside, also what a ``publish`` still blocks on
        (which then returns at once); returns the number of audio samples thrown away."""
        ...

    @property
    def played(self) -> int:
        """Audio samples that have left the queue since ``connect`` (heard, not merely pushed).
        Samples thrown away by ``clear`` do not count."""
        ...

    @property
    def viewers(self) -> int:
        """Who is in the room besides the avatar and recorders."""
        ...

    async def aclose(self, reason: str = "") -> None:
        """Leave and release everything; ``reason`` is what others in the room are told, where
        that is possible. Safe to call twice, and after a failed ``connect``."""
        ...
