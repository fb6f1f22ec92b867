"""A LiveKit room: the avatar joins it as a participant with a camera and a microphone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog

from models.engine import Canvas
from worker.clock import NS_PER_SECOND, Clock, SystemClock
from worker.rooms.frame import Frame, FrameGate
from worker.rooms.livekit.link import LinkEvent, LiveKitLink, Person
from worker.rooms.pacing import Pacer
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError, RoomEvent
from worker.rooms.whep.encoder import default_bitrate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from livekit import rtc

log = structlog.get_logger(__name__)

PIECE = 480
"""Samples (10 ms) that leave the native audio queue at a time; ``clear`` keeps no more."""

RECONNECT_LIMIT_S = 20.0
"""A connection that has not come back by then counts as lost."""

STATE_TOPIC = "session.state"


class Link(Protocol):
    """What the room needs of the SDK; see ``LiveKitLink``."""

    async def connect(self, on_event: Callable[[LinkEvent, str], None]) -> None: ...  # noqa: D102
    async def publish(self) -> None: ...  # noqa: D102
    def capture_video(self, picture: np.ndarray) -> None: ...  # noqa: D102
    async def capture_audio(self, audio: np.ndarray) -> None: ...  # noqa: D102
    def clear(self) -> None: ...  # noqa: D102
    async def send_data(self, topic: str, message: Mapping[str, Any]) -> None: ...  # noqa: D102
    def participants(self) -> list[Person]: ...  # noqa: D102
    @property
    def speaks_for(self) -> str | None: ...  # noqa: D102
    async def aclose(self) -> None: ...  # noqa: D102


class LiveKitRoom:
    """Shows a session in a LiveKit room.

    The sound is the clock. A frame's sound goes into the native queue when it is published, its
    picture is sent when that sound leaves the queue.

    Args:
        url: of the LiveKit server.
        token: access token of the avatar's participant; it names the room.
        canvas: size of the pictures, even sides.
        clock: where time comes from; the native queue runs in real time whatever it says.
        video_bitrate: bit/s; by default 1.2 Mbit/s up to 640 pixels square, 2.5 Mbit/s above.
        reconnect_limit_s: how long the connection may be away.
        link: replaces the SDK.
    """

    realtime = True
    starts_on_speech = False
    multi_party = True

    def __init__(
        self,
        url: str,
        token: str,
        canvas: Canvas,
        *,
        clock: Clock | None = None,
        video_bitrate: int | None = None,
        reconnect_limit_s: float = RECONNECT_LIMIT_S,
        link: Link | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._link: Link = link or LiveKitLink(
            url, token, canvas, video_bitrate or default_bitrate(canvas)
        )
        self._reconnect_limit_ns = int(reconnect_limit_s * NS_PER_SECOND)
        self.before_publish: list[Callable[[rtc.Room], Awaitable[None] | None]] = []
        """Called with the SDK's room after joining, before anything is published: the place to
        register data stream handlers and remote procedures."""
        self.on_leaving: list[Callable[[], Awaitable[None]]] = []
        """Awaited before the room is left, while messages can still be sent (unless the connection
        was lost): the place to say goodbye and to release what ``before_publish`` made."""
        self._gate = FrameGate(canvas)
        self._pacer: Pacer[Frame | None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._participants: dict[str, Person] = {}
        self._agent: str | None = None
        self._present = False
        self._away = False
        self._lost: str | None = None
        self._connecting = False
        self._told = False
        self._played_at_close: int | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def sdk_room(self) -> rtc.Room:
        """The SDK's room. Raises ``RoomError`` when the SDK was replaced."""
        if not isinstance(self._link, LiveKitLink):
            raise RoomError("there is no SDK behind this room")
        return self._link.room

    @property
    def viewers(self) -> int:
        """Everybody else in the room, agents included, recorders not."""
        return sum(not person.recorder for person in self._participants.values())

    @property
    def agent(self) -> str | None:
        """Identity of the agent the avatar speaks for: the one that its token names in
        ``lk.publish_on_behalf``, else the first participant of that kind."""
        return self._agent

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Join and publish. See ``worker.rooms.port.Room.connect``."""
        if self._connecting or self._leaving is not None:
            raise RoomError("a LiveKit room is joined once; make a new one to join again")
        self._connecting = True
        self._on_event = on_event
        await self._link.connect(self._note)
        self._agent = self._link.speaks_for
        self._compare_participants()
        if isinstance(self._link, LiveKitLink):
            for prepare in self.before_publish:
                waiting = prepare(self._link.room)
                if waiting is not None:
                    await waiting
        await self._link.publish()
        self._check_kept()
        self._pacer = Pacer(self._clock)
        self._pump = asyncio.create_task(self._run_pump(self._pacer), name="livekit video")
        await self._link.send_data(STATE_TOPIC, {"state": "connected"})
        self._told = True

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """See ``worker.rooms.port.Room.publish``. Arrays must not change afterwards.

        Raises:
            ValueError: wrong shape or type.
            RoomError: not connected, closed or lost.
        """
        frame = self._gate.take(picture, audio, speaking)
        pacer = self._check_open()
        # The picture is due with its first piece of sound.
        pieces = [frame, *[None] * (SAMPLES_PER_FRAME // PIECE - 1)]
        await pacer.push_all(pieces, PIECE, lambda: self._link.capture_audio(frame.audio))
        self._check_open()

    def clear(self) -> int:
        """See ``worker.rooms.port.Room.clear``; up to 10 ms of sound are on their way already."""
        if self._pacer is None or self._leaving is not None:
            return 0
        self._link.clear()
        return self._pacer.clear()

    @property
    def played(self) -> int:
        """See ``worker.rooms.port.Room.played``."""
        if self._played_at_close is not None:
            return self._played_at_close
        return self._pacer.played if self._pacer is not None else 0

    async def aclose(self, reason: str = "") -> None:
        """Say goodbye with the reason, leave, release everything."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(reason), name="livekit leave")
        await asyncio.shield(self._leaving)

    async def _leave(self, reason: str) -> None:
        self._played_at_close = self._pacer.played if self._pacer is not None else 0
        if self._pacer is not None:
            self._link.clear()
            self._pacer.close()
        tasks = [task for task in (self._pump, self._watchdog) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for farewell in self.on_leaving:
            try:
                async with asyncio.timeout(2):
                    await farewell()
            except Exception:
                log.exception("a farewell failed")
        if self._lost is None and self._told:
            state = {"state": "disconnected", **({"reason": reason} if reason else {})}
            await self._link.send_data(STATE_TOPIC, state)
        await self._link.aclose()

    async def _run_pump(self, pacer: Pacer[Frame | None]) -> None:
        """Send each picture when its sound begins to be heard; the newest, if several are due."""
        try:
            while True:
                newest = (await pacer.pop()).item
                while (block := pacer.pop_due()) is not None:
                    newest = block.item or newest
                if newest is not None:
                    self._link.capture_video(newest.picture)
        except RoomError:
            return
        except Exception:
            log.exception("pictures cannot be sent")
            self._close("pictures cannot be sent")

    # What happens in the room

    def _note(self, kind: LinkEvent, detail: str) -> None:
        if self._leaving is not None:
            return
        if kind == "participants":
            # Joining again empties the SDK's list for a moment.
            if not self._away:
                self._compare_participants()
        elif kind == "reconnecting":
            self._away = True
            log.warning("livekit_reconnecting")
            self._stop_watchdog()
            self._watchdog = asyncio.create_task(self._await_reconnect(), name="livekit watchdog")
        elif kind == "reconnected":
            log.info("livekit_reconnected", kind=detail)
            self._away = False
            self._stop_watchdog()
            self._on_event("reconnected", detail)
        else:
            self._stop_watchdog()
            self._close(detail)

    async def _await_reconnect(self) -> None:
        await self._clock.sleep_until(self._clock.now_ns() + self._reconnect_limit_ns)
        self._close("connection_lost")

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _close(self, reason: str) -> None:
        if self._lost is not None or self._leaving is not None:
            return
        self._lost = _SENTENCES.get(reason, reason)
        if self._pacer is not None:
            # Reported first: the publisher would otherwise hear only that it is over.
            self._on_event("closed", reason)
            self._pacer.close()

    def _compare_participants(self) -> None:
        before, had_agent = self.viewers, self._present
        self._participants = {person.identity: person for person in self._link.participants()}
        if self._agent is None:
            self._agent = next(
                (one.identity for one in self._participants.values() if one.agent), None
            )
        self._present = self._agent is not None and self._agent in self._participants
        if self.viewers > before:
            self._on_event("participant_joined", "somebody has joined")
        elif before and not self.viewers:
            self._on_event("participant_left", "everybody else has left")
        if self._present and not had_agent:
            self._on_event("agent_joined", "the agent has joined")
        elif had_agent and not self._present:
            self._on_event("agent_left", "the agent has left")

    def _check_open(self) -> Pacer[Frame | None]:
        self._check_kept()
        if self._pacer is None:
            raise RoomError("the room is not connected; call connect() first")
        return self._pacer

    def _check_kept(self) -> None:
        if self._lost is not None:
            raise RoomError(self._lost)
        if self._leaving is not None:
            raise RoomError("the room is closed; nothing can be published to it any more")


_SENTENCES = {
    "removed": "the avatar was removed from the LiveKit room",
    "deleted": "the LiveKit room was deleted",
    "connection_lost": "the connection to the LiveKit server was lost",
}
