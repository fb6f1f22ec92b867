"""Rows for tests of the store, and ways to read what it keeps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from api.records import Account, Avatar, NewSession, Plan, RoomOrder, Session
from api.store.sql import SqlStore

SEAL_KEY = bytes(range(32))
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

_numbers = itertools.count(1)


def later(**time: float) -> datetime:
    """``NOON`` and that much more."""
    return NOON + timedelta(**time)


def plan(
    *,
    concurrency: int = 5,
    included: int | None = 100,
    session: int | None = 60,
    avatars: int | None = 3,
) -> Plan:
    return Plan("test", "Test", concurrency, avatars, included, session, True)


def new_session(account: Account, **changes: Any) -> NewSession:
    """A session unlike any other, unless it is given the same fingerprint."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"sess_{number:08}",
        "account_id": account.id,
        "avatar_id": "avat_1",
        "aspect_ratio": "4:3",
        "room": RoomOrder("livekit", "wss://rooms.example.com", "room-token-that-nobody-sees"),
        "metadata": {"user": "Ana", "tags": [1, None, "ü"]},
        "token_digest": bytes(32),
        "start": True,
        "fingerprint": f"fingerprint {number}",
    }
    return NewSession(**{**values, **changes})


def new_avatar(account: Account | None, created_at: datetime = NOON, **changes: Any) -> Avatar:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"avat_{number:08}",
        "account_id": account and account.id,
        "ratio": "4:3",
        "digest": f"{number:064}",
        "original_key": f"avatars/{number}/original",
        "image_key": f"avatars/{number}/image.jpg",
        "preview_key": f"avatars/{number}/preview.jpg",
        "created_at": created_at,
    }
    return Avatar(**{**values, **changes})


async def account_in(store: SqlStore, anchor_day: int | None = None) -> Account:
    return await store.create_account(f"account {next(_numbers)}", "test", NOON, anchor_day)


async def started(
    store: SqlStore, account: Account, at: datetime = NOON, of: Plan | None = None
) -> Session:
    return (await store.create_session(new_session(account), of or plan(), at)).session


async def ledger(store: SqlStore, account: Account) -> Sequence[Any]:
    """The account's entries, in the order they were made."""
    query = "SELECT * FROM minutes WHERE account_id = :account ORDER BY at, id"
    return await store._database.rows(text(query), {"account": account.id})
