"""The ports between the ways into the worker and its sessions.

The WebSocket and HTTP shells see sessions through these only: a ``Directory`` finds a session by
its credentials, a ``SpeechTarget`` is one session as speech sees it, a ``WorkerPort`` is the whole
worker as the control plane sees it. All of it lives on one event loop; nothing here is thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from common.canvas_settings import AspectRatio
from models.engine import Canvas
from protocol.events import EndReason, SessionEvent
from protocol.session_types import AuthFailure, SessionInfo, SpeakReceipt
from worker.metrics import Metrics

if TYPE_CHECKING:
    from worker.rooms.whep import room as whep
    from worker.settings import WorkerSettings


WorkerState = Literal["warming", "ready", "full", "draining"]


class AuthError(Exception):
    """A session cannot be entered. The text never tells more than ``kind``.

    ``kind`` is ``credentials`` for an unknown session and for a wrong token alike.
    """

    def __init__(self, kind: AuthFailure) -> None:
        super().__init__(kind)
        self.kind: AuthFailure = kind


class SessionOver(Exception):
    """The session has ended; nothing can be said in it any more."""


class SpeechTarget(Protocol):
    """One session as its speech input sees it."""

    @property
    def info(self) -> SessionInfo:
        """The session as it is now."""
        ...

    async def speak(
        self, pcm: bytes, sample_rate: int, utterance_id: str | None
    ) -> SpeakReceipt | None:
        """Queue speech: 16-bit little-endian mono at ``sample_rate`` (Hz), a whole number of
        samples.

        An ``utterance_id`` other than the open segment's closes that and opens a new one. None
        continues the open segment whatever its id, or opens one without id.

        Waits while work on earlier audio is unfinished, which slows a flooding client down; it
        does not wait for playback, for an interrupt behind it in the stream would wait as well.

        Returns None, and queues nothing, when the unplayed backlog would exceed its limit.

        Raises:
            SessionOver: the session has ended.
        """
        ...

    def begin_speech(self, utterance_id: str | None, sample_rate: int) -> None:
        """Close the open segment, if any, and open a new one."""
        ...

    def end_speech(self) -> None:
        """Close the open segment: what is queued still plays. Does nothing when none is open."""
        ...

    async def interrupt(self) -> None:
        """Stop and forget all speech. Returns once playback has stopped and a ``SegmentEnded`` was
        emitted for every pending segment; at once when nothing was playing."""
        ...

    async def end(self, reason: EndReason) -> None:
        """End the session. Emits ``SessionEnded`` as the last event; a second call does nothing."""
        ...

    def subscribe(self, callback: Callable[[SessionEvent], None]) -> Callable[[], None]:
        """Have ``callback`` called, on the event loop's thread, with every event from now on. It
        does not block. Returns what ends the subscription."""
        ...

    def attach(self) -> None:
        """A client entered; a grace period under way is over. Called again, without ``detach``,
        when a newer client takes over."""
        ...

    def detach(self, clean: bool, grace_s: float) -> None:
        """The client is gone. ``clean``: it said goodbye, the session ends (``websocket_closed``).
        Otherwise the session ends unless a client attaches within ``grace_s`` seconds. Does nothing
        once the session has ended."""
        ...


class Directory(Protocol):
    """Finds sessions by their credentials."""

    def authenticate(self, session_id: str, token: str) -> SpeechTarget:
        """The session with this id, if ``token`` (compared in constant time) is its token.

        Raises:
            AuthError: why it cannot be entered.
        """
        ...


@dataclass(frozen=True)
class WhepRoom:
    """Watch by WHEP: a browser, OBS or GStreamer pulls from this worker."""

    platform: Literal["whep"] = "whep"


@dataclass(frozen=True)
class FileRoom:
    """Record an MP4."""

    path: Path
    paced: bool = True
    """False: as fast as pictures come, every picture kept."""
    starts_on_speech: bool = False
    """True: record from the first speech to the last, not the idling around it."""
    platform: Literal["file"] = "file"


@dataclass(frozen=True)
class LiveKitRoom:
    """Join a LiveKit room."""

    url: str
    """Of the server: ``ws``, ``wss``, ``http`` or ``https``."""
    token: str = field(repr=False)
    """The avatar's own access token; it names the room."""
    platform: Literal["livekit"] = "livekit"


