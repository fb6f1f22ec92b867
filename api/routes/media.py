"""``/media/avatars/…``: avatars' pictures, by signed link."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import RedirectResponse

from api.avatars.links import Picture
from api.container.deps import ServicesDep
from api.http.openapi_errors import openapi_errors

router = APIRouter(prefix="/media/avatars", tags=["media"])

STORE_LINK_S = 900
"""How long a link into the bucket works."""
FRESH_S = 3600
"""Longest a browser shows a picture without asking again."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The picture is the one in If-None-Match"},
    307: {"description": "The picture is in a bucket; the link there works for 15 minutes"},
    **openapi_errors("LINK_EXPIRED", "AVATAR_NOT_FOUND", keyed=False),
}

Exp = Annotated[str, Query(description="when the link expires, Unix seconds")]
Sig = Annotated[str, Query(description="its signature")]
Match = Annotated[str, Header(alias="if-none-match")]


@router.get("/{avatar_id:path}/preview", responses=_RESPONSES, response_class=Response)
async def preview(
    avatar_id: str, services: ServicesDep, exp: Exp = "", sig: Sig = "", match: Match = ""
) -> Response:
    """The 500 x 500 preview."""
    return await _picture(services, avatar_id, "preview", exp, sig, match)


@router.get("/{avatar_id:path}/image", responses=_RESPONSES, response_class=Response)
async def image(
    avatar_id: str, services: ServicesDep, exp: Exp = "", sig: Sig = "", match: Match = ""
) -> Response:
    """The aligned image."""
    return await _picture(services, avatar_id, "image", exp, sig, match)


async def _picture(
    services: ServicesDep, avatar_id: str, picture: Picture, exp: str, sig: str, match: str
) -> Response:
    avatars = services.avatars
    avatar, left = await avatars.open_link(avatar_id, picture, exp, sig)
    elsewhere = await avatars.store_link(avatar, picture, min(left, STORE_LINK_S))
    if elsewhere is not None:
        # Forgotten well before the link there stops working.
        caching = {"Cache-Control": f"private, max-age={min(left, STORE_LINK_S) // 2}"}
        return RedirectResponse(elsewhere, 307, caching)
    data = await avatars.picture(avatar, picture)
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Cache-Control": f"private, max-age={min(left, FRESH_S)}",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


def _matches(header: str, etag: str) -> bool:
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return any(tag in (etag, "*") for tag in tags)
