"""The control plane on a real SQLite store and a folder, with workers in memory and a clock that
stands still."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from api.app import create_app
from api.avatars.folder import FolderMedia
from api.avatars.port import Portrait
from api.container.assembly import assemble
from api.container.services import Services
from api.http.errors import api_error
from api.plans import load_plans
from api.records import Account, AspectRatio, Avatar
from api.secret import Secret
from api.sessions.livekit_rooms import LiveKitRooms
from api.settings import ApiSettings
from api.store.migrate import migrate
from api.store.sql import open_store
from tests.fakes.api_time import ApiTime
from tests.fakes.dispatcher import FakeDispatcher

SECRET = "a secret of the tests, of 32 characters or more"
SAMPLE = "PUBLIC/Avatars/anna"


class QuickPortraits:
    """Takes every photo that begins with ``photo`` for a face, at once."""

    async def make(self, photo: bytes) -> Portrait:
        if not photo.startswith(b"photo"):
            raise api_error("INVALID_IMAGE")
        return Portrait("4:3", b"image of " + photo, b"preview of " + photo)

    async def crop(self, photo: bytes, ratio: AspectRatio) -> bytes:
        return ratio.encode() + b" of " + photo


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """What a test sets up of the process's logging goes with it."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
def now() -> ApiTime:
    return ApiTime()


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        _env_file=None,
        data_dir=tmp_path,
        public_url="https://avatars.test",
        secret=SECRET,
        rate_limit_per_minute=0,
    )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the current schema; making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "avatar.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def dispatcher() -> FakeDispatcher:
    return FakeDispatcher()


@pytest.fixture
def livekit() -> LiveKitRooms | None:
    """No LiveKit server of our own."""
    return None


@pytest.fixture
async def services(
    migrated: Path,
    settings: ApiSettings,
    dispatcher: FakeDispatcher,
    now: ApiTime,
    livekit: LiveKitRooms | None,
) -> AsyncIterator[Services]:
    """With one public avatar; the supervisor looks only when a test says so."""
    if settings.database_url is None:
        shutil.copy(migrated, settings.data_dir / "avatar.db")
    else:
        await migrate(settings.database)
    secret = Secret(SECRET)
    store = await open_store(settings.database, secret.key("room tokens"))
    media = FolderMedia(settings.data_dir / "media")
    plans = load_plans(None, "enterprise")
    made = assemble(
        settings, secret, store, media, QuickPortraits(), dispatcher, plans, livekit, now
    )
    await add_avatar(made, SAMPLE, None)
    yield made
    await made.sessions.aclose()
    await made.avatars.aclose()
    await made.rates.aclose()
    await store.aclose()
    await media.aclose()


async def add_avatar(services: Services, avatar_id: str, account_id: str | None) -> Avatar:
    """An avatar with its pictures, public without an account."""
    folder = f"avatars/{avatar_id}"
    avatar = Avatar(
        avatar_id,
        account_id,
        "4:3",
        f"digest of {avatar_id}",
        f"{folder}/original",
        f"{folder}/image.jpg",
        f"{folder}/preview.jpg",
        services.now(),
    )
    for key in (avatar.original_key, avatar.image_key, avatar.preview_key):
        await services.media.put(key, f"photo {key}".encode(), "image/jpeg")
    return await services.store.add_avatar(avatar, services.plans.get("enterprise"), services.now())


@pytest.fixture
async def account(services: Services) -> Account:
    return await services.store.create_account("tester", "growth", services.now())


@pytest.fixture
async def key(services: Services, account: Account) -> str:
    _, text = await services.store.create_key(account.id, "tests", services.now())
    return text


@pytest.fixture
async def client(services: Services, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the account's key with every request."""
    app = create_app(services)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="https://avatars.test",
            headers={"x-api-key": key},
        ) as opened,
    ):
        yield opened
