"""Rows become records.

Statements that every request runs are built once, here and in their modules: building one each time
takes longer than running it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from api.records import Account, ApiKey, Avatar, Bill, Session
from api.store.tables import BILL_COLUMNS, SESSION_COLUMNS, accounts, api_keys, avatars, sessions

KEY_COLUMNS = tuple(column for column in api_keys.c if column.name != "digest")

select_accounts: Select[Any] = select(*accounts.c)
select_keys: Select[Any] = select(*KEY_COLUMNS)
select_avatars: Select[Any] = select(*avatars.c)
select_sessions: Select[Any] = select(*SESSION_COLUMNS, *BILL_COLUMNS)

SESSION_BY_ID = select_sessions.where(sessions.c.id == bindparam("session_id"))
SESSION_LOCKED = SESSION_BY_ID.with_for_update()

# Rows that only refer to the account can still be added while it is locked.
_ACCOUNT_LOCKED = select_accounts.where(accounts.c.id == bindparam("account_id")).with_for_update(
    key_share=True
)

_FIELDS = len(SESSION_COLUMNS)
_WITH_BILL = _FIELDS + len(BILL_COLUMNS)


def as_account(row: Row[Any]) -> Account:
    """From ``select_accounts``."""
    return Account(**row._mapping)


def as_key(row: Row[Any]) -> ApiKey:
    """From ``select_keys``."""
    return ApiKey(**row._mapping)


def as_avatar(row: Row[Any]) -> Avatar:
    """From ``select_avatars``."""
    return Avatar(**row._mapping)


def as_session(row: Row[Any]) -> Session:
    """From ``select_sessions``, whatever other columns were added to it."""
    bill = None if row[_FIELDS] is None else Bill(*row[_FIELDS:_WITH_BILL])
    return Session(*row[:_FIELDS], bill)  # type: ignore[call-arg]


def lock_account(connection: Connection, account_id: str) -> Account | None:
    """The account, which nobody else can change sessions or minutes of until the transaction ends.

    In SQLite the whole database is ours by then; in Postgres its row is locked.
    """
    row = connection.execute(_ACCOUNT_LOCKED, {"account_id": account_id}).first()
    return None if row is None else as_account(row)
