"""The store port: every method is one transaction, safe from any number of processes at once.

Time is an argument (``now``), never read inside, so that tests run on a fake clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from api.records import (
    Account,
    ApiKey,
    Avatar,
    EndReason,
    NewSession,
    Plan,
    QuotaSnapshot,
    RoomOrder,
    Session,
    SessionStatus,
    Usage,
)


class ConcurrencyReached(Exception):
    """The plan's number of sessions is running."""

    def __init__(self, current: int, maximum: int) -> None:
        super().__init__(f"{current} of {maximum} sessions are running")
        self.current = current
        self.maximum = maximum


class NoMinutes(Exception):
    """The account has no minutes left."""


class IdempotencyConflict(Exception):
    """The idempotency key was used with another request."""


class AvatarLimitReached(Exception):
    """The plan's number of avatars was made in this billing period."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(f"{used} of {limit} avatars were made")
        self.limit = limit
        self.used = used


class SessionMissing(Exception):
    """No such session, or it is another account's."""


class SessionOver(Exception):
    """The session has ended."""


@dataclass(frozen=True)
class Stored:
    """What a create came to."""

    session: Session
    quota: QuotaSnapshot | None = None
    """None: the answer to a repeated request; ``session`` is the first one's."""

    @property
    def new(self) -> bool:
        """Whether this call created it."""
        return self.quota is not None


class Store(Protocol):
    """Accounts, avatars, sessions and their minutes."""

    async def check(self) -> None:
        """Raise when the database does not answer or its schema is not the current one."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...

    # Accounts and keys

    async def create_account(
        self, name: str, plan_key: str, now: datetime, anchor_day: int | None = None
    ) -> Account:
        """A new account. Raises ``ValueError`` when the name is taken."""
        ...

    async def account(self, account_id: str) -> Account | None:
        """By id."""
        ...

    async def account_named(self, name: str) -> Account | None:
        """By name."""
        ...

    async def accounts(self) -> Sequence[Account]:
        """All, oldest first."""
        ...

    async def create_key(
        self,
        account_id: str,
        name: str,
        now: datetime,
        *,
        test: bool = False,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret text, which is stored nowhere: ``ah_live_`` or ``ah_test_`` and
        32 random characters."""
        ...

    async def find_key(self, text: str) -> tuple[ApiKey, Account] | None:
        """The key with this secret text, revoked and expired ones too; compared in constant
        time."""
        ...

    async def keys(self, account_id: str) -> Sequence[ApiKey]:
        """An account's keys, oldest first."""
        ...

    async def revoke_key(self, key_id: str, now: datetime) -> bool:
        """From now on the key is refused. False: no such key."""
        ...

    async def grant_minutes(self, account_id: str, minutes: int, note: str, now: datetime) -> int:
        """Add a package of purchased minutes; returns the account's purchased minutes left."""
        ...

    # Sessions

    async def create_session(self, new: NewSession, plan: Plan, now: datetime) -> Stored:
        """Store a session if minutes and concurrency allow, atomically with every other create.

        A repeated idempotency key (24 h), or the same fingerprint as a session of this account
        that is ``started`` and younger than 60 s, returns that session instead. With ``new.start``
        it is ``started`` at ``now`` and expires after the plan's (or its own) limit.

        Raises:
            IdempotencyConflict, NoMinutes, ConcurrencyReached.
        """
        ...

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
        ...

    async def start_session(
        self, session_id: str, account_id: str, plan: Plan, now: datetime
    ) -> tuple[Session, bool]:
        """``created`` becomes ``started``; True when this call did it, False when it had been.

        Raises:
            SessionMissing, SessionOver, NoMinutes, ConcurrencyReached.
        """
        ...

    async def discard_session(self, session_id: str) -> None:
        """Forget a session no worker took: as if it had never been created."""
        ...

    async def unstart_session(self, session_id: str) -> None:
        """Back to ``created``: no worker took it, it may be started again."""
        ...

    async def place_session(
        self,
        session_id: str,
        worker: str,
        instance: str | None,
        ws_uri: str | None,
        watch_uri: str | None,
        now: datetime,
    ) -> bool:
        """Note who runs it. The room's token is forgotten. False: it has ended meanwhile (or was
        discarded), and the worker is to be told."""
        ...

    async def room_of(self, session_id: str) -> RoomOrder | None:
        """The room a ``created`` session is to join; None once it was placed."""
        ...

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
        ...

    async def end_session(
        self, session_id: str, reason: EndReason, plan: Plan, now: datetime
    ) -> Session | None:
        """End and bill it, once, however often it is called: the billed time is from ``started_at``
        to ``now``, rounded up to minutes, included minutes first, then packages oldest first; none
        for reasons in ``UNBILLED``, nor for a session that never was in its room and ends in
        ``server_error``. None: it had ended (or never started, unless the reason is
        ``never_started``), and nothing changed."""
        ...

    async def session(self, session_id: str) -> Session | None:
        """By id, of any account."""
        ...

    async def session_token_digest(self, session_id: str) -> bytes | None:
        """SHA-256 of its token."""
        ...

    async def session_of(self, account_id: str, session_id: str) -> Session | None:
        """By id, if it is the account's."""
        ...

    async def sessions_of(
        self, account_id: str, status: SessionStatus | None, limit: int, offset: int
    ) -> tuple[Sequence[Session], int]:
        """A page of the account's sessions, newest first, and how many there are in all."""
        ...

    async def running_sessions(self) -> Sequence[Session]:
        """All that are ``started``, oldest first."""
        ...

    async def stale_created(self, before: datetime) -> Sequence[Session]:
        """All that are ``created`` since before ``before``."""
        ...

    async def running_count(self, account_id: str) -> int:
        """Sessions of the account that hold a slot."""
        ...

    async def usage(self, account: Account, plan: Plan, now: datetime) -> Usage:
        """The account's billing period as it stands."""
        ...

    async def totals(self) -> dict[SessionStatus, int]:
        """Sessions by status, for metrics."""
        ...

    # Avatars

    async def add_avatar(self, avatar: Avatar, plan: Plan, now: datetime) -> Avatar:
        """Store it, if the plan's number for this period allows, atomically. The same digest for
        the same account returns the avatar there is. Raises ``AvatarLimitReached``."""
        ...

    async def avatar(self, avatar_id: str) -> Avatar | None:
        """By id; deleted ones are None."""
        ...

    async def avatar_with_digest(self, account_id: str, digest: str) -> Avatar | None:
        """The account's avatar made of the same bytes."""
        ...

    async def avatars_of(self, account_id: str | None) -> Sequence[Avatar]:
        """An account's avatars, or the public ones, newest first."""
        ...

    async def delete_avatar(self, avatar_id: str, now: datetime) -> bool:
        """From now on nobody finds it; running sessions keep theirs. False: no such avatar."""
        ...

    # Preview links

    async def create_preview(
        self, link_id: str, account_id: str, avatar_id: str, expires_at: datetime
    ) -> None:
        """A link that works once."""
        ...

    async def preview(self, link_id: str, now: datetime) -> tuple[str, str] | None:
        """Account id and avatar id; None when it is unknown, used or expired. Only looks."""
        ...

    async def use_preview(self, link_id: str, now: datetime) -> tuple[str, str] | None:
        """The same, and marks it used: of several callers at once, one gets it."""
        ...

    async def return_preview(self, link_id: str) -> None:
        """It was used in vain (no worker was free, say): until it expires it works again."""
        ...
