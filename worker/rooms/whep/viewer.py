"""One viewer of a WHEP room: a peer connection that is fed packets encoded for everybody."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable

import av
import structlog
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from worker.rooms.whep.encoder import EncodedBlock, EncodedPicture, VideoCodec
from worker.rooms.whep.offer import Offer, UnusableOffer

log = structlog.get_logger(__name__)

VIDEO_QUEUE = 5
"""Pictures that may wait for a viewer's sender (200 ms); with more, they are all dropped."""

AUDIO_QUEUE = 20
"""Opus packets that may wait for a viewer's sender (400 ms); with more, the oldest goes."""

KEYFRAME_INTERVAL_S = 0.5
"""A viewer that reports losses gets key frames no more often than this."""

JOIN_TIMEOUT_S = 20.0
"""A viewer that has not connected by then has given up."""

CLOSE_TIMEOUT_S = 5.0


class _Outlet(MediaStreamTrack):
    """A track whose packets come from outside and never wait for the reader."""

    def __init__(self, on_start: Callable[[], None]) -> None:
        super().__init__()
        self.started = False
        self._on_start = on_start
        self._packets: deque[av.Packet] = deque()
        self._filled = asyncio.Event()

    async def recv(self) -> av.Packet:
        """The next packet. Raises ``MediaStreamError`` after ``stop``."""
        if not self.started:
            self.started = True
            self._on_start()
        while not self._packets:
            if self.readyState != "live":
                raise MediaStreamError
            self._filled.clear()
            await self._filled.wait()
        return self._packets.popleft()

    def stop(self) -> None:
        super().stop()
        self._packets.clear()
        self._filled.set()


class AudioStreamTrack(_Outlet):
    """Opus packets of the room; the oldest are dropped for a viewer who does not keep up."""

    kind = "audio"

    def put(self, packet: av.Packet) -> None:
        """Queue one packet."""
        if len(self._packets) >= AUDIO_QUEUE:
            self._packets.popleft()
        self._packets.append(packet)
        self._filled.set()


class VideoStreamTrack(_Outlet):
    """Compressed pictures of the room. After a drop it waits for a key frame, since what lies
    between cannot be decoded."""

    kind = "video"

    def __init__(self, on_start: Callable[[], None], on_drop: Callable[[], None]) -> None:
        super().__init__(on_start)
        self._on_drop = on_drop
        self._needs_keyframe = True

    def put(self, picture: EncodedPicture) -> None:
        """Queue one picture, or drop it."""
        if len(self._packets) >= VIDEO_QUEUE:
            self._packets.clear()
            self._needs_keyframe = True
        if self._needs_keyframe and not picture.keyframe:
            self._on_drop()
            return
        self._needs_keyframe = False
        self._packets.append(picture.packet)
        self._filled.set()


class Viewer:
    """A peer connection that only sends. Belongs to the event loop it was made on.

    Args:
        offer: what the viewer asked for.
        on_change: called when it connected or is gone (see ``connected`` and ``gone``).
        on_keyframe: called when its codec's next picture should be a key frame.
        stun_server: URL of a STUN server that tells our public address, or None.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        on_change: Callable[[Viewer], None],
        on_keyframe: Callable[[VideoCodec], None],
        stun_server: str | None = None,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.connected = False
        self.gone = False
        self.codec = offer.video
        self._on_change = on_change
        self._on_keyframe = on_keyframe
        self._flowing = False
        self._keyframe_asked = -KEYFRAME_INTERVAL_S
        self._loop = asyncio.get_running_loop()
        # Without an explicit (empty) list the library asks a public STUN server.
        servers = [RTCIceServer(urls=stun_server)] if stun_server else []
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._peer.on("connectionstatechange", self._note_state)
        self._deadline = self._loop.call_later(JOIN_TIMEOUT_S, self._note_timeout)
        self._video = VideoStreamTrack(self._start, self._ask_again) if offer.video else None
        self._audio = AudioStreamTrack(self._start) if offer.audio else None
        if self._video is not None:
            transceiver = self._peer.addTransceiver(self._video, direction="sendonly")
            transceiver.setCodecPreferences(
                [
                    codec
                    for codec in RTCRtpSender.getCapabilities("video").codecs
                    if codec.mimeType in (f"video/{offer.video}", "video/rtx")
                ]
            )
            # The library would force its own encoder's next picture, but that one stands idle:
            # pictures come compressed. Its hook for lost pictures is this method.
            transceiver.sender._send_keyframe = self._ask_again  # type: ignore[method-assign]
        if self._audio is not None:
            self._peer.addTransceiver(self._audio, direction="sendonly")

    async def answer(self, offer: Offer) -> str:
        """Negotiate; returns the SDP answer with all our candidates.

        Raises:
            UnusableOffer: nothing in the offer can be sent to.
        """
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as error:
            # The library's parser answers a strange offer with whatever exception comes up.
            log.info("whep_offer_refused", error=f"{type(error).__name__}: {error}")
            raise UnusableOffer(
                "the SDP offer cannot be answered; offer VP8 or H.264 video and Opus audio"
            ) from error
        sending = any(
            transceiver.currentDirection in ("sendonly", "sendrecv")
            for transceiver in self._peer.getTransceivers()
        )
        if not sending:
            raise UnusableOffer("the SDP offer does not ask to receive video or audio")
        return str(self._peer.localDescription.sdp)

    def put(self, block: EncodedBlock, piece: int) -> None:
        """Send Opus packet ``piece`` of a block, and with the first one its picture.

        Both tracks begin with the same block, one with a key frame, so that their time stamps
        have a common beginning.
        """
        picture = block.pictures.get(self.codec) if self.codec is not None else None
        if not self._flowing:
            if piece > 0 or not self._started:
                return
            if self._video is not None and (picture is None or not picture.keyframe):
                self._ask_again()
                return
            self._flowing = True
        if piece == 0 and picture is not None and self._video is not None:
            self._video.put(picture)
        if self._audio is not None and piece < len(block.audio):
            self._audio.put(block.audio[piece])

    async def aclose(self) -> None:
        """Disconnect. Safe to call twice."""
        self.gone = True
        self._deadline.cancel()
        for track in (self._video, self._audio):
            if track is not None:
                track.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._peer.close(), CLOSE_TIMEOUT_S)

    @property
    def _started(self) -> bool:
        return all(track.started for track in (self._video, self._audio) if track is not None)

    def _start(self) -> None:
        if self._started and self.codec is not None:
            self._on_keyframe(self.codec)

    def _ask_again(self) -> None:
        now = self._loop.time()
        if self.codec is not None and now - self._keyframe_asked >= KEYFRAME_INTERVAL_S:
            self._keyframe_asked = now
            self._on_keyframe(self.codec)

    def _note_state(self) -> None:
        state = self._peer.connectionState
        if state == "connected" and not self.connected:
            self.connected = True
            self._deadline.cancel()
            self._on_change(self)
        elif state in ("failed", "closed") and not self.gone:
            self.gone = True
            self._on_change(self)

    def _note_timeout(self) -> None:
        if not self.gone:
            self.gone = True
            self._on_change(self)
