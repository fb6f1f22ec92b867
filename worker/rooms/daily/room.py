"""A room on Daily: the avatar joins a call as one more participant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import structlog

from models.engine import Canvas
from worker.clock import Clock, SystemClock
from worker.rooms.daily.call import DailyCall
from worker.rooms.daily.events import (
    AppMessage,
    CallEvent,
    CallLost,
    ParticipantJoined,
    ParticipantLeft,
)
from worker.rooms.daily.sdk import load_sdk
from worker.rooms.frame import Frame, FrameGate
from worker.rooms.port import RoomError, RoomEvent

log = structlog.get_logger(__name__)


class DailyRoom:
    """Publishes a camera (I420, VP8) and a microphone (48 kHz mono); subscribes to nothing.

    Needs ``daily-python`` (the extra ``daily``). ``Daily.init`` is called by the first room of the
    process; see ``worker.rooms.daily.sdk``.

    Args:
        url: the room's address, ``https://your-domain.daily.co/room-name``; a token in its query
            (``?t=``) is taken from there.
        token: a meeting token; None where the room lets everybody in. Never logged.
        canvas: size of the pictures.
        user_name: what the others see.
        clock: where time-outs come from.
        session_id: for the log.
        join_timeout_s: the SDK would try for some 20 s; then the room gives up by itself.
        leave_timeout_s: how long Daily may take to say goodbye.
        sdk: the module ``daily``, or one that behaves like it; by default it is imported when the
            room connects.
    """

    realtime = True
    multi_party = True
    starts_on_speech = False

    def __init__(
        self,
        url: str,
        token: str | None,
        canvas: Canvas,
        user_name: str = "AI Avatar",
        clock: Clock | None = None,
        *,
        session_id: str = "",
        join_timeout_s: float = 15.0,
        leave_timeout_s: float = 5.0,
        sdk: Any = None,
    ) -> None:
        self.session_id = session_id
        self._url = url
        self._token = token
        self._canvas = canvas
        self._user_name = user_name
        self._clock = clock or SystemClock()
        self._join_timeout_s = join_timeout_s
        self._leave_timeout_s = leave_timeout_s
        self._sdk = sdk
        self._gate = FrameGate(canvas)
        self._publishing = asyncio.Lock()
        self._call: DailyCall | None = None
        self._connected = False
        self._end: str | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """See ``worker.rooms.port.Room.viewers``."""
        return len(self._call.participants()) if self._call is not None else 0

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Join the call. ``on_event("participant_joined", …)`` when somebody comes,
        ``("participant_left", …)`` when the last of them has gone, ``("closed", …)`` when the
        call was lost.

        Raises:
            RoomError: no such room, a token that does not open it, Daily out of reach, or
                ``daily-python`` not installed; everything has been released then.
        """
        if self._call is not None or self._leaving is not None:
            raise RoomError("a Daily room is joined once; make a new one for the next session")
        self._on_event = on_event
        self._call = DailyCall(
            self._canvas,
            self._clock,
            self._note,
            sdk=self._sdk if self._sdk is not None else load_sdk(),
            leave_timeout_s=self._leave_timeout_s,
        )
        try:
            await self._call.open(self._url, self._token, self._user_name, self._join_timeout_s)
        except RoomError as error:
            self._end = str(error)
            await self._call.close()
            raise
        self._connected = True
        log.info("daily_joined", session_id=self.session_id, others=self.viewers)

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """See ``worker.rooms.port.Room.publish``. Arrays must not change afterwards.

        Raises:
            ValueError: wrong shape or type.
            RoomError: not connected, closed, or the call was lost.
        """
        frame = self._gate.take(picture, audio, speaking)
        call = self._open_call()
        async with self._publishing:
            # Before, too: a publish that was cancelled while it waited has left its sound inside.
            await call.space()
            await call.push_audio(frame.audio.tobytes(), lambda: self._show(frame))

    def clear(self) -> int:
        """See ``worker.rooms.port.Room.clear``. The up to 40 ms that Daily has stay with it."""
        return self._call.clear() if self._call is not None else 0

    @property
    def played(self) -> int:
        """See ``worker.rooms.port.Room.played``."""
        return self._call.played if self._call is not None else 0

    async def send_message(self, message: Any, to: str | None = None) -> None:
        """Send an app message to everybody or to one participant; see ``DailyCall``."""
        await self._open_call().send_message(message, to)

    def stats(self) -> Mapping[str, Any]:
        """What the SDK measures of the network."""
        return self._call.stats() if self._call is not None else {}

    async def aclose(self, reason: str = "") -> None:
        """Leave the call and release everything. Safe to call twice, and after a failed join.

        ``reason``: why the session ended, for the log.
        """
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(reason))
        await asyncio.shield(self._leaving)

    async def _leave(self, reason: str) -> None:
        if self._end is None:
            self._end = "the room is closed; nothing can be published to it any more"
        if self._call is not None:
            await self._call.close()
            log.info("daily_left", session_id=self.session_id, reason=reason)

    def _open_call(self) -> DailyCall:
        if self._end is not None:
            raise RoomError(self._end)
        if self._call is None or not self._connected:
            raise RoomError("the room is not connected; call connect() first")
        return self._call

    def _show(self, frame: Frame) -> None:
        """The frame's sound begins to be heard, and its picture with it."""
        if self._call is not None and self._end is None:
            self._call.push_video(frame.picture.tobytes())

    def _note(self, event: CallEvent) -> None:
        match event:
            case ParticipantJoined():
                log.info("participant_joined", session_id=self.session_id, others=self.viewers)
                if self._end is None:
                    self._on_event("participant_joined", "somebody has come into the call")
            case ParticipantLeft():
                log.info("participant_left", session_id=self.session_id, others=self.viewers)
                if not self.viewers and self._end is None:
                    self._on_event("participant_left", "everybody else has left the call")
            case AppMessage():
                log.debug("daily_message_ignored", session_id=self.session_id)
            case CallLost():
                self._lose(event)

    def _lose(self, lost: CallLost) -> None:
        if self._end is not None:
            return
        self._end = lost.reason
        if self._call is not None:
            self._call.stop_audio(lost.reason)
        log.warning("daily_call_lost", session_id=self.session_id, reason=lost.reason)
        self._on_event("closed", lost.reason if lost.kind == "ended" else lost.kind)
