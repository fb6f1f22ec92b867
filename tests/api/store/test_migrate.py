from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from api.store.engine import Database, StoreError, database_url
from api.store.migrate import migrate
from api.store.sql import open_store
from api.store.tables import metadata
from tests.api.store.rows import NOON

MIGRATE = (
    "import asyncio, sys; from api.store.migrate import migrate; asyncio.run(migrate(sys.argv[1]))"
)


async def test_the_migrated_schema_is_that_of_the_tables(empty_url: str) -> None:
    await migrate(empty_url)
    database = Database(database_url(empty_url))
    try:

        def differences(connection: Connection) -> list[object]:
            options = {"compare_type": True, "compare_server_default": True}
            context = MigrationContext.configure(connection, opts=options)
            return list(compare_metadata(context, metadata))

        assert await database.read(differences) == []
    finally:
        await database.aclose()


async def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    await migrate(empty_url)
    store = await open_store(empty_url)
    try:
        account = await store.create_account("kept", "free", NOON)
        await migrate(empty_url)
        await store.check()
        assert await store.account_named("kept") == account
    finally:
        await store.aclose()


async def test_several_processes_migrate_at_once(empty_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, empty_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    results = await asyncio.gather(migrate(empty_url), *(each.communicate() for each in processes))
    assert [each.returncode for each in processes] == [0, 0, 0], results
    store = await open_store(empty_url)
    await store.check()
    await store.aclose()


async def test_a_database_without_tables_says_what_to_run(empty_url: str) -> None:
    store = await open_store(empty_url)
    try:
        with pytest.raises(StoreError, match=r"schema none .* run: python -m api migrate"):
            await store.check()
    finally:
        await store.aclose()


async def test_an_older_or_newer_schema_is_told(empty_url: str) -> None:
    url = empty_url
    await migrate(url)
    store = await open_store(url)
    try:
        await store._database.change(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="schema 9999 and this program needs"):
            await store.check()
        with pytest.raises(StoreError, match=r"unknown to this program .* newer"):
            await migrate(url)
    finally:
        await store.aclose()


async def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    url = "postgresql://someone:a-password@127.0.0.1:1/avatars"
    with pytest.raises(StoreError, match="cannot be used") as failed:
        await migrate(url)
    assert "a-password" not in str(failed.value)
    store = await open_store(url)
    with pytest.raises(StoreError, match="cannot be used"):
        await store.check()
    await store.aclose()


async def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        await migrate(f"sqlite:///{tmp_path}/file/avatar.db")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/name", "not supported"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_url_we_cannot_use_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        database_url(url)
