"""A room on this machine: viewers watch by WHEP, with a browser, OBS or GStreamer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import structlog

from models.engine import Canvas
from worker.clock import Clock, SystemClock
from worker.rooms.frame import Frame, FrameGate
from worker.rooms.pacing import Block, Pacer
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError, RoomEvent
from worker.rooms.whep.encoder import EncodedBlock, LiveEncoder, VideoCodec
from worker.rooms.whep.offer import parse_offer
from worker.rooms.whep.viewer import Viewer

log = structlog.get_logger(__name__)

OPUS_INTERVAL_S = 0.02
"""Between the two Opus packets of a block."""


class RoomFull(RoomError):
    """As many viewers as the room takes are in it."""


class WhepRoom:
    """Shows a session to any number of viewers up to ``max_viewers``.

    Each block is compressed once, for all viewers, on a thread of the room's own; nothing is
    compressed when nobody does. A viewer joins with a key frame at the newest picture. One who
    does not keep up loses pictures, and holds up neither the session nor the others.

    Args:
        session_id: names the room in logs; anyone who knows it may watch.
        canvas: size of the pictures.
        clock: where time comes from.
        max_viewers: more are refused.
        video_bitrate: bit/s; by default 1.2 Mbit/s up to 640 pixels square, 2.5 Mbit/s above.
        stun_server: ``stun:host:port``, needed when the machine's public address is not its own.
    """

    realtime = True
    multi_party = False
    starts_on_speech = False

    def __init__(
        self,
        session_id: str,
        canvas: Canvas,
        clock: Clock | None = None,
        *,
        max_viewers: int = 8,
        video_bitrate: int | None = None,
        stun_server: str | None = None,
    ) -> None:
        self.session_id = session_id
        self._max_viewers = max_viewers
        self._stun_server = stun_server
        self._gate = FrameGate(canvas)
        self._clock = clock or SystemClock()
        self._pacer: Pacer[Frame] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._encoder = LiveEncoder(canvas, video_bitrate)
        self._keyframes: set[VideoCodec] = set()
        self._viewers: dict[str, Viewer] = {}
        self._watched = False
        self._departures: set[asyncio.Task[None]] = set()
        self._second_half: tuple[asyncio.TimerHandle, EncodedBlock] | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """Viewers connected at present."""
        return sum(viewer.connected and not viewer.gone for viewer in self._viewers.values())

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Open the room. ``on_event("participant_left", …)`` when the last viewer has gone."""
        if self._pacer is not None or self._leaving is not None:
            raise RoomError("a WHEP room opens once; make a new one for the next session")
        self._on_event = on_event
        self._pacer = Pacer(self._clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="whep-encode")
        self._pump = asyncio.create_task(self._run_pump(self._pacer, self._thread))

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """See ``worker.rooms.port.Room.publish``. Arrays must not change afterwards.

        Raises:
            ValueError: wrong shape or type.
            RoomError: not connected, or closed.
        """
        frame = self._gate.take(picture, audio, speaking)
        if self._pacer is None:
            raise RoomError("the room is not connected; call connect() first")
        await self._pacer.push(frame, SAMPLES_PER_FRAME)

    def clear(self) -> int:
        """See ``worker.rooms.port.Room.clear``. The block being heard ends as it is."""
        return self._pacer.clear() if self._pacer is not None else 0

    @property
    def played(self) -> int:
        """See ``worker.rooms.port.Room.played``."""
        return self._pacer.played if self._pacer is not None else 0

    async def join(self, sdp: str) -> tuple[str, str]:
        """Let a viewer in; returns its id, which only it may know, and the SDP answer.

        Raises:
            BadOffer: ``sdp`` is no SDP offer.
            UnusableOffer: it asks for something the room does not send.
            RoomFull: no viewer more.
            RoomError: the room is not open.
        """
        if self._pacer is None or self._leaving is not None:
            raise RoomError("this session is not open for viewers; it has ended or not begun")
        offer = parse_offer(sdp)
        if len(self._viewers) >= self._max_viewers:
            raise RoomFull(
                f"this session has {self._max_viewers} viewers, the most it takes; try again later"
            )
        viewer = Viewer(
            offer,
            on_change=self._note_change,
            on_keyframe=self._keyframes.add,
            stun_server=self._stun_server,
        )
        self._viewers[viewer.id] = viewer
        try:
            answer = await viewer.answer(offer)
        except BaseException:
            self._part(viewer)
            raise
        if viewer.gone:
            raise RoomError("this session has ended")
        return viewer.id, answer

    async def leave(self, viewer_id: str) -> bool:
        """A viewer goes. False when there is none of that id."""
        viewer = self._viewers.get(viewer_id)
        if viewer is None:
            return False
        self._part(viewer)
        return True

    async def aclose(self, reason: str = "") -> None:
        """Send every viewer away and release everything. Safe to call twice."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        if self._pacer is not None:
            self._pacer.close()
        if self._pump is not None:
            await asyncio.wait({self._pump})
        if self._second_half is not None:
            self._second_half[0].cancel()
            self._second_half = None
        for viewer in list(self._viewers.values()):
            self._part(viewer)
        while self._departures:
            await asyncio.wait(self._departures)
        if self._thread is not None:
            self._thread.shutdown()

    async def _run_pump(self, pacer: Pacer[Frame], thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                block = await pacer.pop()
            except RoomError:
                return
            if not self._viewers:
                continue
            try:
                encoded = await loop.run_in_executor(thread, *self._encoding(block))
            except Exception as error:
                log.exception("whep_encoding_failed", session_id=self.session_id)
                pacer.close()
                self._on_event("closed", f"encoding failed: {error}")
                return
            self._send(encoded)

    def _encoding(self, block: Block[Frame]) -> tuple[Any, ...]:
        """The call that compresses a block for those who watch now."""
        # Behind time the picture is dropped, the sound never.
        late = self._clock.now_ns() >= block.end_ns
        codecs = {viewer.codec for viewer in self._viewers.values() if viewer.codec}
        keyframes = set() if late else codecs & self._keyframes
        self._keyframes -= keyframes
        picture = None if late else block.item.picture
        audio, media_time = block.item.audio, block.media_time
        return self._encoder.encode, picture, audio, media_time, codecs, keyframes

    def _send(self, block: EncodedBlock) -> None:
        self._send_second_half()
        for viewer in list(self._viewers.values()):
            viewer.put(block, 0)
        loop = asyncio.get_running_loop()
        self._second_half = (loop.call_later(OPUS_INTERVAL_S, self._send_second_half), block)

    def _send_second_half(self) -> None:
        if self._second_half is None:
            return
        timer, block = self._second_half
        timer.cancel()
        self._second_half = None
        for viewer in list(self._viewers.values()):
            viewer.put(block, 1)

    def _note_change(self, viewer: Viewer) -> None:
        if viewer.gone:
            self._part(viewer)
        else:
            self._watched = True
            log.info("viewer_joined", session_id=self.session_id, viewers=self.viewers)

    def _part(self, viewer: Viewer) -> None:
        """Forget a viewer now and hang up in the background."""
        if self._viewers.pop(viewer.id, None) is None:
            return
        viewer.gone = True
        departure = asyncio.create_task(viewer.aclose())
        self._departures.add(departure)
        departure.add_done_callback(self._departures.discard)
        log.info("viewer_left", session_id=self.session_id, viewers=self.viewers)
        if self._watched and not self.viewers:
            self._watched = False
            if self._leaving is None:
                self._on_event("participant_left", "the last viewer has left")
