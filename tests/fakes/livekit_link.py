"""A LiveKit connection that only remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from worker.rooms.livekit.link import LinkEvent, Person


class MemoryLink:
    def __init__(self, speaks_for: str | None = None) -> None:
        self.speaks_for = speaks_for
        self.shown: list[int] = []
        """Top left luma of each picture sent."""
        self.heard: list[np.ndarray] = []
        self.clears = 0
        self.told: list[Mapping[str, Any]] = []
        self.present: dict[str, Person] = {}
        self.closed = False
        self.on_event: Callable[[LinkEvent, str], None] = lambda kind, detail: None

    async def connect(self, on_event: Callable[[LinkEvent, str], None]) -> None:
        self.on_event = on_event

    async def publish(self) -> None:
        pass

    def capture_video(self, picture: np.ndarray) -> None:
        assert not self.closed
        self.shown.append(int(picture[0, 0]))

    async def capture_audio(self, audio: np.ndarray) -> None:
        assert not self.closed
        self.heard.append(audio)

    def clear(self) -> None:
        self.clears += 1

    async def send_data(self, topic: str, message: Mapping[str, Any]) -> None:
        assert topic == "session.state"
        self.told.append(message)

    def participants(self) -> list[Person]:
        return list(self.present.values())

    async def aclose(self) -> None:
        self.closed = True

    # What happens in the room

    def come(self, identity: str, *, agent: bool = False, recorder: bool = False) -> None:
        self.present[identity] = Person(identity, agent, recorder)
        self.on_event("participants", "")

    def go(self, identity: str) -> None:
        del self.present[identity]
        self.on_event("participants", "")
