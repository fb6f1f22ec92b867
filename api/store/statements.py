"""What is said to the database in the life of a session, built once (see ``api.store.rows``).

Parameters: ``session_id``, ``account_id``, and ``new_<column>`` for what is set.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, insert, select, update

from api.store.rows import select_sessions
from api.store.tables import sessions

_ID = sessions.c.id == bindparam("session_id")
_STARTED = sessions.c.status == "started"
_UNPLACED = sessions.c.worker.is_(None)


def _set(*names: str) -> dict[str, ColumnElement[Any]]:
    """Columns to be set to the parameters ``new_<column>``."""
    return {name: bindparam(f"new_{name}", type_=sessions.c[name].type) for name in names}


def _fill(*names: str) -> dict[str, ColumnElement[Any]]:
    """The same for columns that keep what they have."""
    return {name: func.coalesce(sessions.c[name], value) for name, value in _set(*names).items()}


INSERT = insert(sessions)
WHOSE = select(sessions.c.account_id).where(_ID)
RUNNING: Select[Any] = select(
    sessions.c.id, sessions.c.created_at, sessions.c.started_at, sessions.c.fingerprint
).where(sessions.c.account_id == bindparam("account_id"), _STARTED)
_KEYED = (sessions.c.account_id == bindparam("whose")) & (
    sessions.c.idempotency_key == bindparam("key")
)
FIRST_WITH_KEY = select_sessions.add_columns(
    sessions.c.request_digest, sessions.c.idempotency_key
).where(_KEYED)
ALIKE = select_sessions.where(
    sessions.c.account_id == bindparam("account_id"),
    _STARTED,
    sessions.c.fingerprint == bindparam("fingerprint"),
    sessions.c.created_at > bindparam("after"),
).order_by(sessions.c.created_at)
FORGET_KEY = update(sessions).where(_KEYED).values(idempotency_key=None)
START = update(sessions).where(_ID).values(status="started", **_set("started_at", "expires_at"))
UNSTART = (
    update(sessions)
    .where(_ID, _STARTED, _UNPLACED)
    .values(status="created", started_at=None, expires_at=None)
)
DISCARD = delete(sessions).where(_ID, sessions.c.status != "ended", _UNPLACED)
PLACE = (
    update(sessions)
    .where(_ID, _STARTED)
    .values(room=None, **_set("worker", "instance", "ws_uri", "watch_uri", "seen_at"))
)
ROOM = select(sessions.c.platform, sessions.c.room).where(
    _ID, sessions.c.status != "ended", _UNPLACED
)
SEEN = (
    update(sessions)
    .where(_ID, _STARTED)
    .values(**_set("seen_at"), **_fill("ready_at", "instance", "ws_uri", "watch_uri"))
)
END = (
    update(sessions)
    .where(_ID, sessions.c.status != "ended")
    .values(
        status="ended",
        room=None,
        **_set("ended_at", "end_reason", "minutes_used", "from_plan", "from_purchased"),
    )
)
