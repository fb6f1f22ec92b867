"""SQLite statements in one trip to the connection's thread instead of four.

``aiosqlite`` makes a cursor, executes, fetches and closes in a trip each, and a trip costs more
than the statement. All rows of our statements are wanted at once, so one trip can do it all.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import aiosqlite


class WholeCursor:
    """A cursor for SQLAlchemy's adapter: executes and fetches in one go, holds nothing open."""

    arraysize = 1
    lastrowid: int | None = None

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1

    async def __aenter__(self) -> WholeCursor:
        return self

    async def execute(self, statement: str, parameters: Iterable[Any] = ()) -> WholeCursor:
        """Run one statement and keep its rows."""
        return await self._run(sqlite3.Cursor.execute, statement, parameters)

    async def executemany(self, statement: str, parameters: Sequence[Any]) -> WholeCursor:
        """Run a statement once for each of ``parameters``."""
        return await self._run(sqlite3.Cursor.executemany, statement, parameters)

    async def _run(self, how: Any, statement: str, parameters: Any) -> WholeCursor:
        def work() -> tuple[Any, int, int | None, list[Any]]:
            cursor = self._connection._conn.cursor()
            try:
                how(cursor, statement, parameters)
                rows = cursor.fetchall() if cursor.description else []
                return cursor.description, cursor.rowcount, cursor.lastrowid, rows
            finally:
                cursor.close()

        # The connection's own way to its thread; everything public takes several trips.
        self.description, self.rowcount, self.lastrowid, rows = await self._connection._execute(
            work
        )
        self._rows = deque(rows)
        return self

    async def fetchall(self) -> list[Any]:
        """The rows not fetched yet."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def close(self) -> None:
        """Nothing is open."""
        self._rows.clear()


class Connection(aiosqlite.Connection):
    """A connection that makes such cursors."""

    def cursor(self) -> WholeCursor:  # type: ignore[override]
        """A new one; costs nothing."""
        return WholeCursor(self)

    async def rollback(self) -> None:
        """Undo the transaction, if there is one: most connections only read."""
        if self.in_transaction:
            await super().rollback()


def connect(database: str, **options: Any) -> Connection:
    """As ``aiosqlite.connect``: to be awaited."""
    connection = Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    # As SQLAlchemy has it: a connection nobody closed must not keep the process.
    connection._thread.daemon = True
    return connection
