"""Somebody who watches a LiveKit room with the real client library."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
from livekit import rtc


class LiveKitViewer:
    """``async with LiveKitViewer(url, token) as viewer``."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.room = rtc.Room()
        self.pictures: list[tuple[float, rtc.VideoFrame]] = []
        """With the time each came, by ``time.monotonic``."""
        self.sounds: list[tuple[float, np.ndarray]] = []
        self.tracks: dict[str, rtc.RemoteTrackPublication] = {}
        self.states: list[dict[str, Any]] = []
        """Of the topic ``session.state``."""
        self._tasks: list[asyncio.Task[None]] = []
        self.room.on("track_subscribed", self._note_track)
        self.room.on("data_received", self._note_data)

    async def __aenter__(self) -> LiveKitViewer:
        await asyncio.wait_for(self.room.connect(self._url, self._token), 10)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.room.disconnect(), 5)

    def _note_track(
        self,
        track: rtc.RemoteTrack,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        self.tracks[publication.name] = publication
        video = track.kind == rtc.TrackKind.KIND_VIDEO
        read = self._watch(track) if video else self._listen(track)
        self._tasks.append(asyncio.create_task(read))

    def _note_data(self, packet: rtc.DataPacket) -> None:
        if packet.topic == "session.state":
            self.states.append(json.loads(packet.data))

    async def _watch(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track)
        try:
            async for event in stream:
                self.pictures.append((time.monotonic(), event.frame))
        finally:
            await stream.aclose()

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=48_000, num_channels=1)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, np.int16).copy()
                self.sounds.append((time.monotonic(), samples))
        finally:
            await stream.aclose()

    def forget(self) -> None:
        """Start collecting again."""
        self.pictures.clear()
        self.sounds.clear()

    @property
    def pcm(self) -> np.ndarray:
        """All sound so far."""
        return np.concatenate([np.zeros(0, np.int16), *[pcm for _, pcm in self.sounds]])


def planes(frame: rtc.VideoFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, Cb and Cr of a picture, each as height x width."""
    i420 = frame.convert(rtc.VideoBufferType.I420)
    width, height = i420.width, i420.height
    data = np.frombuffer(i420.data, np.uint8)
    size = width * height
    chroma = data[size : size * 3 // 2].reshape(2, height // 2, width // 2)
    return data[:size].reshape(height, width), chroma[0], chroma[1]
