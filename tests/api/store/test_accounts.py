from __future__ import annotations

import re
from datetime import datetime

import pytest
from sqlalchemy import text

from api.store.sql import SqlStore
from tests.api.store.rows import NOON, later


async def test_an_account_is_found_by_id_and_by_name(store: SqlStore) -> None:
    first = await store.create_account("first", "pro", NOON, anchor_day=28)
    second = await store.create_account("second", "free", later(seconds=1))

    assert await store.account(first.id) == first
    assert (first.plan_key, first.anchor_day, first.created_at) == ("pro", 28, NOON)
    assert await store.account_named("second") == second
    assert await store.accounts() == [first, second]
    assert await store.account("acct_none") is None
    assert await store.account_named("none") is None


async def test_times_are_aware_and_in_utc(store: SqlStore) -> None:
    abroad = datetime.fromisoformat("2026-03-10T14:30:00.250000+02:30")
    account = await store.create_account("abroad", "pro", abroad)
    found = await store.account(account.id)
    assert found is not None
    assert found.created_at.isoformat() == "2026-03-10T12:00:00.250000+00:00"


async def test_a_naive_time_is_refused(store: SqlStore) -> None:
    with pytest.raises(Exception, match="has no time zone"):
        await store.create_account("naive", "pro", datetime(2026, 3, 10))


async def test_a_taken_name_is_refused_and_changes_nothing(store: SqlStore) -> None:
    await store.create_account("taken", "pro", NOON)
    with pytest.raises(ValueError, match="'taken' already"):
        await store.create_account("taken", "free", NOON)
    assert [account.plan_key for account in await store.accounts()] == ["pro"]


@pytest.mark.parametrize(("name", "day"), [("", None), ("  ", None), ("fine", 0), ("fine", 29)])
async def test_a_name_or_anchor_day_we_cannot_use(
    store: SqlStore, name: str, day: int | None
) -> None:
    with pytest.raises(ValueError, match=r"needs a name|not in every month"):
        await store.create_account(name, "pro", NOON, day)


@pytest.mark.parametrize("test", [False, True])
async def test_a_key_is_found_by_its_text_and_kept_only_as_a_digest(
    store: SqlStore, test: bool
) -> None:
    account = await store.create_account("a", "pro", NOON)
    key, secret = await store.create_key(
        account.id, "laptop", NOON, test=test, expires_at=later(days=1)
    )

    prefix = "ah_test_" if test else "ah_live_"
    assert re.fullmatch(prefix + "[A-Za-z0-9]{32}", secret)
    assert await store.find_key(secret) == (key, account)
    assert (key.name, key.expires_at, key.revoked_at) == ("laptop", later(days=1), None)
    assert key.hint.startswith(secret[:10])
    assert key.hint.endswith(secret[-4:])
    assert len(key.hint) < 20
    rows = await store._database.rows(text("SELECT * FROM api_keys"))
    assert secret not in repr(rows)
    assert secret[12:28] not in repr(rows)


@pytest.mark.parametrize("wrong", ["", "ah_live_", "ah_live_" + "a" * 32, "é\0\ud800", "'; --"])
async def test_another_text_finds_no_key(store: SqlStore, wrong: str) -> None:
    account = await store.create_account("a", "pro", NOON)
    await store.create_key(account.id, "k", NOON)
    assert await store.find_key(wrong) is None


async def test_a_revoked_key_says_since_when(store: SqlStore) -> None:
    account = await store.create_account("a", "pro", NOON)
    key, secret = await store.create_key(account.id, "k", NOON)
    other, _ = await store.create_key(account.id, "other", later(seconds=1))

    assert await store.revoke_key(key.id, later(hours=1))
    assert await store.revoke_key(key.id, later(hours=2)), "a second time is no error"

    found = await store.find_key(secret)
    assert found is not None
    assert found[0].revoked_at == later(hours=1)
    assert await store.keys(account.id) == [found[0], other]
    assert not await store.revoke_key("key_none", NOON)


async def test_a_key_needs_an_account(store: SqlStore) -> None:
    with pytest.raises(ValueError, match="no account 'acct_none'"):
        await store.create_key("acct_none", "k", NOON)


async def test_keys_are_an_accounts_own(store: SqlStore) -> None:
    mine = await store.create_account("mine", "pro", NOON)
    theirs = await store.create_account("theirs", "pro", NOON)
    await store.create_key(theirs.id, "k", NOON)
    assert await store.keys(mine.id) == []
