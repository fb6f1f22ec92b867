"""A copy of the SQLite database, taken while it is in use."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from api.store.engine import StoreError, database_url, is_sqlite


def backup(url: str, target: Path) -> int:
    """Write a consistent copy of the database to ``target``, whole or not at all; returns its size
    in bytes. Nobody has to stop meanwhile. The file is readable by its owner only.

    Raises:
        StoreError: it is no SQLite database, there is none, ``target`` exists or cannot be written.
    """
    parsed = database_url(url)
    if not is_sqlite(parsed):
        raise StoreError("this command copies SQLite files; use pg_dump to back up Postgres")
    source = Path(parsed.database or "")
    if not source.is_file():
        raise StoreError(f"there is no database at {source}")
    if target.exists():
        raise StoreError(f"{target} exists already; give another name")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        with (
            contextlib.closing(sqlite3.connect(source)) as original,
            contextlib.closing(sqlite3.connect(draft)) as copy,
        ):
            # All pages in one step: in several, every write meanwhile would start it again.
            original.backup(copy, pages=-1)
            # Else the copy would be three files.
            copy.execute("PRAGMA journal_mode = DELETE")
        os.replace(draft, target)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(f"the backup to {target} failed: {reason}") from error
    finally:
        draft.unlink(missing_ok=True)
    return target.stat().st_size
