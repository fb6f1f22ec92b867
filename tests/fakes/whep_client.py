"""A WHEP viewer in process: a real peer connection without the HTTP around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)

Exchange = Callable[[str], Awaitable[str]]
"""SDP offer → SDP answer."""


class WhepClient:
    """Offers to receive ``kinds``, in ``video_codec`` only if given."""

    def __init__(
        self, kinds: Sequence[str] = ("video", "audio"), video_codec: str | None = None
    ) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.tracks: dict[str, MediaStreamTrack] = {}
        for kind in kinds:
            transceiver = self.peer.addTransceiver(kind, direction="recvonly")
            if kind == "video" and video_codec is not None:
                transceiver.setCodecPreferences(
                    [
                        codec
                        for codec in RTCRtpReceiver.getCapabilities("video").codecs
                        if codec.mimeType == f"video/{video_codec}"
                    ]
                )
        self.peer.on("track", lambda track: self.tracks.__setitem__(track.kind, track))

    async def offer(self) -> str:
        """The SDP offer, candidates included."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return str(self.peer.localDescription.sdp)

    async def join(self, exchange: Exchange) -> None:
        """Negotiate; media arrive in ``tracks`` a little later."""
        answer = await exchange(await self.offer())
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def picture(self) -> av.VideoFrame:
        """The next picture."""
        frame = await self.tracks["video"].recv()
        assert isinstance(frame, av.VideoFrame)
        return frame

    async def sound(self) -> av.AudioFrame:
        """The next 20 ms."""
        frame = await self.tracks["audio"].recv()
        assert isinstance(frame, av.AudioFrame)
        return frame

    async def __aenter__(self) -> WhepClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.peer.close()


@contextlib.asynccontextmanager
async def watching(exchange: Exchange, **options: object) -> AsyncIterator[WhepClient]:
    """A client that has joined, for the length of a ``with`` block."""
    async with WhepClient(**options) as client:  # type: ignore[arg-type]
        await client.join(exchange)
        yield client
