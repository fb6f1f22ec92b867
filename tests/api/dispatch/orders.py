"""Orders and stored sessions, as the dispatchers' tests need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from api.dispatch.port import Order, Placement, RoomToJoin
from api.records import Session
from tests.fakes.resident import photo

TOKEN = "session_token_of_the_dispatch_tests"


def order(session_id: str = "sess_1", **changes: Any) -> Order:
    """A session in a ``local`` room."""
    facts: dict[str, Any] = {
        "session_id": session_id,
        "session_token": TOKEN,
        "aspect_ratio": "1:1",
        "room": RoomToJoin("local"),
        "portrait": photo(),
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
        "metadata": {"who": "Ada"},
    }
    return Order(**{**facts, **changes})


def stored(placement: Placement, session_id: str = "sess_1", **changes: Any) -> Session:
    """The session as the store keeps it once it was placed."""
    now = datetime.now(UTC)
    facts: dict[str, Any] = {
        "id": session_id,
        "account_id": "acct_1",
        "avatar_id": "avat_1",
        "status": "started",
        "aspect_ratio": "1:1",
        "platform": "local",
        "metadata": {},
        "created_at": now,
        "started_at": now,
        "worker": placement.worker,
        "instance": placement.instance,
        "ws_uri": placement.ws_uri,
        "watch_uri": placement.watch_uri,
    }
    return Session(**{**facts, **changes})
