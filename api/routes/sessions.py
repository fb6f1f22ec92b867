"""``/v1/sessions``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request

from api.auth import CallerDep
from api.container.deps import ServicesDep
from api.container.services import Services
from api.http.errors import api_error
from api.http.openapi_errors import openapi_errors
from api.records import Session, SessionStatus
from api.sessions.answers import (
    CreateAnswer,
    EndAnswer,
    SessionAnswer,
    SessionsAnswer,
    StartAnswer,
    create_usage,
    ended_view,
    session_view,
    timestamp,
)
from api.sessions.body import CreateBody, read_create
from api.sessions.schema import CREATE_BODY, IDEMPOTENCY_HEADER

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

LARGE_BODY = 64 * 1024
"""Bodies over this are read in a thread: they hold a photo."""

StatusFilter = Literal["all", "created", "started", "ended", "active", "completed"]
_STATUS: dict[StatusFilter, SessionStatus | None] = {
    "all": None,
    "created": "created",
    "started": "started",
    "active": "started",
    "ended": "ended",
    "completed": "ended",
}

SessionId = Annotated[str, Path(description="`sess_…`")]


@router.post(
    "",
    response_model=CreateAnswer,
    response_model_exclude_unset=True,
    summary="Create and start a session",
    responses=openapi_errors(
        "INVALID_JSON",
        "INVALID_BODY",
        "AVATAR_REQUIRED",
        "INVALID_ASPECT_RATIO",
        "ROOM_REQUIRED",
        "INVALID_ROOM_PLATFORM",
        "PROXY_NOT_CONFIGURED",
        "PLATFORM_NOT_AVAILABLE",
        "INVALID_ROOM_URL",
        "ROOM_TOKEN_REQUIRED",
        "ROOM_TOKEN_EXPIRED",
        "INVALID_METADATA",
        "METADATA_TOO_LARGE",
        "INVALID_IDEMPOTENCY_KEY",
        "IMAGE_INPUT_NOT_ALLOWED",
        "INSUFFICIENT_MINUTES",
        "AVATAR_ACCESS_DENIED",
        "AVATAR_LIMIT_REACHED",
        "AVATAR_NOT_FOUND",
        "IDEMPOTENCY_CONFLICT",
        "PAYLOAD_TOO_LARGE",
        "IMAGE_TOO_LARGE",
        "CONCURRENCY_LIMIT_REACHED",
        "NO_CAPACITY",
        "DRAINING",
        "IMAGE_CHECK_UNAVAILABLE",
    ),
    openapi_extra={"requestBody": CREATE_BODY, "parameters": [IDEMPOTENCY_HEADER]},
)
async def create(request: Request, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Reserve a worker for an avatar and send it to a room. The answer does not wait for the avatar
    to be there."""
    raw = await request.body()
    rules = services.sessions.room_rules
    body: CreateBody
    if len(raw) > LARGE_BODY:
        body = await asyncio.to_thread(read_create, raw, rules, services.now())
    else:
        body = read_create(raw, rules, services.now())
    created = await services.sessions.create(caller, body, _idempotency_key(request))
    session = created.session
    request.state.session_id = session.id
    view = session_view(session, services.now())
    shown = {
        name: view[name]
        for name in (
            "session_id",
            "status",
            "started_at",
            "ended_at",
            "expiration",
            "metadata",
            "aspect_ratio",
        )
    }
    shown |= {"session_token": created.token, "ws_uri": created.ws_uri}
    if created.room is not None:
        shown["room"] = created.room
    return {
        "success": True,
        "session": shown,
        "usage": create_usage(created.quota, caller.plan),
        "message": "Session created successfully",
    }


@router.get(
    "",
    response_model=SessionsAnswer,
    summary="List sessions",
    responses=openapi_errors("INVALID_QUERY"),
)
async def listing(
    services: ServicesDep,
    caller: CallerDep,
    status: Annotated[StatusFilter, Query()] = "all",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> dict[str, Any]:
    """The account's sessions, newest first."""
    found, total = await services.sessions.page(caller.account, _STATUS[status], limit, offset)
    now = services.now()
    return {
        "success": True,
        "sessions": [session_view(session, now) for session in found],
        "total": total,
    }


@router.get(
    "/{session_id}",
    response_model=SessionAnswer,
    summary="Look at a session",
    responses=openapi_errors("SESSION_NOT_FOUND"),
)
async def one(session_id: SessionId, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Neither its token nor its room is told again."""
    session = await services.sessions.get(caller.account, session_id)
    return {"success": True, "session": session_view(session, services.now())}


@router.post(
    "/{session_id}/end",
    response_model=EndAnswer,
    summary="End a session",
    responses=openapi_errors("SESSION_NOT_STARTED", "SESSION_NOT_FOUND"),
)
async def end(session_id: SessionId, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """May be repeated. A body is ignored."""
    session = await services.sessions.end(caller.account, session_id)
    return {
        "success": True,
        "session": ended_view(session, services.now()),
        "message": "Session ended successfully",
    }


_STARTING: dict[str, Any] = {
    "response_model": StartAnswer,
    "responses": openapi_errors(
        "SESSION_ENDED",
        "INSUFFICIENT_MINUTES",
        "SESSION_NOT_FOUND",
        "AVATAR_NOT_FOUND",
        "CONCURRENCY_LIMIT_REACHED",
        "NO_CAPACITY",
        "DRAINING",
    ),
}


@router.put("/{session_id}/start", summary="Start a session", **_STARTING)
async def start(session_id: SessionId, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Starts a session made with `auto_start: false`; one that is started already stays as it is.
    Repeat it until `ws_uri` is an address. A body is ignored."""
    return _started(services, await services.sessions.start(caller, session_id))


@router.post("/{session_id}/start", summary="Start a session (as PUT)", **_STARTING)
async def start_by_post(
    session_id: SessionId, services: ServicesDep, caller: CallerDep
) -> dict[str, Any]:
    """The same as PUT."""
    return _started(services, await services.sessions.start(caller, session_id))


def _started(services: Services, session: Session) -> dict[str, Any]:
    return {
        "success": True,
        "ws_uri": services.sessions.ws_uri(session),
        "expiration": session.expires_at and timestamp(session.expires_at),
        "message": "Session started successfully",
    }


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 128 or not key.isascii() or not key.isprintable():
        raise api_error("INVALID_IDEMPOTENCY_KEY")
    return key
