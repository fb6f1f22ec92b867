"""Room addresses and tokens at rest: sealed with a key the database does not hold."""

from __future__ import annotations

import base64
import json

from cryptography.fernet import Fernet, InvalidToken

from api.records import Platform, RoomOrder
from api.store.engine import StoreError


class RoomCipher:
    """Seals rooms. Authenticated encryption: a changed or foreign seal does not open."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes."""
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, room: RoomOrder) -> bytes | None:
        """What is stored of a room besides its platform; None when there is nothing to hide."""
        if room.url is None and room.token is None:
            return None
        return self._fernet.encrypt(json.dumps([room.url, room.token]).encode())

    def open(self, platform: Platform, sealed: bytes | None) -> RoomOrder:
        """The room.

        Raises:
            StoreError: it was sealed with another key.
        """
        if sealed is None:
            return RoomOrder(platform)
        try:
            url, token = json.loads(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise StoreError(
                "a room token was sealed with another secret; give every process the same"
                " AVATAR_API_SECRET, or let the sessions created before expire"
            ) from None
        return RoomOrder(platform, url, token)
