"""The native side of a LiveKit room: the only module that calls the ``livekit`` SDK.

Some of the SDK's calls end the process, read past a buffer or wait for ever when they are used
wrongly. Here every size is checked before, every wait has an end, and what was begun is undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import structlog
from livekit import rtc

from models.engine import FPS, Canvas
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME, RoomError

log = structlog.get_logger(__name__)

LinkEvent = Literal["participants", "reconnecting", "reconnected", "disconnected"]
"""``participants``: somebody came or went. ``reconnected``: with ``resume`` or ``full``.
``disconnected``: for good, with ``removed``, ``deleted`` or ``connection_lost``."""

QUEUE_MS = 40
"""Of the native audio queue, a multiple of 10. It takes twice as much, and a capture returns once
no more than this waits."""

CONNECT_TIMEOUT_S = 20.0
PUBLISH_TIMEOUT_S = 15.0
CAPTURE_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 2.0
LEAVE_TIMEOUT_S = 5.0

ON_BEHALF = "lk.publish_on_behalf"
"""Attribute of an avatar: the identity of the agent it speaks for."""

STREAM = "avatar"
"""Both tracks belong to one stream, so that receivers keep lips and sound together."""

_REMOVED = (
    rtc.DisconnectReason.DUPLICATE_IDENTITY,
    rtc.DisconnectReason.PARTICIPANT_REMOVED,
)
_DELETED = (rtc.DisconnectReason.ROOM_DELETED, rtc.DisconnectReason.ROOM_CLOSED)


@dataclass(frozen=True)
class Person:
    """Another participant."""

    identity: str
    agent: bool
    recorder: bool


class LiveKitLink:
    """One connection to one room. Belongs to the event loop it was made on.

    Args:
        url: of the server, ``ws(s)://`` or ``http(s)://``.
        token: access token of the avatar's own participant.
        canvas: size of the pictures.
        video_bitrate: bit/s.
    """

    def __init__(self, url: str, token: str, canvas: Canvas, video_bitrate: int) -> None:
        if canvas.width % 2 or canvas.height % 2:
            raise ValueError(f"LiveKit needs even sides, not {canvas.width}x{canvas.height}")
        self._url, self._token = url, token
        self._canvas = canvas
        self._bitrate = video_bitrate
        self._room = rtc.Room()
        self._on_event: Callable[[LinkEvent, str], None] = lambda kind, detail: None
        self._video: rtc.VideoSource | None = None
        self._audio: rtc.AudioSource | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._capturing: asyncio.Task[None] | None = None
        self._generation = 0
        self._republished = False
        self._closed = False

    @property
    def room(self) -> rtc.Room:
        """The SDK's room."""
        return self._room

    async def connect(self, on_event: Callable[[LinkEvent, str], None]) -> None:
        """Join. Raises ``RoomError``; its text never holds the token."""
        self._on_event = on_event
        self._listen()
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=CONNECT_TIMEOUT_S / 2)
        self._connecting = asyncio.create_task(
            self._room.connect(self._url, self._token, options), name="livekit connect"
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # Shielded: what is cancelled halfway would be joined with nobody to leave.
                await asyncio.shield(self._connecting)
        except TimeoutError:
            raise RoomError(
                f"the LiveKit server did not let the avatar in within {CONNECT_TIMEOUT_S:.0f} s; "
                "check that room.url can be reached from this machine"
            ) from None
        except rtc.ConnectError as error:
            raise RoomError(
                f"cannot join the LiveKit room: {self._redact(str(error))}; "
                "check room.url and room.token"
            ) from None

    async def publish(self) -> None:
        """Publish both tracks; anyone who joins gets them. Raises ``RoomError``."""
        self._video = rtc.VideoSource(self._canvas.width, self._canvas.height)
        assert QUEUE_MS % 10 == 0
        self._audio = rtc.AudioSource(MEDIA_RATE, 1, QUEUE_MS)
        audio_track = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._audio)
        video_track = rtc.LocalVideoTrack.create_video_track("avatar_video", self._video)
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                me = self._room.local_participant
                await me.publish_track(audio_track, _audio_options())
                await me.publish_track(video_track, _video_options(self._bitrate))
        except TimeoutError:
            raise RoomError("the LiveKit server did not take the avatar's tracks in time") from None
        except rtc.participant.PublishTrackError as error:
            raise RoomError(
                f"the avatar's tracks cannot be published: {self._redact(str(error))}; "
                "check that room.token grants canPublish"
            ) from None

    def capture_video(self, picture: np.ndarray) -> None:
        """Send a picture: I420 uint8, shape ``canvas.i420_shape``."""
        if picture.shape != self._canvas.i420_shape or picture.dtype != np.uint8:
            raise ValueError("the picture has the wrong size")
        if self._video is None or self._closed:
            return
        width, height = self._canvas.width, self._canvas.height
        data = picture.tobytes()
        assert len(data) == width * height * 3 // 2
        frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, data)
        self._video.capture_frame(frame)

    async def capture_audio(self, audio: np.ndarray) -> None:
        """Queue 40 ms of sound, int16 of shape (1920,); returns once no more than ``QUEUE_MS``
        wait in the native queue. Raises ``RoomError``."""
        if audio.shape != (SAMPLES_PER_FRAME,) or audio.dtype != np.int16:
            raise ValueError("the sound has the wrong size")
        if self._audio is None or self._closed:
            raise RoomError("the room is closed; nothing can be published to it any more")
        frame = rtc.AudioFrame(audio.tobytes(), MEDIA_RATE, 1, SAMPLES_PER_FRAME)
        generation = self._generation
        try:
            async with asyncio.timeout(CAPTURE_TIMEOUT_S):
                # The native queue knows one waiting capture only. A cancelled one goes on.
                while self._capturing is not None and not self._capturing.done():
                    await asyncio.wait({self._capturing})
                if generation != self._generation or self._closed:
                    return
                self._capturing = asyncio.create_task(
                    self._capture(self._audio, frame, generation), name="livekit audio"
                )
                await asyncio.shield(self._capturing)
        except TimeoutError:
            raise RoomError("LiveKit's audio queue has stopped playing") from None

    async def _capture(
        self, source: rtc.AudioSource, frame: rtc.AudioFrame, generation: int
    ) -> None:
        if generation == self._generation and not self._closed:
            await source.capture_frame(frame)

    def clear(self) -> None:
        """Throw away all sound that waits, also what is just being handed over."""
        self._generation += 1
        if self._audio is not None and not self._closed:
            self._audio.clear_queue()

    async def send_data(self, topic: str, message: Mapping[str, Any]) -> None:
        """Send JSON to everybody, reliably; a failure is logged only."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._room.local_participant.publish_data(
                    json.dumps(message), reliable=True, topic=topic
                )
        except Exception as error:
            log.warning("data_packet_not_sent", topic=topic, error=self._redact(str(error)))

    def participants(self) -> list[Person]:
        """Everybody else in the room."""
        return [
            Person(
                one.identity,
                # An avatar is of that kind too, but speaks for somebody else.
                one.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
                and not one.attributes.get(ON_BEHALF),
                one.kind == rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS,
            )
            for one in self._room.remote_participants.values()
        ]

    @property
    def speaks_for(self) -> str | None:
        """Identity of the agent the avatar's token names, if it does."""
        return self._room.local_participant.attributes.get(ON_BEHALF) or None

    async def aclose(self) -> None:
        """Leave and release everything native."""
        if self._closed:
            return
        self._closed = True
        self._generation += 1
        if self._connecting is not None:
            done, _ = await asyncio.wait({self._connecting}, timeout=LEAVE_TIMEOUT_S)
            if not done:
                # The SDK cannot be called off. It is left to itself, and leaves if it gets in.
                _leave_later(self._room, self._connecting)
                return
            await _settled(self._connecting, LEAVE_TIMEOUT_S)
        leaving = asyncio.create_task(self._room.disconnect(), name="livekit leave")
        if not await _settled(leaving, LEAVE_TIMEOUT_S):
            log.warning("leaving_took_too_long")
        # The SDK leaves its own reader running when the server was the first to hang up.
        reader = getattr(self._room, "_task", None)
        if reader is not None:
            await _settled(reader, 1.0)
        if self._audio is not None:
            self._audio.clear_queue()
        if self._capturing is not None:
            await _settled(self._capturing, 1.0)
        for source in (self._audio, self._video):
            if source is not None:
                await source.aclose()
        # The SDK's room and its listeners refer to each other; without this nothing is freed
        # before the garbage collector comes by.
        self._room = rtc.Room()
        self._audio = self._video = None

    def _listen(self) -> None:
        room = self._room
        room.on("participant_connected", lambda who: self._on_event("participants", ""))
        room.on("participant_disconnected", lambda who: self._on_event("participants", ""))
        room.on("reconnecting", self._note_reconnecting)
        room.on("local_track_republished", self._note_republished)
        room.on("reconnected", self._note_reconnected)
        room.on("disconnected", self._note_disconnected)

    def _note_reconnecting(self) -> None:
        self._republished = False
        self._on_event("reconnecting", "")

    def _note_republished(self, publication: object, previous_sid: str) -> None:
        self._republished = True

    def _note_reconnected(self) -> None:
        self._on_event("reconnected", "full" if self._republished else "resume")
        self._on_event("participants", "")

    def _note_disconnected(self, reason: int) -> None:
        if self._closed:
            return
        detail = "connection_lost"
        if reason in _REMOVED:
            detail = "removed"
        elif reason in _DELETED:
            detail = "deleted"
        self._on_event("disconnected", detail)

    def _redact(self, text: str) -> str:
        text = text.replace(self._token, "***") if self._token else text
        return re.sub(r"(?i)(access_token|join_request|token)=[^&\s\"']+", r"\1=***", text)


