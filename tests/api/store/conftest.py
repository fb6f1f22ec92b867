"""Every test of the store runs on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from api.store.engine import Database, database_url
from api.store.migrate import migrate
from api.store.sql import SqlStore, open_store
from api.store.tables import metadata
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
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "avatar.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated database, to be emptied after each test."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        databases = postgres.database()
        url = runner.run(databases.__aenter__())
        stack.callback(lambda: runner.run(databases.__aexit__(None, None, None)))
        runner.run(migrate(url))
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database with no tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "avatar.db")
        return f"sqlite:///{tmp_path / 'avatar.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def url(migrated_url: str) -> AsyncIterator[str]:
    """A database with the current schema and no rows."""
    yield migrated_url
    if migrated_url.startswith("postgres"):
        database = Database(database_url(migrated_url))
        await database.change(text(f"TRUNCATE {', '.join(metadata.tables)}"))
        await database.aclose()


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
