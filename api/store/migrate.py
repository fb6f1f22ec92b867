"""The schema, kept up to date by Alembic: no alembic.ini, safe from several processes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from filelock import AsyncFileLock
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from api.store.engine import Database, StoreError, database_url, is_sqlite

_ADVISORY_LOCK = 4_728_351_906
"""Any number, the same in every version: the process that holds it in Postgres migrates."""


async def migrate(url: str) -> None:
    """Bring the database at ``url`` to the current schema; make it if there is none.

    Raises:
        StoreError: the database cannot be reached or written, or is newer than this program.
    """
    parsed = database_url(url)
    async with _file_lock(parsed):
        database = Database(parsed)
        try:
            await _upgrade(database)
        except (DBAPIError, OSError) as error:
            raise StoreError(_why(parsed, error)) from error
        finally:
            await database.aclose()


def is_new(url: str) -> bool:
    """Whether ``url`` is an SQLite file that does not exist yet."""
    parsed = database_url(url)
    return is_sqlite(parsed) and not Path(parsed.database or "").exists()


async def require_current(database: Database) -> None:
    """Raises ``StoreError`` when the database does not answer or its schema is not ours."""
    try:
        rows = await database.rows(text("SELECT version_num FROM alembic_version"))
        found = rows[0][0] if rows else None
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and "alembic_version" in str(error.orig):
            found = None
        else:
            raise StoreError(_why(database.url, error)) from error
    if found != head():
        raise StoreError(
            f"the database has schema {found or 'none'} and this program needs {head()};"
            " run: python -m api migrate"
        )


@cache
def head() -> str:
    """The current schema's revision."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


async def _upgrade(database: Database) -> None:
    if is_sqlite(database.url):
        # Kept in the file from now on: readers never wait for the writer.
        await database.rows(text("PRAGMA journal_mode = WAL"))

    def work(connection: Connection) -> None:
        if not is_sqlite(database.url):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _to_head(connection)

    await database.write(work)


def _to_head(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except command.util.CommandError as error:
        raise StoreError(
            f"the database's schema is unknown to this program ({error}); use the program's newer"
            " version, or restore a backup"
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config


@asynccontextmanager
async def _file_lock(url: URL) -> AsyncIterator[None]:
    """Only one process at a time makes or changes an SQLite file."""
    if not is_sqlite(url):
        yield
        return
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        async with AsyncFileLock(f"{path}.migrate.lock"):
            _make_private(path)
            yield
    except OSError as error:
        raise StoreError(_why(url, error)) from error


def _make_private(path: Path) -> None:
    # Digests and sealed tokens are nobody else's business.
    path.touch(mode=0o600)


def _why(url: URL, error: DBAPIError | OSError) -> str:
    reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
    where = url.database if is_sqlite(url) else url.render_as_string(hide_password=True)
    return f"the database {where} cannot be used: {reason}"
