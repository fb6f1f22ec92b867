"""``local`` rooms: WHEP and a page to watch, on the API's own address. What is asked here is passed
on to the session's worker, for anyone who has the signed link or the session's token."""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.applications import Starlette

from api.container.deps import ServicesDep
from api.container.services import Services
from api.http.errors import ApiError, api_error
from api.http.openapi_errors import openapi_errors
from api.records import Session
from api.secret import token_digest
from api.sessions.watch_links import WatchLinks
from common.watch_page import watch_page

logger = structlog.get_logger(__name__)

SDP = "application/sdp"
MAX_OFFER_BYTES = 64 * 1024
"""Browsers offer 5 to 10 KB."""

MAX_ANSWER_BYTES = 256 * 1024
TIMEOUT = httpx.Timeout(10, connect=3)
"""The worker answers when its side of the connection is ready to be reached."""

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Location"}

_VIEWER = re.compile(r"[A-Za-z0-9_.~-]{1,128}")

_REFUSALS = ("BAD_OFFER", "UNUSABLE_OFFER", "ROOM_FULL", "VIEWER_NOT_FOUND", "SESSION_NOT_FOUND")
"""What a worker may answer that is a viewer's business."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if (client := getattr(app.state, "watch_client", None)) is not None:
            await client.aclose()


router = APIRouter(lifespan=_lifespan)
_PAGE, _PAGE_HEADERS = watch_page()


def _client(app: Starlette) -> httpx.AsyncClient:
    found: httpx.AsyncClient | None = getattr(app.state, "watch_client", None)
    if found is None:
        found = app.state.watch_client = httpx.AsyncClient(
            timeout=TIMEOUT,
            # A proxy of the environment has nothing to do between us and our workers.
            trust_env=False,
        )
    return found


async def _watched(
    request: Request,
    services: ServicesDep,
    session_id: str,
    exp: Annotated[str | None, Query(description="of the signed link")] = None,
    sig: Annotated[str | None, Query(description="of the signed link")] = None,
) -> Session:
    """The running session a caller may watch."""
    links = WatchLinks(services.secret, services.settings)
    opened = links.check(session_id, exp, sig, services.now())
    if not opened and not await _knows_token(request, services, session_id):
        raise api_error("WATCH_LINK_INVALID", headers=CORS)
    session = await services.store.session(session_id)
    if session is None or session.status == "ended" or session.platform != "local":
        raise api_error("SESSION_NOT_FOUND", headers=CORS)
    return session


Watched = Annotated[Session, Depends(_watched)]


async def _knows_token(request: Request, services: Services, session_id: str) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    digest = await services.store.session_token_digest(session_id)
    right = hmac.compare_digest(digest or bytes(32), token_digest(token.strip()))
    return digest is not None and right


@router.options("/whep/{session_id}", include_in_schema=False)
@router.options("/whep/{session_id}/{viewer_id}", include_in_schema=False)
async def preflight() -> Response:
    """Any page may ask: what protects a session is the signature, or its token."""
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "POST, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "86400",
            "Accept-Post": SDP,
        },
    )


@router.post(
    "/whep/{session_id}",
    status_code=201,
    response_class=Response,
    responses={
        **openapi_errors(
            "BAD_OFFER",
            "WATCH_LINK_INVALID",
            "SESSION_NOT_FOUND",
            "UNUSABLE_OFFER",
            "PAYLOAD_TOO_LARGE",
            "UNSUPPORTED_MEDIA_TYPE",
            "ROOM_FULL",
            "NO_CAPACITY",
            keyed=False,
        ),
        201: {"content": {SDP: {"schema": {"type": "string"}}}, "description": "The SDP answer"},
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {SDP: {"schema": {"type": "string"}}}}
    },
)
async def join(request: Request, services: ServicesDep, session: Watched) -> Response:
    """Watch a session of a `local` room by WHEP: send an SDP offer with all candidates. `Location`
    is this viewer's address; `DELETE` it to leave. The address comes signed with the session."""
    offer = await _read_offer(request)
    answer = await _ask(request, session, "POST", "", offer)
    viewer = urlsplit(answer.headers.get("location", "")).path.rpartition("/")[2]
    if answer.status_code != 201 or not _VIEWER.fullmatch(viewer):
        raise _refusal(session, answer)
    base = urlsplit(services.settings.base_url).path.rstrip("/")
    location = f"{base}/whep/{quote(session.id, safe='')}/{viewer}{_signature(request)}"
    return Response(answer.content, 201, {"Location": location, **CORS}, SDP)


@router.delete(
    "/whep/{session_id}/{viewer_id}",
    response_class=Response,
    responses=openapi_errors(
        "WATCH_LINK_INVALID", "VIEWER_NOT_FOUND", "SESSION_NOT_FOUND", "NO_CAPACITY", keyed=False
    ),
)
async def leave(request: Request, session: Watched, viewer_id: str) -> Response:
    """Stop watching."""
    if not _VIEWER.fullmatch(viewer_id) or viewer_id in (".", ".."):
        raise api_error("VIEWER_NOT_FOUND", headers=CORS)
    answer = await _ask(request, session, "DELETE", f"/{viewer_id}")
    if answer.status_code != 200:
        raise _refusal(session, answer)
    return Response(status_code=200, headers=CORS)


@router.patch("/whep/{session_id}/{viewer_id}", include_in_schema=False)
async def trickle() -> Response:
    """Candidates one by one, or an ICE restart: not supported, as the draft allows."""
    raise api_error(
        "METHOD_NOT_ALLOWED",
        message="Trickle ICE is not supported; offer all candidates",
        headers={"Allow": "DELETE, OPTIONS", **CORS},
    )


@router.get("/watch/{session_id}", include_in_schema=False)
async def watch(session: Watched) -> Response:
    """A page that plays the session."""
    return Response(_PAGE, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")


async def _read_offer(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != SDP:
        raise api_error("UNSUPPORTED_MEDIA_TYPE", headers=CORS)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_OFFER_BYTES:
            raise api_error("PAYLOAD_TOO_LARGE", headers=CORS)
    return bytes(body)


async def _ask(
    request: Request, session: Session, method: str, path: str, offer: bytes = b""
) -> httpx.Response:
    """The worker's answer. Nothing of the caller's but the offer reaches it."""
    unanswered = api_error("NO_CAPACITY", headers=CORS)
    if session.watch_uri is None:
        raise unanswered
    headers = {"Content-Type": SDP, "Accept": SDP} if method == "POST" else {}
    try:
        async with _client(request.app).stream(
            method, session.watch_uri + path, content=offer, headers=headers
        ) as answer:
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise unanswered
            location = {"Location": answer.headers.get("location", "")}
            return httpx.Response(answer.status_code, headers=location, content=bytes(content))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        logger.warning("worker not reached", session_id=session.id, error=type(error).__name__)
        raise unanswered from None


def _refusal(session: Session, answer: httpx.Response) -> ApiError:
    """The worker's refusal as ours, where it concerns the viewer."""
    try:
        error: Any = answer.json()["error"]
        if error["code"] in _REFUSALS:
            return api_error(error["code"], message=str(error["message"]), headers=CORS)
    except (ValueError, KeyError, TypeError):
        pass
    logger.warning("worker refused a viewer", session_id=session.id, status=answer.status_code)
    return api_error("NO_CAPACITY", headers=CORS)


def _signature(request: Request) -> str:
    """The query of a signed link, for the addresses that it opens as well."""
    given = {name: request.query_params.get(name) for name in ("exp", "sig")}
    known = {name: value for name, value in given.items() if value is not None}
    return f"?{urlencode(known)}" if known else ""
