"""The store in SQLite or Postgres."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from api.records import Account, Plan, Session, SessionStatus, Usage
from api.store.accounts import AccountTables
from api.store.avatars import AvatarTables, avatars_made
from api.store.engine import Database, database_url
from api.store.ledger import LARGEST_GRANT, Balance, balance, grant
from api.store.migrate import require_current
from api.store.periods import billing_period
from api.store.room_cipher import RoomCipher
from api.store.rows import SESSION_BY_ID, as_session, lock_account, select_sessions
from api.store.sessions import SessionTables, minutes_between
from api.store.tables import sessions

_NO_PLAN = Plan("", "", 1, None, None, None, False)

_started = (sessions.c.account_id == bindparam("account_id")) & (sessions.c.status == "started")
_RUNNING_COUNT = select(func.count()).select_from(sessions).where(_started)
_ACTIVE = select_sessions.where(_started).order_by(sessions.c.created_at, sessions.c.id)
_mine = sessions.c.account_id == bindparam("account_id")
_with_status = _mine & (sessions.c.status == bindparam("status"))


def _page(condition: ColumnElement[bool]) -> Select[Any]:
    newest_first = (sessions.c.created_at.desc(), sessions.c.id.desc())
    page = select_sessions.where(condition).order_by(*newest_first)
    return page.limit(bindparam("limit")).offset(bindparam("offset"))


def _count(condition: ColumnElement[bool]) -> Select[Any]:
    return select(func.count()).select_from(sessions).where(condition)


_PAGE, _COUNT = _page(_mine), _count(_mine)
_PAGE_OF_STATUS, _COUNT_OF_STATUS = _page(_with_status), _count(_with_status)
_EVERY_STARTED = select_sessions.where(sessions.c.status == "started").order_by(
    sessions.c.created_at, sessions.c.id
)
_TOKEN_DIGEST = select(sessions.c.token_digest).where(sessions.c.id == bindparam("session_id"))


class SqlStore(AccountTables, SessionTables, AvatarTables):
    """``api.store.port.Store`` over SQLAlchemy. Belongs to the event loop it was opened in."""

    def __init__(self, database: Database, room_cipher: RoomCipher) -> None:
        self._database = database
        self._room_cipher = room_cipher

    async def check(self) -> None:
        """Raises ``StoreError`` when the database does not answer or its schema is not ours."""
        await require_current(self._database)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._database.aclose()

    async def grant_minutes(self, account_id: str, minutes: int, note: str, now: datetime) -> int:
        """Add a package of purchased minutes; returns the account's purchased minutes left.

        Raises:
            ValueError: no such account, or not 1 to 10,000,000 minutes.
        """
        if not 1 <= minutes <= LARGEST_GRANT:
            raise ValueError(f"{minutes} minutes cannot be granted; give 1 to {LARGEST_GRANT}")

        def work(connection: Connection) -> int:
            account = lock_account(connection, account_id)
            if account is None:
                raise ValueError(f"there is no account {account_id!r}")
            grant(connection, account, minutes, note, now)
            return balance(connection, account, _NO_PLAN, now).purchased_left

        return await self._database.write(work)

    async def session(self, session_id: str) -> Session | None:
        """By id, of any account."""
        row = await self._database.row(SESSION_BY_ID, {"session_id": session_id})
        return None if row is None else as_session(row)

    async def session_of(self, account_id: str, session_id: str) -> Session | None:
        """By id, if it is the account's."""
        session = await self.session(session_id)
        return session if session is not None and session.account_id == account_id else None

    async def session_token_digest(self, session_id: str) -> bytes | None:
        """SHA-256 of its token."""
        row = await self._database.row(_TOKEN_DIGEST, {"session_id": session_id})
        return None if row is None else row.token_digest

    async def sessions_of(
        self, account_id: str, status: SessionStatus | None, limit: int, offset: int
    ) -> tuple[Sequence[Session], int]:
        """A page of the account's sessions, newest first, and how many there are in all."""
        page, count = (_PAGE, _COUNT) if status is None else (_PAGE_OF_STATUS, _COUNT_OF_STATUS)
        whose = {"account_id": account_id, "status": status}
        if status is None:
            del whose["status"]

        def work(connection: Connection) -> tuple[Sequence[Session], int]:
            rows = connection.execute(page, {**whose, "limit": limit, "offset": offset}).all()
            total = connection.execute(count, whose).scalar_one()
            return [as_session(row) for row in rows], int(total)

        return await self._database.snapshot(work)

    async def running_sessions(self) -> Sequence[Session]:
        """All that are ``started``, oldest first."""
        return [as_session(row) for row in await self._database.rows(_EVERY_STARTED)]

    async def stale_created(self, before: datetime) -> Sequence[Session]:
        """All that are ``created`` since before ``before``, oldest first."""
        query = select_sessions.where(
            sessions.c.status == "created", sessions.c.created_at < before
        ).order_by(sessions.c.created_at, sessions.c.id)
        return [as_session(row) for row in await self._database.rows(query)]

    async def running_count(self, account_id: str) -> int:
        """Sessions of the account that hold a slot."""
        row = await self._database.row(_RUNNING_COUNT, {"account_id": account_id})
        assert row is not None
        return int(row[0])

    async def usage(self, account: Account, plan: Plan, now: datetime) -> Usage:
        """The account's billing period as it stands, running sessions oldest first."""
        start, end = billing_period(account.anchor_day, now)

        def work(connection: Connection) -> tuple[list[Session], Balance, int]:
            rows = connection.execute(_ACTIVE, {"account_id": account.id}).all()
            return (
                [as_session(row) for row in rows],
                balance(connection, account, plan, now),
                avatars_made(connection, account.id, account.anchor_day, now),
            )

        active, before, made = await self._database.snapshot(work)
        active_minutes = sum(minutes_between(session.started_at, now) for session in active)
        from_plan, from_packages = before.split(active_minutes)
        return Usage(
            period_start=start,
            period_end=end,
            included_total=plan.included_minutes,
            included_used=before.charged + from_plan,
            purchased_total=before.purchased_total,
            purchased_remaining=before.purchased_left - from_packages,
            active_minutes=active_minutes,
            active=active,
            avatars_used=made,
        )

    async def totals(self) -> dict[SessionStatus, int]:
        """Sessions by status, for metrics."""
        query = select(sessions.c.status, func.count().label("number")).group_by(sessions.c.status)
        rows = await self._database.rows(query)
        found: dict[SessionStatus, int] = {row.status: row.number for row in rows}
        return {
            "created": found.get("created", 0),
            "started": found.get("started", 0),
            "ended": found.get("ended", 0),
        }


async def open_store(url: str, seal_key: bytes | None = None) -> SqlStore:
    """A store over the database at ``url`` (SQLite or Postgres). Its tables must be there:
    ``migrate`` makes them.

    ``seal_key``: 32 bytes that seal room tokens, the same in every process; None is for commands
    that create no sessions (a key that nobody else has).

    Raises:
        StoreError: the URL cannot be used.
    """
    database = Database(database_url(url))
    return SqlStore(database, RoomCipher(seal_key or secrets.token_bytes(32)))
