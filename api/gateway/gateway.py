"""The speech gateway: one fixed WebSocket address for every session, wherever its worker is.

A client's first message says which session it speaks for. The gateway checks the token, finds the
session's worker and pipes both ways. While the worker is still starting the client is welcomed all
the same, and what it says is kept for the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import structlog
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import JSONResponse
from starlette.applications import Starlette

from api.container.services import Services
from api.gateway.client import SEND_TIMEOUT_S
from api.gateway.conversation import Conversation
from api.gateway.metrics import GatewayMetrics
from api.http.errors import RateLimited
from api.records import Session
from common.init_limit import InitLimit

logger = structlog.get_logger(__name__)

PACKAGE = "avatar-server"
FAILED_INITS_PER_MINUTE = 20
LIMIT_WINDOW_S = 60


class Gateway:
    """All clients of this process."""

    def __init__(self, services: Services, failed_inits: int = FAILED_INITS_PER_MINUTE) -> None:
        """``failed_inits``: refusals per minute and address before the handshake is refused."""
        self.services = services
        self.server_version = metadata.version(PACKAGE)
        self.metrics = GatewayMetrics(services.metrics.registry)
        self.init_limit = InitLimit(failed_inits)
        self.send_timeout_s = SEND_TIMEOUT_S
        self.current: dict[str, Conversation] = {}
        """The newest client of each session."""
        self._graces: dict[str, asyncio.Task[None]] = {}

    async def serve(self, websocket: WebSocket) -> None:
        """One client, from the handshake to its end."""
        address = websocket.client.host if websocket.client else ""
        if self.init_limit.blocked(address):
            refusal = RateLimited(LIMIT_WINDOW_S)
            await websocket.send_denial_response(
                JSONResponse(refusal.body(), refusal.status, refusal.headers)
            )
            return
        await websocket.accept()
        conversation = Conversation(self, websocket)
        with self.metrics.open.track_inprogress():
            try:
                await conversation.run()
            finally:
                if conversation.init_failed:
                    self.metrics.refused()
                    self.init_limit.failed(address)

    def enter(self, session_id: str, conversation: Conversation) -> None:
        """A client's token is right: an older one that still waits for the worker is replaced,
        and a grace under way is over. (One that is piped the worker replaces.)"""
        if (grace := self._graces.pop(session_id, None)) is not None:
            grace.cancel()
        older = self.current.get(session_id)
        self.current[session_id] = conversation
        if older is not None:
            older.replaced()

    def leave(self, session_id: str, conversation: Conversation) -> None:
        """The client is gone."""
        if self.current.get(session_id) is conversation:
            del self.current[session_id]

    def grant_grace(self, session: Session, seconds: float) -> None:
        """A client was lost before any worker knew of it: the session ends unless one comes back
        in time."""
        task = asyncio.create_task(self._end_after(session, seconds), name="gateway grace")
        self._graces[session.id] = task

    async def aclose(self) -> None:
        """End what outlives clients. The clients themselves the server closes."""
        graces = list(self._graces.values())
        self._graces.clear()
        for grace in graces:
            grace.cancel()
        await asyncio.gather(*graces, return_exceptions=True)

    async def _end_after(self, session: Session, seconds: float) -> None:
        await asyncio.sleep(seconds)
        del self._graces[session.id]
        now = await self.services.store.session(session.id)
        # With a worker, the client may have come back through another process.
        if now is not None and now.status == "started" and now.ws_uri is None:
            await self.services.sessions.finish(now, "websocket_closed", self.services.now())


def gateway_of(app: Starlette) -> Gateway:
    """The application's gateway, made when it is first needed."""
    found: Gateway | None = getattr(app.state, "gateway", None)
    if found is None:
        found = app.state.gateway = Gateway(app.state.services)
    return found


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if (gateway := getattr(app.state, "gateway", None)) is not None:
            await gateway.aclose()


router = APIRouter(lifespan=_lifespan)


@router.websocket("/v1/ws")
@router.websocket("/")
async def speech(websocket: WebSocket) -> None:
    """Speak for a session."""
    await gateway_of(websocket.app).serve(websocket)
