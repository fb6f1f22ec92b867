"""What a room tells its session, and patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RoomNotes:
    """A room's ``on_event`` that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, kind: str, reason: str) -> None:
        self.events.append((kind, reason))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
