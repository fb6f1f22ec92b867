"""How sessions come and go: every step that changes who holds a slot or who is billed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.records import UNBILLED, Account, EndReason, NewSession, Plan, RoomOrder, Session
from api.store.engine import Database
from api.store.ledger import balance, charge
from api.store.port import (
    ConcurrencyReached,
    IdempotencyConflict,
    NoMinutes,
    SessionMissing,
    SessionOver,
    Stored,
)
from api.store.rows import as_session, lock_account, select_sessions
from api.store.sealing import Sealer
from api.store.tables import sessions

IDEMPOTENCY_KEPT = timedelta(hours=24)
"""How long an idempotency key answers with its first session."""

REPEAT_WINDOW = timedelta(seconds=60)
"""How young a started session must be for the same create to be taken for a retry."""


def minutes_between(start: datetime | None, end: datetime) -> int:
    """What a session costs that ran from ``start`` to ``end``: its whole seconds (those the API
    shows as its duration), rounded up to minutes. 0 when it never started."""
    if start is None:
        return 0
    return max(0, -(-int((end - start).total_seconds()) // 60))


class SessionTables:
    """The store's part for the life of a session."""

    _database: Database
    _sealer: Sealer

    async def create_session(self, new: NewSession, plan: Plan, now: datetime) -> Stored:
        """Store a session if minutes and concurrency allow, atomically with every other create.

        First a repeat is looked for (idempotency key, then fingerprint; an empty fingerprint is
        never a repeat), then minutes are counted, then slots.

        Raises:
            IdempotencyConflict, NoMinutes, ConcurrencyReached.
            ValueError: there is no such account.
        """
        async with self._database.writing() as connection:
            account = await lock_account(connection, new.account_id)
            if account is None:
                raise ValueError(f"there is no account {new.account_id!r}")
            first = await _first_with_key(connection, new, now)
            if first is not None:
                return Stored(first, new=False)
            running = await _running(connection, account.id)
            for row in running:
                young = now - row.created_at < REPEAT_WINDOW
                if young and new.fingerprint and row.fingerprint == new.fingerprint:
                    query = select_sessions.where(sessions.c.id == row.id)
                    first = as_session((await connection.execute(query)).one())
                    return Stored(first, new=False)
            # A session that is only created takes no slot yet, but there must be one for it.
            await _admit(connection, account, plan, running, now)
            session = Session(
                id=new.id,
                account_id=new.account_id,
                avatar_id=new.avatar_id,
                status="started" if new.start else "created",
                aspect_ratio=new.aspect_ratio,
                platform=new.room.platform,
                metadata=new.metadata,
                created_at=now,
                started_at=now if new.start else None,
                expires_at=_expiry(plan, new.max_minutes, now) if new.start else None,
                max_minutes=new.max_minutes,
            )
            values = {name: value for name, value in vars(session).items() if name != "bill"}
            await connection.execute(
                insert(sessions),
                {
                    **values,
                    "room": self._sealer.seal(new.room),
                    "token_digest": new.token_digest,
                    "fingerprint": new.fingerprint,
                    "idempotency_key": new.idempotency_key,
                    "request_digest": new.request_digest,
                },
            )
        return Stored(session, new=True)

    async def repeated_session(
        self,
        account_id: str,
        fingerprint: str,
        idempotency_key: str | None,
        request_digest: str,
        now: datetime,
    ) -> Session | None:
        """The session ``create_session`` would return for a repeated request; None: the request is
        no repetition. Only looks.

        Raises:
            IdempotencyConflict.
        """
        async with self._database.reading() as connection:
            if idempotency_key is not None:
                query = select_sessions.add_columns(sessions.c.request_digest).where(
                    sessions.c.account_id == account_id,
                    sessions.c.idempotency_key == idempotency_key,
                    sessions.c.created_at > now - IDEMPOTENCY_KEPT,
                )
                row = (await connection.execute(query)).first()
                if row is not None:
                    if row.request_digest != request_digest:
                        raise IdempotencyConflict(idempotency_key)
                    return as_session(row)
            if not fingerprint:
                return None
            query = select_sessions.where(
                sessions.c.account_id == account_id,
                sessions.c.status == "started",
                sessions.c.fingerprint == fingerprint,
                sessions.c.created_at > now - REPEAT_WINDOW,
            )
            row = (await connection.execute(query.order_by(sessions.c.created_at))).first()
        return None if row is None else as_session(row)

    async def start_session(
        self, session_id: str, account_id: str, plan: Plan, now: datetime
    ) -> tuple[Session, bool]:
        """``created`` becomes ``started``; True when this call did it, False when it had been.

        Raises:
            SessionMissing, SessionOver, NoMinutes, ConcurrencyReached.
        """
        async with self._database.writing() as connection:
            account = await lock_account(connection, account_id)
            query = select_sessions.where(
                sessions.c.id == session_id, sessions.c.account_id == account_id
            )
            row = (await connection.execute(query.with_for_update())).first()
            if account is None or row is None:
                raise SessionMissing(session_id)
            session = as_session(row)
            if session.status == "ended":
                raise SessionOver(session_id)
            if session.status == "started":
                return session, False
            running = await _running(connection, account.id)
            await _admit(connection, account, plan, running, now)
            started = (
                await connection.execute(
                    update(sessions)
                    .where(sessions.c.id == session_id)
                    .values(
                        status="started",
                        started_at=now,
                        expires_at=_expiry(plan, session.max_minutes, now),
                    )
                    .returning(*select_sessions.selected_columns)
                )
            ).one()
        return as_session(started), True

    async def discard_session(self, session_id: str) -> None:
        """Forget a session no worker took: as if it had never been created. One that a worker took
        or that has ended stays."""
        statement = delete(sessions).where(
            sessions.c.id == session_id, sessions.c.status != "ended", sessions.c.worker.is_(None)
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def unstart_session(self, session_id: str) -> None:
        """Back to ``created``: no worker took it, it may be started again."""
        statement = (
            update(sessions)
            .where(
                sessions.c.id == session_id,
                sessions.c.status == "started",
                sessions.c.worker.is_(None),
            )
            .values(status="created", started_at=None, expires_at=None)
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def place_session(
        self,
        session_id: str,
        worker: str,
        instance: str | None,
        ws_uri: str | None,
        watch_uri: str | None,
        now: datetime,
    ) -> bool:
        """Note who runs it. The room's address and token are forgotten. False: it has ended
        meanwhile (or was discarded), and the worker is to be told."""
        statement = (
            update(sessions)
            .where(sessions.c.id == session_id, sessions.c.status == "started")
            .values(
                worker=worker,
                instance=instance,
                ws_uri=ws_uri,
                watch_uri=watch_uri,
                seen_at=now,
                room=None,
            )
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def room_of(self, session_id: str) -> RoomOrder | None:
        """The room a session shall join; None once it was placed or has ended.

        Raises:
            StoreError: the installation's secret was changed since the session was created.
        """
        query = select(sessions.c.platform, sessions.c.room).where(
            sessions.c.id == session_id, sessions.c.status != "ended", sessions.c.worker.is_(None)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else self._sealer.open(row.platform, row.room)

    async def note_seen(
        self,
        session_id: str,
        now: datetime,
        *,
        ready: bool = False,
        instance: str | None = None,
        ws_uri: str | None = None,
        watch_uri: str | None = None,
    ) -> None:
        """Its worker has it. What is not None replaces what was None before; the first ``ready``
        sets ``ready_at``. Nothing happens to a session that has ended."""
        known = {"instance": instance, "ws_uri": ws_uri, "watch_uri": watch_uri}
        if ready:
            known["ready_at"] = now  # type: ignore[assignment]
        values: dict[str, Any] = {
            name: func.coalesce(sessions.c[name], value)
            for name, value in known.items()
            if value is not None
        }
        statement = (
            update(sessions)
            .where(sessions.c.id == session_id, sessions.c.status == "started")
            .values(seen_at=now, **values)
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def end_session(
        self, session_id: str, reason: EndReason, plan: Plan, now: datetime
    ) -> Session | None:
        """End and bill it, once, whoever calls how often.

        The billed time is from ``started_at`` to ``now``, its whole seconds rounded up to minutes;
        none for reasons in ``UNBILLED``, nor for a session that never was in its room and ends in
        ``server_error``. None: it had ended (or never started, unless the reason is
        ``never_started``), and nothing changed. End and charges are one transaction.
        """
        async with self._database.writing() as connection:
            whose = select(sessions.c.account_id).where(sessions.c.id == session_id)
            account_id = (await connection.execute(whose)).scalar_one_or_none()
            if account_id is None:
                return None
            # The account first, as everywhere: two ends can not wait for each other.
            account = await lock_account(connection, account_id)
            query = select_sessions.where(sessions.c.id == session_id).with_for_update()
            row = (await connection.execute(query)).first()
            if account is None or row is None:
                return None
            session = as_session(row)
            allowed = session.status == "started" or (
                session.status == "created" and reason == "never_started"
            )
            if not allowed:
                return None
            # A worker's clock may be behind ours.
            ended_at = max(now, session.started_at or now)
            unserved = reason == "server_error" and session.ready_at is None
            used = (
                0
                if reason in UNBILLED or unserved
                else minutes_between(session.started_at, ended_at)
            )
            bill = await charge(connection, account, plan, session.id, used, ended_at)
            ended = (
                await connection.execute(
                    update(sessions)
                    .where(sessions.c.id == session_id, sessions.c.status != "ended")
                    .values(
                        status="ended",
                        ended_at=ended_at,
                        end_reason=reason,
                        minutes_used=bill.minutes_used,
                        from_plan=bill.from_plan,
                        from_purchased=bill.from_purchased,
                        room=None,
                    )
                    .returning(*select_sessions.selected_columns)
                )
            ).one()
        return as_session(ended)


async def _first_with_key(
    connection: AsyncConnection, new: NewSession, now: datetime
) -> Session | None:
    if new.idempotency_key is None:
        return None
    mine = (sessions.c.account_id == new.account_id) & (
        sessions.c.idempotency_key == new.idempotency_key
    )
    query = select_sessions.add_columns(sessions.c.request_digest).where(mine)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    values = row._mapping
    if now - values["created_at"] >= IDEMPOTENCY_KEPT:
        await connection.execute(update(sessions).where(mine).values(idempotency_key=None))
        return None
    if values["request_digest"] != new.request_digest:
        raise IdempotencyConflict(new.idempotency_key)
    return as_session(row)


async def _running(connection: AsyncConnection, account_id: str) -> Sequence[Row[Any]]:
    """What is needed to know of the account's sessions that hold a slot."""
    query: Select[Any] = select(
        sessions.c.id, sessions.c.created_at, sessions.c.started_at, sessions.c.fingerprint
    ).where(sessions.c.account_id == account_id, sessions.c.status == "started")
    return (await connection.execute(query)).all()


async def _admit(
    connection: AsyncConnection,
    account: Account,
    plan: Plan,
    running: Sequence[Row[Any]],
    now: datetime,
) -> None:
    """Raises ``NoMinutes``, then ``ConcurrencyReached``."""
    if plan.included_minutes is not None:
        used = sum(minutes_between(row.started_at, now) for row in running)
        if (await balance(connection, account, plan, now)).left(used) == 0:
            raise NoMinutes
    if len(running) >= plan.concurrency:
        raise ConcurrencyReached(len(running), plan.concurrency)


def _expiry(plan: Plan, own: int | None, now: datetime) -> datetime | None:
    limits = [limit for limit in (plan.session_minutes, own) if limit is not None]
    return now + timedelta(minutes=min(limits)) if limits else None
