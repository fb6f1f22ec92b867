"""What can be seen of a room's access token without its key."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime


def expired(token: str, now: datetime | None = None) -> bool:
    """Whether a JSON Web Token's ``exp`` is past. False for anything that cannot be read: whether
    a token is any good is for the room's server to say."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) <= (now or datetime.now(UTC)).timestamp()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError):
        return False
