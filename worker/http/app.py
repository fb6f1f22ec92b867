"""The worker's HTTP side: probes, metrics, and the sessions the control plane starts and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from common.timestamps import timestamp
from protocol.events import EndReason
from worker.http.errors import ApiError, install_error_handlers
from worker.http.guard import Guard, Unauthorized, read_limited
from worker.http.session_body import read_body, read_portrait, to_request
from worker.http.whep_routes import whep_router
from worker.interfaces import EndedSession, SessionSummary, WorkerPort
from worker.metrics import CONTENT_TYPE
from worker.settings import WorkerSettings

END_REASONS: tuple[EndReason, ...] = get_args(EndReason)


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
    app.include_router(_status(worker, guard))
    app.include_router(_sessions(worker, guard))
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


def _status(worker: WorkerPort, guard: Callable[[Request], Awaitable[None]]) -> APIRouter:
    router = APIRouter(dependencies=[Depends(guard)])

    @router.get("/status")
    async def status(after: Annotated[int, Query(ge=0)] = 0) -> JSONResponse:
        """The whole worker in one answer, for a control plane that asks every second: give the
        highest ``number`` you know as ``after``, and only sessions that ended later are told."""
        now = worker.status(after)
        # As it is: FastAPI's own encoder would take longer than all the rest.
        return JSONResponse(
            {
                "success": True,
                "instance": now.instance,
                "state": now.state,
                "capacity": now.capacity,
                "running": now.running,
                "engine": now.engine,
                "size": now.size,
                "ws_uri": now.ws_uri,
                "joining": list(now.joining),
                "sessions": [_summary(each) for each in now.sessions],
                "ended": [_ended(each) for each in now.ended],
            }
        )

    @router.post("/portraits")
    async def prepare(request: Request) -> dict[str, bool]:
        """Prepare a portrait ahead of its first session."""
        raw = await read_limited(request)
        portrait, canvas = await asyncio.to_thread(read_portrait, raw, worker.settings)
        await worker.prepare(portrait, canvas)
        return {"success": True}

    return router


def _sessions(worker: WorkerPort, guard: Callable[[Request], Awaitable[None]]) -> APIRouter:
    # The guard answers before a byte of the body is read.
    router = APIRouter(prefix="/sessions", dependencies=[Depends(guard)])

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        """Start a session."""
        body = read_body(await read_limited(request))
        order = await asyncio.to_thread(to_request, body, worker.settings)
        created = await worker.create(order)
        answer: dict[str, Any] = {
            "success": True,
            "session_id": created.session_id,
            "instance": worker.instance,
            "ws_uri": created.ws_uri,
            "expires_at": created.expires_at and timestamp(created.expires_at),
        }
        if created.watch_url is not None:
            answer["watch_url"] = created.watch_url
        if created.watch_uri is not None:
            answer["watch_uri"] = created.watch_uri
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
    async def end(session_id: str, reason: str = "client_request") -> dict[str, Any]:
        """End a session; who is in it is told the reason."""
        if reason not in END_REASONS:
            known = ", ".join(END_REASONS)
            raise ApiError(
                400, "INVALID_REASON", "reason: is not an end reason", f"Use one of: {known}"
            )
        if not await worker.end(session_id, reason):
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
        "ready_at": _exact(session.ready_at),
        "watch_uri": session.watch_uri,
    }


def _ended(session: EndedSession) -> dict[str, Any]:
    return {
        "number": session.number,
        "session_id": session.session_id,
        "reason": session.reason,
        "ended_at": _exact(session.ended_at),
        "ready_at": _exact(session.ready_at),
        "seconds": round(session.seconds, 2),
        "speech_seconds": round(session.speech_seconds, 2),
    }


def _exact(moment: datetime | None) -> str | None:
    """Milliseconds: who is billed by these is billed right."""
    if moment is None:
        return None
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _not_found() -> ApiError:
    return ApiError(404, "SESSION_NOT_FOUND", "Session not found")
