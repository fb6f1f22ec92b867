"""The worker's HTTP side: probes, metrics, and the sessions the control plane starts and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from worker.http_errors import ApiError, install_error_handlers
from worker.http_guard import Guard, Unauthorized, read_limited
from worker.ingress import SessionSummary, WorkerPort
from worker.metrics import CONTENT_TYPE
from worker.rooms.whep_routes import whep_router
from worker.server_messages import timestamp
from worker.session_body import read_body, to_request
from worker.settings import WorkerSettings


def create_app(settings: WorkerSettings, worker: WorkerPort) -> FastAPI:
    """The worker's HTTP application.

    Raises:
        SettingsError: ``/sessions`` would be open to a network without a secret.
    """
    guard = Guard(settings)
    app = FastAPI(title="Avatar worker", docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(app)

    async def unauthorized(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 401, {"WWW-Authenticate": "Bearer"})

    app.add_exception_handler(Unauthorized, unauthorized)
    app.include_router(_probes(worker))
    app.include_router(_sessions(settings, worker, guard))
    app.include_router(whep_router(worker.whep_room))
    return app


def _probes(worker: WorkerPort) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """The process and its event loop are alive."""
        return {"ok": True}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """A session can be taken."""
        state = worker.state()
        if state == "ready":
            return JSONResponse({"ready": True})
        return JSONResponse({"ready": False, "reason": state}, 503)

    @router.get("/ping")
    async def ping() -> Response:
        """For load balancers: 200 while sessions are served, 204 before, 503 after."""
        state = worker.state()
        if state == "warming":
            return Response(status_code=204)
        if state == "draining":
            return JSONResponse({"status": state}, 503)
        return JSONResponse({"status": state})

    @router.get("/metrics")
    async def prometheus() -> Response:
        """Metrics as Prometheus text."""
        return Response(worker.metrics.exposition(), media_type=CONTENT_TYPE)

    return router


def _sessions(
    settings: WorkerSettings, worker: WorkerPort, guard: Callable[[Request], Awaitable[None]]
) -> APIRouter:
    # The guard answers before a byte of the body is read.
    router = APIRouter(prefix="/sessions", dependencies=[Depends(guard)])

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        """Start a session."""
        body = read_body(await read_limited(request))
        order = await asyncio.to_thread(to_request, body, settings)
        created = await worker.create(order)
        answer: dict[str, Any] = {
            "success": True,
            "session_id": created.session_id,
            "ws_uri": created.ws_uri,
            "expires_at": created.expires_at and timestamp(created.expires_at),
        }
        if created.watch_url is not None:
            answer["watch_url"] = created.watch_url
        return answer

    @router.get("")
    async def listing() -> dict[str, Any]:
        """All running sessions."""
        return {"success": True, "sessions": [_summary(each) for each in worker.sessions()]}

    @router.get("/{session_id}")
    async def one(session_id: str) -> dict[str, Any]:
        """A running session."""
        session = worker.get(session_id)
        if session is None:
            raise _not_found()
        return {"success": True, "session": _summary(session)}

    @router.delete("/{session_id}")
    async def end(session_id: str) -> dict[str, Any]:
        """End a session."""
        if not await worker.end(session_id, "client_request"):
            raise _not_found()
        return {"success": True, "session_id": session_id}

    return router


def _summary(session: SessionSummary) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "platform": session.platform,
        "aspect_ratio": session.aspect_ratio,
        "size": f"{session.canvas.width}x{session.canvas.height}",
        "created_at": timestamp(session.created_at),
        "expires_at": session.expires_at and timestamp(session.expires_at),
        "ready": session.ready,
    }


def _not_found() -> ApiError:
    return ApiError(404, "SESSION_NOT_FOUND", "Session not found")
