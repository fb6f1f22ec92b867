"""Rooms of our own LiveKit server, for sessions of the platform ``proxy``.

A room comes into being when the first participant joins: opening one is minting two tokens.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from api.settings import PREFIX, LiveKitSettings, SettingsError

if TYPE_CHECKING:
    from livekit.api import LiveKitAPI

logger = structlog.get_logger(__name__)

AVATAR = "agenthuman-avatar-agent"
"""Identity and name of the avatar: stock clients talk to a participant of this identity."""

LIFETIME_AFTER_EXPIRY = timedelta(minutes=10)
LIFETIME_WITHOUT_EXPIRY = timedelta(hours=24)

CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ProxyRoom:
    """What the two participants of a session's room need."""

    url: str
    """For the client."""
    worker_url: str
    """For the worker."""
    client_token: str = field(repr=False)
    avatar_token: str = field(repr=False)


class LiveKitRooms:
    """Opens and closes rooms. Belongs to one event loop."""

    def __init__(self, settings: LiveKitSettings) -> None:
        """Raises ``SettingsError``: something is not set, or the package is not installed."""
        missing = [
            f"{PREFIX}LIVEKIT__{name.upper()}"
            for name in ("url", "api_key", "api_secret")
            if not getattr(settings, name)
        ]
        if missing or not settings.url or not settings.api_key or not settings.api_secret:
            raise SettingsError(f"set {', '.join(missing)} as well, or none of {PREFIX}LIVEKIT__*")
        try:
            import livekit.api  # noqa: F401
        except ImportError:
            raise SettingsError(
                f"{PREFIX}LIVEKIT__URL needs a package: pip install '.[livekit]'"
            ) from None
        self._url = settings.url
        self._worker_url = settings.worker_url or settings.url
        self._api_url = settings.api_url or self._worker_url
        self._key = settings.api_key
        self._secret = settings.api_secret
        self._api: LiveKitAPI | None = None

    def open(self, session_id: str, expires_at: datetime | None, now: datetime) -> ProxyRoom:
        """Tokens for the room named like the session. Nothing is sent."""
        lifetime = (
            expires_at - now + LIFETIME_AFTER_EXPIRY if expires_at else LIFETIME_WITHOUT_EXPIRY
        )
        client = f"client-{session_id[-8:]}"
        return ProxyRoom(
            url=self._url,
            worker_url=self._worker_url,
            client_token=self._token(session_id, client, lifetime),
            avatar_token=self._token(session_id, AVATAR, lifetime, speaks_for=client),
        )

    def _token(
        self, room: str, identity: str, lifetime: timedelta, speaks_for: str | None = None
    ) -> str:
        from livekit.api import AccessToken, VideoGrants

        avatar = speaks_for is not None
        token = (
            AccessToken(self._key, self._secret.get_secret_value())
            .with_identity(identity)
            .with_name(identity)
            .with_ttl(lifetime)
            .with_grants(
                VideoGrants(
                    room_join=True,
                    room=room,
                    can_subscribe=True,
                    can_publish=avatar,
                    can_publish_data=True,
                )
            )
        )
        if speaks_for is not None:
            token = token.with_kind("agent").with_attributes({"lk.publish_on_behalf": speaks_for})
        return token.to_jwt()

    async def close(self, session_id: str) -> None:
        """Delete the room: anyone who is in it is put out. Never raises; a room that cannot be
        deleted goes by itself once it is empty."""
        from livekit.api import DeleteRoomRequest, ServerError, ServerErrorCode

        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client().room.delete_room(DeleteRoomRequest(room=session_id))
        except ServerError as error:
            if error.code != ServerErrorCode.NOT_FOUND:
                logger.warning("room was not deleted", session_id=session_id, code=error.code)
        except Exception as error:
            logger.warning(
                "room was not deleted", session_id=session_id, error=type(error).__name__
            )

    async def aclose(self) -> None:
        """Close connections."""
        if self._api is not None:
            api, self._api = self._api, None
            await api.aclose()

    def _client(self) -> LiveKitAPI:
        from livekit.api import LiveKitAPI

        if self._api is None:
            self._api = LiveKitAPI(self._api_url, self._key, self._secret.get_secret_value())
        return self._api


def open_livekit(settings: LiveKitSettings) -> LiveKitRooms | None:
    """The rooms of the server the settings name; None: they name none.

    Raises:
        SettingsError: they name one by half, or the package is not installed.
    """
    given = (settings.url, settings.worker_url, settings.api_url, settings.api_key)
    if not any(given) and settings.api_secret is None:
        return None
    return LiveKitRooms(settings)
