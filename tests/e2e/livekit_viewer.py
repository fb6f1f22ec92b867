"""A person in a LiveKit room who watches and listens, with the real client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import cv2
import numpy as np
from livekit import rtc

AUDIO_RATE = 48_000


@dataclass(frozen=True)
class Seen:
    at: float
    """When it was decoded, by ``time.monotonic``."""
    i420: np.ndarray

    @property
    def rgb(self) -> np.ndarray:
        return cv2.cvtColor(self.i420, cv2.COLOR_YUV2RGB_I420)

    @property
    def grey(self) -> float:
        return float(self.i420[: len(self.i420) * 2 // 3].mean())


@dataclass(frozen=True)
class Heard:
    at: float
    pcm: np.ndarray
    """int16, 10 ms."""

    @property
    def loud(self) -> float:
        return float(np.abs(self.pcm.astype(int)).mean())


class Viewer:
    """Takes in all that is published from ``join`` to ``leave``."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.heard: list[Heard] = []
        self._room = rtc.Room()
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, url: str, token: str) -> None:
        self._room.on("track_subscribed", self._on_track)
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))

    async def leave(self) -> None:
        await self._room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_track(self, track: rtc.Track, publication: object, participant: object) -> None:
        video = track.kind == rtc.TrackKind.KIND_VIDEO
        work = self._watch(track) if video else self._listen(track)
        self._tasks.add(asyncio.create_task(work))

    async def _watch(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        try:
            async for event in stream:
                frame = event.frame
                shape = (frame.height * 3 // 2, frame.width)
                picture = np.frombuffer(frame.data, np.uint8).reshape(shape).copy()
                self.seen.append(Seen(time.monotonic(), picture))
        finally:
            await stream.aclose()

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=AUDIO_RATE, num_channels=1)
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, np.int16).copy()
                self.heard.append(Heard(time.monotonic(), pcm))
        finally:
            await stream.aclose()
