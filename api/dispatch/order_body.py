"""An order as a worker reads it: the body of its ``POST /sessions``, and the input of a job."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from api.dispatch.port import Order, RoomToJoin


def order_body(order: Order) -> dict[str, Any]:
    """JSON of ``order``. It holds the session's and the room's token: never log it."""
    body: dict[str, Any] = {
        "session_id": order.session_id,
        "session_token": order.session_token,
        "aspect_ratio": order.aspect_ratio,
        "room": _room(order.room),
        "avatar": {"image_base64": image_text(order.portrait)},
        "metadata": dict(order.metadata),
    }
    if order.expires_at is not None:
        body["expires_at"] = _exact(order.expires_at)
    return body


def image_text(image: bytes) -> str:
    """An encoded image as base64."""
    return base64.b64encode(image).decode("ascii")


def _room(room: RoomToJoin) -> dict[str, Any]:
    if room.platform == "local":
        return {"platform": "whep"}
    body: dict[str, Any] = {"platform": room.platform, "url": room.url, "token": room.token}
    if room.platform == "daily":
        body["user_name"] = room.user_name
    return body


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
