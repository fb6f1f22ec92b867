"""The store in SQLite or Postgres."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, func, select

from api.records import Account, Plan, Session, SessionStatus, Usage
from api.store.accounts import AccountTables
from api.store.avatars import AvatarTables, avatars_made
from api.store.engine import Database, database_url
from api.store.ledger import LARGEST_GRANT, balance, grant
from api.store.migrate import require_current
from api.store.periods import billing_period
from api.store.rows import SESSION_BY_ID, as_session, lock_account, select_sessions
from api.store.sealing import Sealer
from api.store.sessions import SessionTables, minutes_between
from api.store.tables import sessions

_NO_PLAN = Plan("", "", 1, None, None, None, False)

_started = (sessions.c.account_id == bindparam("account_id")) & (sessions.c.status == "started")
_RUNNING_COUNT = select(func.count()).select_from(sessions).where(_started)
_ACTIVE = select_sessions.where(_started).order_by(sessions.c.created_at, sessions.c.id)
_TOKEN_DIGEST = select(sessions.c.token_digest).where(sessions.c.id == bindparam("session_id"))


class SqlStore(AccountTables, SessionTables, AvatarTables):
    """``api.store.port.Store`` over SQLAlchemy. Belongs to the event loop it was opened in."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

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
        async with self._database.writing() as connection:
            account = await lock_account(connection, account_id)
            if account is None:
                raise ValueError(f"there is no account {account_id!r}")
            await grant(connection, account, minutes, note, now)
            return (await balance(connection, account, _NO_PLAN, now)).purchased_left

    async def session(self, session_id: str) -> Session | None:
        """By id, whoever's."""
        async with self._database.reading() as connection:
            row = (await connection.execute(SESSION_BY_ID, {"session_id": session_id})).first()
        return None if row is None else as_session(row)

    async def session_of(self, account_id: str, session_id: str) -> Session | None:
        """By id, if it is the account's."""
        session = await self.session(session_id)
        return session if session is not None and session.account_id == account_id else None

    async def session_token_digest(self, session_id: str) -> bytes | None:
        """SHA-256 of its token."""
        async with self._database.reading() as connection:
            found = await connection.execute(_TOKEN_DIGEST, {"session_id": session_id})
            digest: bytes | None = found.scalar_one_or_none()
        return digest

    async def sessions_of(
        self, account_id: str, status: SessionStatus | None, limit: int, offset: int
    ) -> tuple[Sequence[Session], int]:
        """A page of the account's sessions, newest first, and how many there are in all."""
        condition = sessions.c.account_id == account_id
        if status is not None:
            condition &= sessions.c.status == status
        page = (
            select_sessions.where(condition)
            .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
            .limit(limit)
            .offset(offset)
        )
        count = select(func.count()).select_from(sessions).where(condition)
        async with self._database.snapshot() as connection:
            rows = (await connection.execute(page)).all()
            total = int((await connection.execute(count)).scalar_one())
        return [as_session(row) for row in rows], total

    async def running_sessions(self) -> Sequence[Session]:
        """All that are ``started``, oldest first."""
        return await self._many(sessions.c.status == "started")

    async def stale_created(self, before: datetime) -> Sequence[Session]:
        """All that are ``created`` since before ``before``, oldest first."""
        return await self._many((sessions.c.status == "created") & (sessions.c.created_at < before))

    async def running_count(self, account_id: str) -> int:
        """Sessions of the account that hold a slot."""
        async with self._database.reading() as connection:
            found = await connection.execute(_RUNNING_COUNT, {"account_id": account_id})
            return int(found.scalar_one())

    async def usage(self, account: Account, plan: Plan, now: datetime) -> Usage:
        """The account's billing period as it stands, running sessions oldest first."""
        start, end = billing_period(account.anchor_day, now)
        async with self._database.snapshot() as connection:
            rows = (await connection.execute(_ACTIVE, {"account_id": account.id})).all()
            active = [as_session(row) for row in rows]
            before = await balance(connection, account, plan, now)
            made = await avatars_made(connection, account.id, account.anchor_day, now)
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
        query = select(sessions.c.status, func.count()).group_by(sessions.c.status)
        async with self._database.reading() as connection:
            found = {row[0]: row[1] for row in (await connection.execute(query)).all()}
        return {
            "created": found.get("created", 0),
            "started": found.get("started", 0),
            "ended": found.get("ended", 0),
        }

    async def _many(self, condition: ColumnElement[bool]) -> Sequence[Session]:
        query = select_sessions.where(condition).order_by(sessions.c.created_at, sessions.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [as_session(row) for row in rows]


async def open_store(url: str, seal_key: bytes | None = None) -> SqlStore:
    """A store over the database at ``url`` (SQLite or Postgres). Its tables must be there:
    ``migrate`` makes them.

    ``seal_key``: 32 bytes that seal room tokens, the same in every process; None is for commands
    that create no sessions (a key that nobody else has).

    Raises:
        StoreError: the URL cannot be used.
    """
    database = Database(database_url(url))
    return SqlStore(database, Sealer(seal_key or secrets.token_bytes(32)))
