"""An order as a worker reads it: the body of its ``POST /sessions``, and the input of a job."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from api.dispatch.port import Order, RoomToJoin
from api.records import AspectRatio

KEPT_TEXTS = 16
"""Portraits whose base64 is kept, those used last: about 8 MB."""


def order_body(order: Order) -> dict[str, Any]:
    """JSON of ``order``. It holds the session's and the room's token: never log it."""
    return {**_without_portrait(order), "avatar": {"image_base64": image_text(order.portrait)}}


def order_json(order: Order) -> bytes:
    """The same, encoded."""
    return _with_portrait(_without_portrait(order), order.portrait)


def portrait_json(portrait: bytes, aspect_ratio: AspectRatio) -> bytes:
    """The body of a worker's ``POST /portraits``, encoded."""
    return _with_portrait({"aspect_ratio": aspect_ratio}, portrait)


def _without_portrait(order: Order) -> dict[str, Any]:
    body: dict[str, Any] = {
        "session_id": order.session_id,
        "session_token": order.session_token,
        "aspect_ratio": order.aspect_ratio,
        "room": _room(order.room),
        "metadata": dict(order.metadata),
    }
    if order.expires_at is not None:
        body["expires_at"] = _exact(order.expires_at)
    return body


def _with_portrait(body: Mapping[str, Any], portrait: bytes) -> bytes:
    # Base64 needs no escapes; looking for them takes longer than all the rest.
    rest = json.dumps(body, separators=(",", ":")).encode()
    return b'%b,"avatar":{"image_base64":"%b"}}' % (rest[:-1], _base64(portrait))


@lru_cache(maxsize=KEPT_TEXTS)
def _base64(image: bytes) -> bytes:
    return base64.b64encode(image)


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