def _audio_options() -> rtc.TrackPublishOptions:
    return rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False, red=False, stream=STREAM
    )


def _video_options(bitrate: int) -> rtc.TrackPublishOptions:
    options: Any = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA,
        video_codec=rtc.VideoCodec.VP8,
        video_encoding=rtc.VideoEncoding(max_bitrate=bitrate, max_framerate=FPS),
        simulcast=False,
        stream=STREAM,
    )
    known = options.DESCRIPTOR.fields_by_name
    if "degradation_preference" in known:
        options.degradation_preference = rtc.DegradationPreference.MAINTAIN_RESOLUTION
    if "video_encoder" in known:
        options.video_encoder = rtc.VideoEncoderBackend.ENCODER_BACKEND_SOFTWARE
    return options


_late: set[asyncio.Task[None]] = set()


def _leave_later(room: rtc.Room, connecting: asyncio.Task[None]) -> None:
    async def leave() -> None:
        try:
            await connecting
            await room.disconnect()
        except Exception as error:
            log.info("late_join_failed", error=type(error).__name__)

    task = asyncio.create_task(leave(), name="livekit late leave")
    _late.add(task)
    task.add_done_callback(_late.discard)


async def _settled(task: asyncio.Future[Any], timeout_s: float) -> bool:
    """Wait for a task whatever becomes of it; cancel it when it takes too long."""
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        return False
    if not task.cancelled():
        task.exception()  # fetched, so that nobody complains that it was not
    return True
