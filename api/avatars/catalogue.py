"""The public avatars: which there are, and how an installation gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import structlog

from api.settings import DEFAULT_AVATAR
from portraits import PEOPLE, Person

logger = structlog.get_logger(__name__)

PUBLIC: Mapping[str, Person] = {f"PUBLIC/Avatars/{who.name.lower()}": who for who in PEOPLE}
"""By id, in the order in which they are listed."""

RETIRED = frozenset({"PUBLIC/Avatars/sample"})
"""Ids of former public avatars. They stand for the default avatar and are not listed; what an older
database holds of them stays for the sessions that have them."""

START_WAIT_S = 8.0
"""How long a start waits for them."""
ASK_WAIT_S = 20.0
"""How long a caller that asks for one does, while it is being made."""
PAUSES_S = (15, 30, 60, 120, 300, 600)
"""Between attempts at one; after the last one the next start tries again."""

Keep = Callable[[str, bytes, datetime], Awaitable[None]]
"""``keep(avatar_id, photo, created_at)`` makes the avatar, unless it is there as it is."""


def successor(avatar_id: str) -> str:
    """The id itself, or what a retired one stands for."""
    return DEFAULT_AVATAR if avatar_id in RETIRED else avatar_id


class Catalogue:
    """Brings the public avatars into an installation, in the background, one after the other."""

    def __init__(self, keep: Keep, now: Callable[[], datetime]) -> None:
        self._keep = keep
        self._now = now
        self._making: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Begin, and wait a moment, no longer: the face models may have to be fetched first. Never
        raises: what keeps an avatar from being made is logged and tried again."""
        turn, now = asyncio.Lock(), self._now()
        for place, avatar_id in enumerate(PUBLIC):
            # Lists are newest first, and these have an order of their own.
            work = self._make(avatar_id, now - timedelta(seconds=place), turn)
            self._making[avatar_id] = asyncio.create_task(work, name=f"make {avatar_id}")
        await asyncio.wait(self._making.values(), timeout=START_WAIT_S)

    async def ready(self, avatar_id: str, timeout_s: float | None = ASK_WAIT_S) -> None:
        """Wait until this one is made, if it is being made."""
        if avatar_id in self._making:
            await asyncio.wait({self._making[avatar_id]}, timeout=timeout_s)

    async def aclose(self) -> None:
        """Stop."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    async def _make(self, avatar_id: str, created_at: datetime, turn: asyncio.Lock) -> None:
        for pause_s in (*PAUSES_S, None):
            try:
                async with turn:  # in their order: the default first
                    photo = await asyncio.to_thread(PUBLIC[avatar_id].path.read_bytes)
                    await self._keep(avatar_id, photo, created_at)
                return
            except Exception as error:
                logger.error(
                    "a public avatar cannot be made",
                    avatar=avatar_id,
                    again_in_s=pause_s,
                    exc_info=error,
                )
            if pause_s is not None:
                await asyncio.sleep(pause_s)
