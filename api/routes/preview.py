"""Previews: a link that shows an avatar speaking a sentence, once, to anyone who has it.

Opening the page uses nothing up, so that mail and chat programs may look at it; pressing its button
does. The session is the account's own: it counts against its minutes and its sessions.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from api.auth import Caller, CallerDep
from api.avatars.service import MAX_ID
from api.container.deps import ServicesDep
from api.container.services import Services
from api.http.errors import ApiError, api_error
from api.http.openapi_errors import openapi_errors
from api.records import Account, Avatar, RoomOrder
from api.routes.console import page
from api.secret import token_digest
from api.sessions.answers import timestamp
from api.sessions.body import CreateBody, read_object
from api.sessions.sessions import Created

router = APIRouter()

LINK_TTL = timedelta(minutes=5)
MAX_MINUTES = 2

_LINK = re.compile(r"lnk_[0-9A-Za-z]{1,64}")
_PREVIEW_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["avatar_id"],
                "properties": {
                    "avatar_id": {
                        "type": "string",
                        "minLength": 1,
                        "description": "`avat_…`, or a public avatar's id",
                    }
                },
            }
        }
    },
}

LinkId = Annotated[str, Path(description="`lnk_…`")]


class PreviewAnswer(BaseModel):
    """Where to watch it."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[True] = True
    url: str = Field(description="a page that works once, for 5 minutes")


@router.post(
    "/v1/avatars/preview",
    tags=["avatars"],
    summary="A link that shows an avatar speaking",
    response_model=PreviewAnswer,
    responses=openapi_errors(
        "INVALID_JSON",
        "INVALID_BODY",
        "AVATAR_REQUIRED",
        "PLATFORM_NOT_AVAILABLE",
        "AVATAR_ACCESS_DENIED",
        "AVATAR_NOT_FOUND",
        "PAYLOAD_TOO_LARGE",
    ),
    openapi_extra={"requestBody": _PREVIEW_BODY},
)
async def create(request: Request, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Anyone who opens the link sees the avatar speak a sentence, in a session of at most 2 minutes
    that counts as the account's own."""
    avatar_id = read_object(await request.body()).get("avatar_id")
    if not isinstance(avatar_id, str) or not avatar_id.strip():
        raise api_error("AVATAR_REQUIRED", suggestion="Include avatar_id in the request body")
    avatar = await services.avatars.resolve(caller.account, avatar_id.strip())
    if "local" not in services.dispatcher.platforms:
        raise api_error(
            "PLATFORM_NOT_AVAILABLE",
            message="Room platform local is not available on this server",
            suggestion="Previews play in a local room; create a session in a room of your own",
        )
    link_id = f"lnk_{ULID()}"
    await services.store.create_preview(
        link_id, caller.account.id, avatar.id, services.now() + LINK_TTL
    )
    return {"success": True, "url": f"{services.settings.base_url}/preview/{link_id}"}


@router.get("/preview/{link_id}", include_in_schema=False)
async def show(link_id: LinkId, services: ServicesDep) -> Response:
    """The page; the link is as good as before."""
    found = None
    if _LINK.fullmatch(link_id):
        found = await services.store.preview(link_id, services.now())
    owned = found and await _owned(services, *found)
    if not owned:
        return page("preview-gone.html", services.settings, 404)
    return page(
        "preview.html",
        services.settings,
        link=link_id,
        image=services.avatars.image_url(owned[1]),
        ratio=owned[1].ratio,
    )


@router.post("/preview/{link_id}/start", include_in_schema=False)
async def start(link_id: LinkId, services: ServicesDep) -> Response:
    """Use the link: a session for the page. Where none can be had, the link stays good."""
    found = None
    if _LINK.fullmatch(link_id):
        found = await services.store.use_preview(link_id, services.now())
    if found is None:
        raise api_error("PREVIEW_NOT_FOUND")
    try:
        owned = await _owned(services, *found)
        if owned is None:
            raise api_error("PREVIEW_NOT_FOUND")
        created = await _session(services, *owned)
    except Exception:
        await asyncio.shield(services.store.return_preview(link_id))
        raise
    session = created.session
    return JSONResponse(
        {
            "success": True,
            "session": {
                "session_id": session.id,
                "session_token": created.token,
                "aspect_ratio": session.aspect_ratio,
                "expiration": session.expires_at and timestamp(session.expires_at),
                "ws_uri": created.ws_uri,
                "room": created.room,
            },
        },
        headers={"Cache-Control": "no-store"},
    )


@router.post("/preview/{link_id}/end", include_in_schema=False)
async def end(link_id: LinkId, request: Request, services: ServicesDep) -> Response:
    """The page was closed or has shown everything; it names its session and the token of it."""
    body = read_object(await request.body())
    session_id, token = body.get("session_id"), body.get("session_token")
    if not isinstance(session_id, str) or not isinstance(token, str) or len(session_id) > MAX_ID:
        raise api_error("SESSION_NOT_FOUND")
    digest = await services.store.session_token_digest(session_id)
    session = await services.store.session(session_id)
    genuine = hmac.compare_digest(token_digest(token), digest or b"")
    if session is None or not genuine:
        raise api_error("SESSION_NOT_FOUND")
    await services.sessions.finish(session, "client_request", services.now())
    return JSONResponse({"success": True})


async def _owned(
    services: Services, account_id: str, avatar_id: str
) -> tuple[Account, Avatar] | None:
    """The account and the avatar of a link; None: one of them is no more."""
    account = await services.store.account(account_id)
    if account is None:
        return None
    try:
        return account, await services.avatars.resolve(account, avatar_id)
    except ApiError:
        return None


async def _session(services: Services, account: Account, avatar: Avatar) -> Created:
    caller = Caller(account, None, services.plans.get(account.plan_key))
    body = CreateBody(
        avatar=avatar.id,
        aspect_ratio=avatar.ratio,
        room=RoomOrder("local"),
        metadata={"source": "preview"},
        max_minutes=MAX_MINUTES,
    )
    return await services.sessions.create(caller, body)