@dataclass(frozen=True)
class DailyRoom:
    """Join a Daily call."""

    url: str = field(repr=False)
    """The room's address; a token may be part of it."""
    token: str | None = field(repr=False)
    """A meeting token; None where the room lets everybody in."""
    user_name: str = "AI Avatar"
    platform: Literal["daily"] = "daily"


RoomSpec = WhepRoom | FileRoom | LiveKitRoom | DailyRoom


@dataclass(frozen=True)
class SessionRequest:
    """Everything a worker needs to run one session."""

    session_id: str
    session_token: str = field(repr=False)
    canvas: Canvas
    aspect_ratio: AspectRatio
    room: RoomSpec
    portrait: bytes = field(repr=False)
    """The photo as an encoded image file."""
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionCreated:
    """A session was accepted and is on its way to its room."""

    session_id: str
    ws_uri: str
    watch_url: str | None = None
    expires_at: datetime | None = None
    watch_uri: str | None = None
    """The WHEP address; ``watch_url`` is a page that uses it."""


@dataclass(frozen=True)
class SessionSummary:
    """One line in the list of sessions. No token."""

    session_id: str
    platform: str
    aspect_ratio: AspectRatio
    canvas: Canvas
    created_at: datetime
    expires_at: datetime | None
    ready: bool
    ready_at: datetime | None = None
    """When the avatar was in its room."""
    watch_uri: str | None = None
    """The WHEP address of a room that is watched by WHEP."""


@dataclass(frozen=True)
class EndedSession:
    """How a session of this worker ended."""

    number: int
    """Ended sessions count from 1 in each process."""
    session_id: str
    reason: EndReason
    ended_at: datetime
    ready_at: datetime | None
    """None: the avatar never was in its room."""
    seconds: float
    """From the start to the end."""
    speech_seconds: float
    """Speech that was heard."""


@dataclass(frozen=True)
class WorkerStatus:
    """The whole worker at one moment."""

    instance: str
    """Another one after every start of the process."""
    state: WorkerState
    capacity: int
    running: int
    """Slots taken, by sessions and by those about to become one."""
    engine: str | None
    """None: still loading."""
    size: str | None
    """Of a 4:3 picture, such as 1280x960; None: still loading."""
    ws_uri: str
    joining: Sequence[str]
    """Ids of sessions that hold a slot and have not begun."""
    sessions: Sequence[SessionSummary]
    ended: Sequence[EndedSession]


class SessionExists(Exception):
    """A session with this id is running or has run on this worker."""


class SessionCancelled(Exception):
    """The session was ended while its portrait was still being prepared."""


class NoCapacity(Exception):
    """Every slot is taken."""


class Draining(Exception):
    """The worker is shutting down and takes no new session."""


class WarmingUp(Exception):
    """The worker is still loading its engine and takes no session yet."""


class Busy(Exception):
    """Work of this kind is under way; it is done one at a time."""


class WorkerPort(Protocol):
    """The worker as the control plane sees it."""

    metrics: Metrics
    instance: str
    """Random, another one in every process."""

    @property
    def settings(self) -> WorkerSettings:
        """With the scale of the canvases that was chosen, once it is ready."""
        ...

    def state(self) -> WorkerState:
        """Whether a new session can be taken, and why not."""
        ...

    async def create(self, request: SessionRequest) -> SessionCreated:
        """Start a session; returns before the avatar is in its room.

        Raises:
            SessionExists, NoCapacity, Draining, WarmingUp: it cannot be taken.
            SessionCancelled: ``end`` was called before it had begun.
            models.face.port.PortraitError: the photo cannot be used.
            worker.rooms.port.RoomError: the room cannot be used.
        """
        ...

    def get(self, session_id: str) -> SessionSummary | None:
        """The running session with this id."""
        ...

    def sessions(self) -> Sequence[SessionSummary]:
        """All running sessions, oldest first."""
        ...

    async def end(self, session_id: str, reason: EndReason) -> bool:
        """End a session, also one about to begin. False: none with this id is running."""
        ...

    async def prepare(self, portrait: bytes, canvas: Canvas) -> None:
        """Get ready for sessions with this portrait (an encoded image).

        Raises:
            Busy, NoCapacity, Draining, WarmingUp: not now.
            models.face.port.PortraitError: the photo cannot be used.
        """
        ...

    def status(self, ended_after: int = 0) -> WorkerStatus:
        """The worker at this moment; of the ended sessions, those numbered higher."""
        ...

    def whep_room(self, session_id: str) -> whep.WhepRoom | None:
        """The room viewers may join by WHEP; None: no running session with this id has one."""
        ...
