"""The tables: what is kept, and by which index it is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

from api.records import Bill, Session


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: aware in Python, UTC in the database (SQLite knows no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raises ``ValueError`` for a naive time, whose zone nobody could know later."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; pass aware datetimes")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None] | None:
        """SQLite's text is read in one step: a page of sessions holds hundreds of times."""
        if dialect.name == "sqlite":
            return _from_text
        return super().result_processor(dialect, coltype)


def _from_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")


class SafeText(TypeDecorator[str]):
    """Text that may come from outside: ids in paths, keys in headers.

    What no database can hold (a NUL, half a surrogate pair) is replaced, so that asking for such an
    id finds nothing instead of failing.
    """

    impl = String()
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Text that can be stored."""
        if value is None:
            return None
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("name", SafeText, nullable=False, unique=True),
    Column("plan_key", SafeText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("anchor_day", Integer),
    CheckConstraint("anchor_day BETWEEN 1 AND 28", name="anchor_day"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("account_id", SafeText, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", SafeText, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", SafeText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

avatars = Table(
    "avatars",
    metadata,
    Column("id", SafeText, primary_key=True),
    # None: public.
    Column("account_id", SafeText, ForeignKey("accounts.id")),
    Column("ratio", SafeText, nullable=False),
    Column("digest", SafeText, nullable=False),
    Column("original_key", SafeText, nullable=False),
    Column("image_key", SafeText, nullable=False),
    Column("preview_key", SafeText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # A deleted avatar still counts as made in its period.
    Column("deleted_at", UtcDateTime),
    Index(None, "account_id", "created_at"),
    Index(None, "account_id", "digest"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("account_id", SafeText, ForeignKey("accounts.id"), nullable=False),
    # No foreign key: every create would lock the row of an avatar that everybody uses.
    Column("avatar_id", SafeText, nullable=False),
    Column("status", SafeText, nullable=False),
    Column("aspect_ratio", SafeText, nullable=False),
    Column("platform", SafeText, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("ready_at", UtcDateTime),
    Column("seen_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("end_reason", SafeText),
    Column("minutes_used", Integer),
    Column("from_plan", Integer),
    Column("from_purchased", Integer),
    Column("worker", SafeText),
    Column("instance", SafeText),
    Column("ws_uri", SafeText),
    Column("watch_uri", SafeText),
    Column("max_minutes", Integer),
    # Address and token of the room, sealed; forgotten once a worker has them.
    Column("room", LargeBinary),
    Column("token_digest", LargeBinary, nullable=False),
    Column("fingerprint", SafeText, nullable=False),
    Column("idempotency_key", SafeText),
    Column("request_digest", SafeText, nullable=False),
    CheckConstraint("status IN ('created', 'started', 'ended')", name="status"),
    UniqueConstraint("account_id", "idempotency_key"),
    Index(None, "status", "created_at"),
    Index(None, "account_id", "status"),
    Index(None, "account_id", "created_at", "id"),
)

SESSION_COLUMNS = tuple(sessions.c[name] for name in Session.__dataclass_fields__ if name != "bill")
BILL_COLUMNS = tuple(sessions.c[name] for name in Bill.__dataclass_fields__)
"""What makes a ``Session`` and its ``Bill``, in their fields' order: neither the room nor a digest
ever leaves with one."""

minutes = Table(
    # The ledger: rows are added, never changed. What is left is always their sum.
    "minutes",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("account_id", SafeText, ForeignKey("accounts.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    # grant: a package was bought; plan, package: a session was charged to either.
    Column("kind", SafeText, nullable=False),
    # Grants above zero, charges below.
    Column("minutes", Integer, nullable=False),
    # The package's id (that of its grant), or "plan".
    Column("source", SafeText, nullable=False),
    Column("session_id", SafeText, ForeignKey("sessions.id")),
    Column("note", SafeText, nullable=False),
    CheckConstraint(
        "(kind = 'grant' AND minutes > 0 AND session_id IS NULL)"
        " OR (kind IN ('plan', 'package') AND minutes < 0 AND session_id IS NOT NULL)",
        name="sign",
    ),
    # However often a session is ended, it is charged to each source once.
    UniqueConstraint("session_id", "source"),
    # Holds all that the sums need, so that they never touch the table.
    Index(None, "account_id", "kind", "at", "minutes"),
)

preview_links = Table(
    "preview_links",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("account_id", SafeText, ForeignKey("accounts.id"), nullable=False),
    Column("avatar_id", SafeText, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("used_at", UtcDateTime),
)
