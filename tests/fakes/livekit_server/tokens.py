"""Access tokens: JSON Web Tokens with the claims of the LiveKit documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from livekit.protocol import models


class BadToken(Exception):
    """The token is refused; the text says why."""


@dataclass(frozen=True)
class Grants:
    """What a verified token says."""

    identity: str
    name: str
    kind: int
    room: str
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    admin: bool = False


def mint(
    key: str,
    secret: str,
    identity: str,
    room: str,
    *,
    kind: str = "standard",
    attributes: Mapping[str, str] | None = None,
    lifetime_s: float = 3600.0,
) -> str:
    """A token that admits ``identity`` to ``room``."""
    now = int(time.time())
    grants = {"roomJoin": True, "room": room, "canPublish": True, "canSubscribe": True}
    claims: dict[str, Any] = {
        "iss": key,
        "sub": identity,
        "name": identity,
        "nbf": now - 10,
        "exp": int(now + lifetime_s),
        "kind": kind,
        "attributes": dict(attributes or {}),
        "video": {**grants, "canPublishData": True, "canUpdateOwnMetadata": True},
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def verify(token: str, key: str, secret: str) -> Grants:
    """Check the signature and the dates, read the claims. Raises ``BadToken``."""
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], issuer=key)
    except jwt.PyJWTError as error:
        raise BadToken(f"invalid token: {error}") from None
    video = claims.get("video") or {}
    kind = str(claims.get("kind") or "standard").upper()
    return Grants(
        identity=claims.get("sub", ""),
        name=claims.get("name", ""),
        kind=models.ParticipantInfo.Kind.Value(kind),
        room=video.get("room", ""),
        metadata=claims.get("metadata", ""),
        attributes=claims.get("attributes") or {},
        admin=bool(video.get("roomAdmin") or video.get("roomCreate") or video.get("roomList")),
    )
