"""The dispatcher port: who runs a session, how it fares, and how to end it.

A dispatcher keeps no state that a restart would lose: what it needs to find a session again is in
the handle it returns, which the store keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from api.records import AspectRatio, EndReason, Platform, Session


class NoWorker(Exception):
    """No worker can take the session now, and none can be started."""


class OrderRefused(Exception):
    """The worker looked at the session and cannot run it: asking again will not help."""

    def __init__(self, code: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.suggestion = suggestion


@dataclass(frozen=True)
class RoomToJoin:
    """The room the avatar joins. ``local`` rooms have neither url nor token."""

    platform: Literal["daily", "livekit", "local"]
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    user_name: str = "AI Avatar"


@dataclass(frozen=True)
class Order:
    """Everything a worker needs to run one session."""

    session_id: str
    session_token: str = field(repr=False)
    aspect_ratio: AspectRatio
    room: RoomToJoin
    portrait: bytes = field(repr=False)
    """An encoded image that passed the face checks."""
    expires_at: datetime | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Placement:
    """Who runs it. The addresses are None while the worker is still starting."""

    worker: str
    """The dispatcher's handle, at most 512 characters; no secret in it."""
    instance: str | None = None
    ws_uri: str | None = None
    watch_uri: str | None = None


@dataclass(frozen=True)
class WorkerReport:
    """How a placed session fares, as its worker tells it.

    ``starting``: the worker does not serve it yet. ``running``: it is on its way to its room, or in
    it (``ready``). ``ended``: it is over; ``reason`` and ``ended_at`` are set. ``lost``: the worker
    answers and does not know it, or another process took its place. ``silent``: the worker did not
    answer; it may come back.
    """

    state: Literal["starting", "running", "ended", "lost", "silent"]
    ready: bool = False
    ws_uri: str | None = None
    watch_uri: str | None = None
    instance: str | None = None
    reason: EndReason | None = None
    ended_at: datetime | None = None
    detail: str | None = None
    """For the log: what went wrong, free of secrets."""


@dataclass(frozen=True)
class Capacity:
    """What the workers hold together, as far as is known."""

    workers: int
    """Workers that answer."""
    slots: int | None
    """Sessions they hold at a time; None: not known (serverless)."""
    running: int
    engines: tuple[str, ...] = ()
    """What those that take sessions render, each once, such as "warp, 1280x960"."""


class Dispatcher(Protocol):
    """Finds a worker for a session and stays in touch with it. Safe to use from many tasks."""

    @property
    def platforms(self) -> frozenset[Platform]:
        """Room platforms its workers can join (``proxy`` rooms are LiveKit rooms to them)."""
        ...

    async def start(self) -> None:
        """Open connections, spawn what is to be spawned. Returns before workers are warm."""
        ...

    async def place(self, order: Order) -> Placement:
        """Have a worker run ``order``. Returns before the avatar is in its room. Safe to repeat
        with the same session id: it is never run twice.

        Raises:
            NoWorker: nobody can take it now.
            OrderRefused: the room or the portrait cannot be used.
        """
        ...

    async def poll(self, sessions: Sequence[Session]) -> Mapping[str, WorkerReport]:
        """How these placed sessions (``worker`` is set) fare, by session id. Never raises for a
        worker that does not answer: that is a ``silent`` report."""
        ...

    async def end(self, session: Session, reason: EndReason) -> None:
        """Tell the worker to end it. Does nothing when it is gone already. Never raises for a
        worker that does not answer: the session is over for us in any case. Where ``worker`` is
        None the session was never noted to be placed, and may be running all the same: the
        worker that has it is told, as far as that can be found out."""
        ...

    async def warm(self, portrait: bytes, aspect_ratio: AspectRatio) -> None:
        """Have the workers prepare a portrait that may soon be asked for, and wait until they
        have; a hint, best effort."""
        ...

    async def capacity(self) -> Capacity:
        """For readiness and metrics; answers from what is known, at once."""
        ...

    async def aclose(self) -> None:
        """Close connections, stop what was spawned."""
        ...
