"""The page at ``/``: a person uploads a photo, watches it, and talks."""

from __future__ import annotations

import functools
import hashlib
import html
from dataclasses import dataclass
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.container.deps import ServicesDep
from api.http.errors import api_error
from api.routes.console_key import ConsoleKey, is_loopback, is_own_page, keys_are_made
from api.settings import ApiSettings

router = APIRouter(include_in_schema=False)

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "ogg": "audio/ogg",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@functools.cache
def _files() -> dict[str, _File]:
    """What a browser may fetch, by name."""
    found = {}
    for entry in resources.files("api").joinpath("console").iterdir():
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[entry.name] = _File(content, media_type, etag)
    return found


@functools.cache
def _template(name: str) -> str:
    return resources.files("api").joinpath("console", name).read_text("utf-8")


def page(name: str, settings: ApiSettings, status: int = 200, **values: str) -> Response:
    """A page of ``api/console``; ``values`` replace its ``{{names}}``, made safe for HTML."""
    text = _template(name)
    for key, value in {"gateway": settings.public_ws_url or "", **values}.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return Response(text, status, page_headers(settings), "text/html; charset=utf-8")


def page_headers(settings: ApiSettings) -> dict[str, str]:
    """Only our own files run, and they talk to nobody but us (and the bucket, for pictures)."""
    connect, images = ["'self'"], ["'self'", "blob:"]
    if settings.public_ws_url is not None:
        gateway = urlsplit(settings.public_ws_url)
        connect.append(f"{gateway.scheme}://{gateway.netloc}")
    if settings.media_url is not None:
        images.append("https:")
        endpoint = urlsplit(
            parse_qs(urlsplit(settings.media_url).query).get("endpoint_url", [""])[0]
        )
        if endpoint.scheme == "http":
            images.append(f"http://{endpoint.netloc}")
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self' blob:; "
            f"img-src {' '.join(images)}; connect-src {' '.join(connect)}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


@router.get("/")
async def console(request: Request, services: ServicesDep) -> Response:
    """The page."""
    settings = services.settings
    if settings.console == "off":
        raise api_error("NOT_FOUND")
    local = keys_are_made(settings) and is_loopback(request.headers.get("host", ""))
    return page("index.html", settings, key="made" if local else "asked")


@router.get("/console/{name}")
async def file(name: str, request: Request) -> Response:
    """The page's own files; preview pages use them too, so they are there without the page."""
    found = _files().get(name)
    if found is None:
        raise api_error("NOT_FOUND")
    headers = {
        "Cache-Control": "no-cache",
        "ETag": found.etag,
        "X-Content-Type-Options": "nosniff",
    }
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, 200, headers, found.media_type)


@router.post("/console/key")
async def key(request: Request, services: ServicesDep) -> Response:
    """An API key for the page, where only this machine can ask for one."""
    if not (keys_are_made(services.settings) and is_own_page(request)):
        raise api_error("NOT_FOUND")
    state = request.app.state
    if not hasattr(state, "console_key"):
        state.console_key = ConsoleKey()
    text, expires_at = await state.console_key.get(
        services.store, services.settings.default_plan, services.now()
    )
    return JSONResponse(
        {
            "success": True,
            "api_key": text,
            "expires_at": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        headers={"Cache-Control": "no-store"},
    )
