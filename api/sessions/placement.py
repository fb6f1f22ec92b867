"""Finding a worker for a session that holds its slot, or giving the slot back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from api.avatars.service import Avatars
from api.dispatch.port import Dispatcher, NoWorker, Order, OrderRefused, Placement, RoomToJoin
from api.http.errors import ApiError, api_error
from api.metrics import ApiMetrics
from api.records import Avatar, EndReason, RoomOrder, Session
from api.secret import Secret
from api.settings import ApiSettings
from api.store.port import Store

if TYPE_CHECKING:
    from api.sessions.livekit_rooms import LiveKitRooms


class Placements:
    """Hands sessions to workers. Safe to use from many tasks."""

    def __init__(
        self,
        settings: ApiSettings,
        secret: Secret,
        store: Store,
        dispatcher: Dispatcher,
        metrics: ApiMetrics,
        livekit: LiveKitRooms | None,
        avatars: Avatars,
        now: Callable[[], datetime],
        tell: Callable[[Session, EndReason], Awaitable[None]],
    ) -> None:
        """``tell``: lets a worker know that a session is over."""
        self._settings = settings
        self._secret = secret
        self._store = store
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._livekit = livekit
        self._avatars = avatars
        self._now = now
        self._tell = tell

    async def place(
        self,
        session: Session,
        room: RoomOrder,
        avatar: Avatar,
        undo: Callable[[str], Awaitable[None]],
    ) -> Session:
        """Have a worker run it; else ``undo`` the reservation.

        Raises:
            ApiError: nobody runs it.
        """
        placement: Placement | None = None
        began = time.perf_counter()
        outcome = "failed"
        try:
            order = Order(
                session_id=session.id,
                session_token=self._secret.session_token(session.id),
                aspect_ratio=session.aspect_ratio,
                room=self._room_to_join(session, room),
                portrait=await self._avatars.portrait(avatar, session.aspect_ratio),
                expires_at=session.expires_at,
                metadata=session.metadata,
            )
            placement = await self._dispatcher.place(order)
            outcome = "placed"
            placed = replace(session, **vars(placement))
            held = await self._store.place_session(session.id, **vars(placement), now=self._now())
        except BaseException as error:
            if placement is not None:
                await self._dispatcher.end(replace(session, **vars(placement)), "server_error")
            await undo(session.id)
            match error:
                case NoWorker():
                    outcome = "no_worker"
                    raise api_error("NO_CAPACITY") from None
                case OrderRefused():
                    outcome = "refused"
                    raise ApiError(400, error.code, error.message, error.suggestion) from None
            raise
        finally:
            self._metrics.dispatched(outcome, time.perf_counter() - began)
        if held:
            return placed
        # It ended while its worker was being found: by its client, say.
        current = await self._store.session(session.id)
        reason = current.end_reason if current is not None else None
        await self._tell(placed, reason or "server_error")
        if current is None:
            raise api_error("NO_CAPACITY")
        return current

    def _room_to_join(self, session: Session, room: RoomOrder) -> RoomToJoin:
        if room.platform == "proxy":
            if self._livekit is None:
                raise api_error("PROXY_NOT_CONFIGURED")
            own = self._livekit.open(session.id, session.expires_at, self._now())
            return RoomToJoin("livekit", own.worker_url, own.avatar_token)
        if room.platform == "local":
            return RoomToJoin("local")
        return RoomToJoin(
            room.platform, room.url, room.token, user_name=self._settings.daily_user_name
        )
