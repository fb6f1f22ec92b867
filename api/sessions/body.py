"""The body of ``POST /v1/sessions``: checked field by field, in the documented order."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn, cast
from urllib.parse import urlsplit

from api.http.errors import api_error
from api.records import PLATFORMS, RATIOS, AspectRatio, Platform, RoomOrder
from common.room_tokens import expired

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 64
MAX_ID_LENGTH = 512
"""A longer ``avatar`` that is valid base64 is an image."""
MAX_URL_LENGTH = 2048
MAX_TOKEN_LENGTH = 16_384
DEFAULT_RATIO: AspectRatio = "4:3"

_SCHEMES: dict[str, tuple[str, ...]] = {
    "livekit": ("ws", "wss", "http", "https"),
    "daily": ("https",),
}
"""What a room's URL may begin with."""


@dataclass(frozen=True)
class CreateBody:
    """A session as it was asked for."""

    avatar: str = field(repr=False)
    """An id, a URL or a base64 image."""
    avatar_form: Literal["id", "url", "base64"] = "id"
    aspect_ratio: AspectRatio = DEFAULT_RATIO
    room: RoomOrder = field(default_factory=lambda: RoomOrder("local"))
    metadata: Mapping[str, Any] = field(default_factory=dict)
    start: bool = True
    digest: str = ""
    """Digest of everything in it: the same idempotency key with another is a conflict."""
    max_minutes: int | None = None
    """A shorter limit than the plan's; no client can ask for it."""

    @property
    def fingerprint(self) -> str:
        """Digest of avatar, ratio and room, for finding out repetitions. Empty (never a repetition)
        where the client brings no room of its own: two such requests are two people who want a room
        each."""
        if self.room.url is None:
            return ""
        room = self.room
        return _digest([self.avatar, self.aspect_ratio, room.platform, room.url, room.token])


@dataclass(frozen=True)
class RoomRules:
    """What rooms this installation can serve."""

    platforms: frozenset[Platform]
    """What its workers can join."""
    livekit: bool
    """Whether it has a LiveKit server of its own."""


def read_object(raw: bytes) -> dict[str, Any]:
    """A request body that must be a JSON object.

    Raises:
        ApiError: ``INVALID_JSON`` or ``INVALID_BODY``.
    """
    try:
        body = json.loads(raw, parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in raw:
            # Halves of surrogate pairs are text that nothing can store or send.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise api_error("INVALID_JSON") from None
    if not isinstance(body, dict):
        raise api_error("INVALID_BODY")
    return body


def read_create(raw: bytes, rules: RoomRules, now: datetime) -> CreateBody:
    """Check a request body.

    Raises:
        ApiError: 400, the first field that cannot be used.
    """
    body = read_object(raw)
    avatar = body.get("avatar")
    if avatar is None:
        avatar = body.get("avatar_id")
    if not isinstance(avatar, str) or not avatar.strip():
        raise api_error("AVATAR_REQUIRED")
    avatar = avatar.strip()
    ratio = _ratio(body.get("aspect_ratio"))
    room = _room(body.get("room"), rules, now)
    metadata = _metadata(body["metadata"]) if "metadata" in body else {}
    start = body.get("auto_start")
    if start is None:
        start = True
    if not isinstance(start, bool):
        raise api_error("INVALID_BODY", message="auto_start must be true or false")
    return CreateBody(
        avatar=avatar,
        avatar_form=form_of(avatar),
        aspect_ratio=ratio,
        room=room,
        metadata=metadata,
        start=start,
        digest=_digest(body),
    )


def form_of(avatar: str) -> Literal["id", "url", "base64"]:
    """Which of the three forms of ``avatar`` this is."""
    start = avatar[:8].lower()
    if start.startswith(("http://", "https://")):
        return "url"
    if start.startswith("data:"):
        return "base64"
    if len(avatar) > MAX_ID_LENGTH:
        try:
            base64.b64decode("".join(avatar.split()), validate=True)
        except (binascii.Error, ValueError):
            return "id"
        return "base64"
    return "id"


def _ratio(value: object) -> AspectRatio:
    if value is None or value == "auto":
        return DEFAULT_RATIO
    if not isinstance(value, str) or value not in RATIOS:
        raise api_error("INVALID_ASPECT_RATIO")
    return value


def _room(value: object, rules: RoomRules, now: datetime) -> RoomOrder:
    if not isinstance(value, dict):
        raise api_error("ROOM_REQUIRED")
    platform = value.get("platform")
    if not isinstance(platform, str) or platform not in PLATFORMS:
        raise api_error("INVALID_ROOM_PLATFORM")
    if platform == "proxy":
        if not rules.livekit:
            raise api_error("PROXY_NOT_CONFIGURED")
        if not rules.platforms & {"proxy", "livekit"}:
            raise _unavailable(platform)
        return RoomOrder("proxy")
    if platform not in rules.platforms:
        raise _unavailable(platform)
    if platform == "local":
        return RoomOrder("local")
    return RoomOrder(
        cast(Platform, platform), _url(platform, value.get("url")), _token(value.get("token"), now)
    )


def _unavailable(platform: str) -> Exception:
    return api_error(
        "PLATFORM_NOT_AVAILABLE",
        message=f"Room platform {platform} is not available on this server",
    )


def _url(platform: str, url: object) -> str:
    schemes = _SCHEMES[platform]
    if isinstance(url, str) and len(url) <= MAX_URL_LENGTH and _is_url(url, schemes):
        if platform == "livekit" and url[:4].lower() == "http":
            return "ws" + url[4:]
        return url
    raise api_error(
        "INVALID_ROOM_URL",
        suggestion=f"Give room.url with one of these schemes: {', '.join(schemes)}",
    )


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # brackets that do not match, a port that is no number
        return False
    # A password in the address would end up in logs.
    return parts.scheme in schemes and bool(parts.hostname) and port != 0 and "@" not in url


def _token(token: object, now: datetime) -> str:
    if not isinstance(token, str) or not token.strip():
        raise api_error("ROOM_TOKEN_REQUIRED")
    if len(token) > MAX_TOKEN_LENGTH or not token.isprintable():
        raise api_error(
            "ROOM_TOKEN_REQUIRED",
            suggestion=f"Send printable text of at most {MAX_TOKEN_LENGTH} characters",
        )
    if expired(token, now):
        raise api_error(
            "ROOM_TOKEN_EXPIRED", suggestion="Make a new token, and check the clocks of both sides"
        )
    return token


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise api_error("INVALID_METADATA")
    if _deeper_than(value, MAX_METADATA_DEPTH):
        raise api_error(
            "INVALID_METADATA", suggestion=f"Nest at most {MAX_METADATA_DEPTH} levels deep"
        )
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise api_error("METADATA_TOO_LARGE")
    return value


def _deeper_than(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
