"""HTTP for WHEP (draft-ietf-wish-whep): join and leave a room, and a page that does so."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from common.watch_page import watch_page
from worker.http.errors import ApiError
from worker.rooms.port import RoomError
from worker.rooms.whep.offer import MAX_OFFER_BYTES, BadOffer, UnusableOffer
from worker.rooms.whep.room import RoomFull, WhepRoom

SDP = "application/sdp"

_CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Location"}

Authorize = Callable[[str, str | None], bool]
"""(session id, token or None) → may this caller watch? Must compare in constant time."""


def whep_router(
    find_room: Callable[[str], WhepRoom | None], authorize: Authorize | None = None
) -> APIRouter:
    """Routes that let viewers into rooms.

    ``POST /whep/{session_id}`` takes an SDP offer and answers 201, the SDP answer, and the
    viewer's own address as ``Location``; ``DELETE`` there leaves. ``GET /watch/{session_id}``
    is a page that plays the session. Trickle ICE is not offered: the answer holds all candidates.

    Args:
        find_room: the open room of a session, None when there is none.
        authorize: decides by the bearer token or the query parameter ``token``; None lets in
            anyone who knows the session's id.
    """
    router = APIRouter()
    page, page_headers = watch_page()

    def room_of(request: Request, session_id: str) -> WhepRoom:
        token = _token(request)
        if authorize is not None and not authorize(session_id, token):
            raise ApiError(401, "UNAUTHORIZED", "A valid token is needed to watch this session")
        room = find_room(session_id)
        if room is None:
            raise ApiError(404, "SESSION_NOT_FOUND", "This session does not exist or has ended")
        return room

    @router.options("/whep/{session_id}")
    @router.options("/whep/{session_id}/{viewer_id}")
    async def preflight() -> Response:
        """Any page may ask: what protects a session is its id, or a token."""
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

    @router.post("/whep/{session_id}")
    async def join(request: Request, session_id: str) -> Response:
        """Join as a viewer."""
        try:
            room = room_of(request, session_id)
            viewer_id, answer = await room.join(await _read_offer(request))
        except ApiError as error:
            return _refusal(error)
        except BadOffer as error:
            return _refusal(ApiError(400, "BAD_OFFER", str(error)))
        except UnusableOffer as error:
            return _refusal(ApiError(406, "UNUSABLE_OFFER", str(error)))
        except RoomFull as error:
            return _refusal(ApiError(503, "ROOM_FULL", str(error)))
        except RoomError as error:
            return _refusal(ApiError(404, "SESSION_NOT_FOUND", str(error)))
        location = request.url_for("leave", session_id=session_id, viewer_id=viewer_id).path
        return Response(answer, 201, {"Location": location, **_CORS}, SDP)

    @router.delete("/whep/{session_id}/{viewer_id}", name="leave")
    async def leave(request: Request, session_id: str, viewer_id: str) -> Response:
        """Stop watching."""
        try:
            room = room_of(request, session_id)
        except ApiError as error:
            return _refusal(error)
        if not await room.leave(viewer_id):
            return _refusal(ApiError(404, "VIEWER_NOT_FOUND", "This viewer has left already"))
        return Response(status_code=200, headers=_CORS)

    @router.patch("/whep/{session_id}/{viewer_id}")
    async def trickle() -> Response:
        """Candidates one by one, or an ICE restart: not supported, as the draft allows."""
        refusal = _refusal(
            ApiError(
                405, "METHOD_NOT_ALLOWED", "Trickle ICE is not supported; offer all candidates"
            )
        )
        refusal.headers["Allow"] = "DELETE, OPTIONS"
        return refusal

    @router.get("/watch/{session_id}")
    async def watch(request: Request, session_id: str) -> Response:
        """A page that plays the session."""
        try:
            room_of(request, session_id)
        except ApiError as error:
            return _refusal(error)
        return Response(page, headers=page_headers, media_type="text/html; charset=utf-8")

    return router


def _token(request: Request) -> str | None:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    return request.query_params.get("token")


async def _read_offer(request: Request) -> str:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != SDP:
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"Send an SDP offer with Content-Type: {SDP}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_OFFER_BYTES:
            raise ApiError(413, "OFFER_TOO_LARGE", f"An offer has at most {MAX_OFFER_BYTES} bytes")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadOffer("the body is not an SDP offer; it is not even text") from None


def _refusal(error: ApiError) -> Response:
    response = error.response()
    response.headers.update(_CORS)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
