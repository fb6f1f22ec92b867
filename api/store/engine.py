"""Connections and transactions of both databases.

Whatever is said to the database within one transaction is a plain function of a connection, and
goes there in one piece: a trip to another thread, or between greenlets, costs more than most
statements. Finding one row in SQLite makes no such trip at all.

SQLite runs in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing, a power cut may
lose the last commits (the database stays whole). Every change begins with ``BEGIN IMMEDIATE``, so
that what it read first still holds when it writes. Postgres runs at READ COMMITTED; a transaction
that changes an account's sessions or minutes locks the account's row first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

T = TypeVar("T")

BUSY_TIMEOUT_S = 30
"""How long a SQLite transaction waits for another process's."""

_READERS = 2
"""SQLite transactions that read at a time."""

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
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
    if is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise StoreError("the SQLite URL names no file; write sqlite:///folder/avatar.db")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file."""
    return url.get_backend_name() == "sqlite"


class _Transactions(Protocol):
    """How work gets to a database and back."""

    async def look_up(self, work: Callable[[Connection], T]) -> T: ...

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def snapshot(self, work: Callable[[Connection], T]) -> T: ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...

    async def aclose(self) -> None: ...


class Database:
    """Transactions. Made in the event loop it is used in."""

    def __init__(self, url: URL) -> None:
        """Raises ``StoreError`` when the driver is not installed."""
        self.url = url
        self._transactions: _Transactions = _Sqlite(url) if is_sqlite(url) else _Postgres(url)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work``, one statement that reads."""
        return await self._transactions.read(work)

    async def snapshot(self, work: Callable[[Connection], T]) -> T:
        """Run ``work``, several statements that see the same moment."""
        return await self._transactions.snapshot(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction: committed at its end, rolled back when it raises."""
        return await self._transactions.write(work)

    async def row(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Row[Any] | None:
        """The first row of one statement that reads and finds it by an index."""
        return await self._transactions.look_up(
            lambda connection: connection.execute(statement, parameters).first()
        )

    async def rows(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """The rows of one statement that reads."""
        return await self.read(lambda connection: connection.execute(statement, parameters).all())

    async def change(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> int:
        """Run one statement that writes; returns how many rows it met."""
        return await self.write(
            lambda connection: connection.execute(statement, parameters).rowcount
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transactions.aclose()


class _Sqlite:
    """Threads with a connection each: one that writes, as SQLite has one writer at a time (tasks
    queue for it, first come first served; its own busy handler lets anybody overtake), and some
    that read. Work that has begun is finished, whatever becomes of who waits for it.

    A row that an index finds is read right here, on a connection kept for that: it takes less time
    than the way to a thread, and in WAL mode a reader never waits for who writes."""

    def __init__(self, url: URL) -> None:
        self._engine = engine = create_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
            pool_size=_READERS + 2,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        self._snapshots = engine.execution_options(begin="BEGIN")
        self._changes = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._readers = ThreadPoolExecutor(_READERS, "store reader")
        self._writer = ThreadPoolExecutor(1, "store writer")
        self._here: Connection | None = None

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        if self._here is None:
            self._here = self._engine.connect()
        try:
            return work(self._here)
        except BaseException:
            self._here.rollback()
            raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._readers, self._engine, work)

    async def snapshot(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._readers, self._snapshots, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        def change() -> T:
            with self._changes.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writer, change)

    async def aclose(self) -> None:
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        if self._here is not None:
            self._here.close()
        self._engine.dispose()

    async def _run(
        self, threads: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T]
    ) -> T:
        def look() -> T:
            with engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(threads, look)


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


class _Postgres:
    """A pool of connections, driven by the event loop."""

    def __init__(self, url: URL) -> None:
        try:
            # A server may have been restarted since a connection was last used.
            self._engine: AsyncEngine = create_async_engine(
                url, pool_size=10, max_overflow=10, pool_pre_ping=True
            )
        except ModuleNotFoundError as error:
            raise StoreError(
                "Postgres needs the package asyncpg; install it:"
                " pip install 'avatar-server[postgres]'"
            ) from error
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ")

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        return await self.read(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        async with self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def snapshot(self, work: Callable[[Connection], T]) -> T:
        async with self._snapshots.connect() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def aclose(self) -> None:
        await self._engine.dispose()
