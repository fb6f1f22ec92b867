"""Every test of the store runs on SQLite and on Postgres."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from api.store.migrate import migrate
from api.store.sql import SqlStore, open_store
from tests.api.store.rows import SEAL_KEY
from tests.fakes.postgres import PostgresServer, PostgresUnavailable, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except PostgresUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where migrated databases wait to be copied."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(params=["sqlite", "postgres"])
async def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database with no tables."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def url(
    request: pytest.FixtureRequest, templates: Path, tmp_path: Path
) -> AsyncIterator[str]:
    """A database with the current schema."""
    if request.param == "sqlite":
        template = templates / "template.db"
        if not template.exists():
            await migrate(f"sqlite:///{template}")
        shutil.copy(template, tmp_path / "avatar.db")
        yield f"sqlite+aiosqlite:///{tmp_path / 'avatar.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with server.database() as fresh:
        await migrate(fresh)
        yield fresh


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[SqlStore]]:
    """Two stores over one database, as two processes have them."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            store = await open_store(url, SEAL_KEY)
            stack.push_async_callback(store.aclose)
            opened.append(store)
        yield opened


@pytest.fixture
def store(stores: list[SqlStore]) -> SqlStore:
    return stores[0]
