"""A room in memory that behaves as the port demands, on any clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.rooms.port import SAMPLES_PER_FRAME, RoomError, RoomEvent


@dataclass(frozen=True)
class Published:
    grey: int | None
    audio: np.ndarray
    speaking: bool


class MemoryRoom:
    """``realtime``: paced by ``advance``, 40 ms of media time a call; else takes everything at
    once."""

    def __init__(
        self,
        *,
        realtime: bool = True,
        starts_on_speech: bool = False,
        multi_party: bool = False,
        refuse: str | None = None,
    ) -> None:
        self.realtime = realtime
        self.starts_on_speech = starts_on_speech
        self.multi_party = multi_party
        self.viewers = 0
        self.closed_for = ""
        self.published: list[Published] = []
        self.closes = 0
        self.on_event: Callable[[RoomEvent, str], None] = lambda kind, reason: None
        self._refuse = refuse
        self._waiting: deque[int] = deque()
        self._played = 0
        self._space = asyncio.Event()

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        if self._refuse is not None:
            raise RoomError(self._refuse)
        self.on_event = on_event

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        if self.closes:
            raise RoomError("the room is closed")
        assert audio.shape == (SAMPLES_PER_FRAME,)
        assert audio.dtype == np.int16
        grey = None if picture is None else int(picture[0, 0])
        self.published.append(Published(grey, audio, speaking))
        if not self.realtime:
            self._played += SAMPLES_PER_FRAME
            await asyncio.sleep(0)
            return
        self._waiting.append(SAMPLES_PER_FRAME)
        while len(self._waiting) > 1:
            self._space.clear()
            await self._space.wait()

    def clear(self) -> int:
        dropped = sum(self._waiting)
        self._waiting.clear()
        self._space.set()
        return dropped

    @property
    def played(self) -> int:
        return self._played

    async def aclose(self, reason: str = "") -> None:
        self.closes += 1
        self.closed_for = reason
        self._space.set()

    async def advance(self, frames: int = 1) -> None:
        """Let ``frames`` frames be heard, and the publisher bring the next ones."""
        for _ in range(frames):
            for _ in range(200):
                if self._waiting:
                    break
                await asyncio.sleep(0.002)
            if self._waiting:
                self._played += self._waiting.popleft()
            self._space.set()
            await asyncio.sleep(0.003)

    @property
    def said(self) -> np.ndarray:
        """All speech that was published, one after the other."""
        pieces = [item.audio for item in self.published if item.speaking]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
