"""The API with a real store, folder and face analysis, for tests of avatars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from api.app import create_app
from api.avatars.fetch import ImageFetcher
from api.avatars.folder import FolderMedia
from api.avatars.port import MediaStore, Portrait, PortraitMaker
from api.avatars.service import Avatars
from api.http.errors import api_error
from api.http.ratelimit import RateLimits
from api.metrics import ApiMetrics
from api.plans import load_plans
from api.records import RATIOS, Account, AspectRatio
from api.secret import Secret
from api.settings import ApiSettings
from api.store.migrate import migrate
from api.store.sql import SqlStore, open_store

BASE_URL = "http://avatars.test"
SECRET = "a secret of the tests, 32 characters or more"


class Clock:
    """The API's time; moves when told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class QuickPortraits:
    """A ``PortraitMaker`` for tests that are not about faces: a photo of any bytes becomes
    pictures that name it. Counts what it is asked."""

    def __init__(self) -> None:
        self.made: list[bytes] = []
        self.cropped: list[AspectRatio] = []
        self.with_crops = True
        self.hold = asyncio.Event()
        self.hold.set()
        self._changed = asyncio.Condition()

    async def asked(self, times: int) -> None:
        """Wait until that many photos were to be made portraits of."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.made) >= times)

    async def make(self, photo: bytes) -> Portrait:
        async with self._changed:
            self.made.append(photo)
            self._changed.notify_all()
        await self.hold.wait()
        if photo.startswith(b"nobody"):
            raise api_error("INVALID_IMAGE")
        crops: dict[AspectRatio, bytes] = {r: self._crop(photo, r) for r in RATIOS}
        return Portrait(
            "3:4", b"image of " + photo, b"preview of " + photo, crops if self.with_crops else {}
        )

    async def crop(self, photo: bytes, ratio: AspectRatio) -> bytes:
        self.cropped.append(ratio)
        return self._crop(photo, ratio)

    @staticmethod
    def _crop(photo: bytes, ratio: AspectRatio) -> bytes:
        return ratio.encode() + b" of " + photo


@dataclass
class WarmNotes:
    """A dispatcher that only notes what it is told to warm."""

    warmed: list[tuple[bytes, AspectRatio]] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def warm(self, portrait: bytes, aspect_ratio: AspectRatio) -> None:
        await self.hold.wait()
        self.warmed.append((portrait, aspect_ratio))


@dataclass
class AvatarApi:
    """A running API and what is behind it."""

    http: httpx.AsyncClient
    store: SqlStore
    media: MediaStore
    avatars: Avatars
    dispatcher: WarmNotes
    clock: Clock
    secret: Secret
    folder: Path
    accounts: int = 0

    async def account(self, plan: str = "pro") -> tuple[Account, dict[str, str]]:
        """A new account and the headers that are its."""
        self.accounts += 1
        account = await self.store.create_account(f"account {self.accounts}", plan, self.clock())
        _, key = await self.store.create_key(account.id, "test", self.clock())
        return account, {"x-api-key": key}

    def files(self) -> Sequence[str]:
        """Everything the folder keeps."""
        return sorted(
            str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()
        )


@asynccontextmanager
async def avatar_api(
    folder: Path,
    portraits: PortraitMaker,
    *,
    fetcher: ImageFetcher | None = None,
    media: MediaStore | None = None,
    **settings: Any,
) -> AsyncIterator[AvatarApi]:
    """The API over SQLite and a folder below ``folder``."""
    database = f"sqlite:///{folder / 'avatar.db'}"
    await migrate(database)
    configured = ApiSettings(
        public_url=BASE_URL, rate_limit_per_minute=0, data_dir=folder, **settings
    )
    store, clock, secret = await open_store(database), Clock(), Secret(SECRET)
    kept = media or FolderMedia(folder / "media")
    dispatcher = WarmNotes()
    avatars = Avatars(configured, secret, store, kept, portraits, dispatcher, clock, fetcher)  # type: ignore[arg-type]
    metrics = ApiMetrics()
    rates = RateLimits(configured, metrics)
    services = SimpleNamespace(
        settings=configured,
        secret=secret,
        store=store,
        media=kept,
        portraits=portraits,
        dispatcher=dispatcher,
        plans=load_plans(None, configured.default_plan),
        metrics=metrics,
        rates=rates,
        avatars=avatars,
        now=clock,
        draining=False,
    )
    transport = httpx.ASGITransport(create_app(services))  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=60) as http:
            yield AvatarApi(http, store, kept, avatars, dispatcher, clock, secret, folder / "media")
    finally:
        await avatars.aclose()
        await rates.aclose()
        await store.aclose()
