"""Connections and transactions of both databases.

SQLite runs in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing, a power cut may
lose the last commits (the database stays whole). Every change begins with ``BEGIN IMMEDIATE``, so
that what it read first still holds when it writes. Postgres runs at READ COMMITTED; whoever changes
an account's sessions or minutes locks the account's row first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from api.store import sqlite_driver

BUSY_TIMEOUT_S = 30
"""How long a SQLite transaction waits for another process's."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do."""


def database_url(text: str) -> URL:
    """The URL with the driver we use.

    Raises:
        StoreError: it is no URL of SQLite or Postgres, or an SQLite one that names no file.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreError(
            "the database URL cannot be read; write sqlite:///folder/avatar.db or"
            " postgresql://user:password@host/name"
        ) from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.drivername not in _DRIVERS.values():
        raise StoreError(
            f"{url.drivername} databases are not supported; use sqlite:/// or postgresql://"
        )
    if url.drivername == "sqlite+aiosqlite" and url.database in (None, "", ":memory:"):
        raise StoreError("the SQLite URL names no file; write sqlite:///folder/avatar.db")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file."""
    return url.get_backend_name() == "sqlite"


def create_engine(url: URL) -> AsyncEngine:
    """An engine whose transactions are ours to begin.

    Raises:
        StoreError: the driver is not installed.
    """
    if is_sqlite(url):
        engine = create_async_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT_S, "async_creator_fn": sqlite_driver.connect},
            pool_size=8,
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    try:
        # A server may have been restarted since a connection was last used.
        return create_async_engine(url, pool_size=10, max_overflow=10, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(
            "Postgres needs the package asyncpg; install it: pip install 'avatar-server[postgres]'"
        ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, and too late: after the first read.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    statement = connection.get_execution_options().get("begin")
    if statement is not None:
        # Past SQLAlchemy's machinery, which costs more than the statement.
        raw: Any = connection.connection.dbapi_connection
        raw.execute(statement).close()


class Database:
    """Transactions of an engine. Made in the event loop it is used in."""

    def __init__(self, url: URL) -> None:
        """Raises ``StoreError`` when the driver is not installed."""
        self.url = url
        self.engine = engine = create_engine(url)
        if is_sqlite(url):
            self._reader = engine
            self._snapshot = engine.execution_options(begin="BEGIN")
            self._writer = engine.execution_options(begin="BEGIN IMMEDIATE")
        else:
            self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
            self._writer = engine
        # SQLite has one writer at a time. Tasks of this process queue here, first come first
        # served; its own busy handler sleeps and lets anybody overtake.
        self._turn: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if is_sqlite(url) else nullcontext()
        )

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for one statement that reads."""
        return self._reader.connect()

    def snapshot(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for several statements that see the same moment."""
        return self._snapshot.connect()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, rolled back when the block raises."""
        async with self._turn, self._writer.begin() as connection:
            yield connection

    async def aclose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
