"""How sessions come and go: every step that changes who holds a slot or who is billed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from api.records import (
    UNBILLED,
    Account,
    EndReason,
    NewSession,
    Plan,
    QuotaSnapshot,
    RoomOrder,
    Session,
)
from api.store import statements
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
from api.store.room_cipher import RoomCipher
from api.store.rows import SESSION_BY_ID, SESSION_LOCKED, as_session, lock_account

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
    _room_cipher: RoomCipher

    async def create_session(self, new: NewSession, plan: Plan, now: datetime) -> Stored:
        """Store a session if minutes and concurrency allow, atomically with every other create.

        First a repeat is looked for (idempotency key, then fingerprint; an empty fingerprint is
        never a repeat), then minutes are counted, then slots.

        Raises:
            IdempotencyConflict, NoMinutes, ConcurrencyReached.
            ValueError: there is no such account.
        """

        def work(connection: Connection) -> Stored:
            account = lock_account(connection, new.account_id)
            if account is None:
                raise ValueError(f"there is no account {new.account_id!r}")
            first = _first_with_key(connection, account.id, new.idempotency_key, now)
            if first is not None:
                return Stored(_same_request(first, new.request_digest))
            if new.idempotency_key is not None:
                # Another session had it more than a day ago.
                keyed = {"whose": account.id, "key": new.idempotency_key}
                connection.execute(statements.FORGET_KEY, keyed)
            running = _running(connection, account.id)
            for row in running:
                young = now - row.created_at < REPEAT_WINDOW
                if young and new.fingerprint and row.fingerprint == new.fingerprint:
                    found = connection.execute(SESSION_BY_ID, {"session_id": row.id})
                    return Stored(as_session(found.one()))
            # A session that is only created takes no slot yet, but there must be one for it.
            left = _admit(connection, account, plan, running, now)
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
            connection.execute(
                statements.INSERT,
                {
                    **values,
                    "room": self._room_cipher.seal(new.room),
                    "token_digest": new.token_digest,
                    "fingerprint": new.fingerprint,
                    "idempotency_key": new.idempotency_key,
                    "request_digest": new.request_digest,
                },
            )
            return Stored(session, QuotaSnapshot(len(running) + new.start, left))

        return await self._database.write(work)

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

        def work(connection: Connection) -> Session | None:
            first = _first_with_key(connection, account_id, idempotency_key, now)
            if first is not None:
                return _same_request(first, request_digest)
            if not fingerprint:
                return None
            alike = {
                "account_id": account_id,
                "fingerprint": fingerprint,
                "after": now - REPEAT_WINDOW,
            }
            row = connection.execute(statements.ALIKE, alike).first()
            return None if row is None else as_session(row)

        return await self._database.read(work)

    async def start_session(
        self, session_id: str, account_id: str, plan: Plan, now: datetime
    ) -> tuple[Session, bool]:
        """``created`` becomes ``started``; True when this call did it, False when it had been.

        Raises:
            SessionMissing, SessionOver, NoMinutes, ConcurrencyReached.
        """

        def work(connection: Connection) -> tuple[Session, bool]:
            account = lock_account(connection, account_id)
            row = connection.execute(SESSION_LOCKED, {"session_id": session_id}).first()
            if account is None or row is None or row.account_id != account_id:
                raise SessionMissing(session_id)
            session = as_session(row)
            if session.status == "ended":
                raise SessionOver(session_id)
            if session.status == "started":
                return session, False
            running = _running(connection, account.id)
            _admit(connection, account, plan, running, now)
            expires_at = _expiry(plan, session.max_minutes, now)
            connection.execute(
                statements.START,
                {"session_id": session_id, "new_started_at": now, "new_expires_at": expires_at},
            )
            return replace(session, status="started", started_at=now, expires_at=expires_at), True

        return await self._database.write(work)

    async def discard_session(self, session_id: str) -> None:
        """Forget a session no worker took: as if it had never been created. One that a worker took
        or that has ended stays."""
        await self._database.change(statements.DISCARD, {"session_id": session_id})

    async def unstart_session(self, session_id: str) -> None:
        """Back to ``created``: no worker took it, it may be started again."""
        await self._database.change(statements.UNSTART, {"session_id": session_id})

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
        values = {
            "session_id": session_id,
            "new_worker": worker,
            "new_instance": instance,
            "new_ws_uri": ws_uri,
            "new_watch_uri": watch_uri,
            "new_seen_at": now,
        }
        return await self._database.change(statements.PLACE, values) == 1

    async def room_of(self, session_id: str) -> RoomOrder | None:
        """The room a session is to join; None once it was placed or has ended.

        Raises:
            StoreError: the installation's secret was changed since the session was created.
        """
        row = await self._database.row(statements.ROOM, {"session_id": session_id})
        return None if row is None else self._room_cipher.open(row.platform, row.room)

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
        values = {
            "session_id": session_id,
            "new_seen_at": now,
            "new_ready_at": now if ready else None,
            "new_instance": instance,
            "new_ws_uri": ws_uri,
            "new_watch_uri": watch_uri,
        }
        await self._database.change(statements.SEEN, values)

    async def end_session(
        self, session_id: str, reason: EndReason, plan: Plan, now: datetime
    ) -> Session | None:
        """End and bill it, once, however often it is called.

        The billed time is from ``started_at`` to ``now``, its whole seconds rounded up to minutes;
        none for reasons in ``UNBILLED``, nor for a session that never was in its room and ends in
        ``server_error``. None: it had ended (or never started, unless the reason is
        ``never_started``), and nothing changed. End and charges are one transaction.
        """

        def work(connection: Connection) -> Session | None:
            whose = {"session_id": session_id}
            account_id = connection.execute(statements.WHOSE, whose).scalar_one_or_none()
            if account_id is None:
                return None
            # The account first, as everywhere: two ends can not wait for each other.
            account = lock_account(connection, account_id)
            row = connection.execute(SESSION_LOCKED, whose).first()
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
            bill = charge(connection, account, plan, session.id, used, ended_at)
            connection.execute(
                statements.END,
                {
                    "session_id": session_id,
                    "new_ended_at": ended_at,
                    "new_end_reason": reason,
                    "new_minutes_used": bill.minutes_used,
                    "new_from_plan": bill.from_plan,
                    "new_from_purchased": bill.from_purchased,
                },
            )
            return replace(session, status="ended", ended_at=ended_at, end_reason=reason, bill=bill)

        return await self._database.write(work)


def _first_with_key(
    connection: Connection, account_id: str, key: str | None, now: datetime
) -> Row[Any] | None:
    """The account's session with this idempotency key, while that is kept."""
    if key is None:
        return None
    keyed = {"whose": account_id, "key": key}
    row = connection.execute(statements.FIRST_WITH_KEY, keyed).first()
    return row if row is not None and now - row.created_at < IDEMPOTENCY_KEPT else None


def _same_request(row: Row[Any], request_digest: str) -> Session:
    if row.request_digest != request_digest:
        raise IdempotencyConflict(row.idempotency_key)
    return as_session(row)


def _running(connection: Connection, account_id: str) -> Sequence[Row[Any]]:
    """What is needed to know of the account's sessions that hold a slot."""
    return connection.execute(statements.RUNNING, {"account_id": account_id}).all()


def _admit(
    connection: Connection,
    account: Account,
    plan: Plan,
    running: Sequence[Row[Any]],
    now: datetime,
) -> int | None:
    """The minutes left; None: unlimited. Raises ``NoMinutes``, then ``ConcurrencyReached``."""
    left = None
    if plan.included_minutes is not None:
        used = sum(minutes_between(row.started_at, now) for row in running)
        left = balance(connection, account, plan, now).left(used)
        if left == 0:
            raise NoMinutes
    if len(running) >= plan.concurrency:
        raise ConcurrencyReached(len(running), plan.concurrency)
    return left


def _expiry(plan: Plan, own: int | None, now: datetime) -> datetime | None:
    limits = [limit for limit in (plan.session_minutes, own) if limit is not None]
    return now + timedelta(minutes=min(limits)) if limits else None
