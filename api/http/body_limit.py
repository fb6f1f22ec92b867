"""Request bodies are bounded while they are read, whether they say their size or come in chunks."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import api_error

PHOTO_BYTES = 15 * 2**20
"""Bodies that may hold a photo in base64."""
OTHER_BYTES = 2**20

_WITH_PHOTO = frozenset({"/v1/sessions", "/v1/avatars/upload-face"})


class BodyLimit:
    """ASGI middleware: reading more than allowed raises 413, and 413 is what the client gets,
    whatever the route made of the broken body. A body nobody reads is nobody's concern."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = PHOTO_BYTES if scope["path"] in _WITH_PHOTO else OTHER_BYTES
        declared = _declared(scope)
        read = 0
        exceeded = answered = replaced = False

        async def limited() -> Message:
            nonlocal read, exceeded
            if declared <= limit or answered:
                message = await receive()
                read += len(message.get("body", b""))
                if read <= limit or answered:
                    return message
            exceeded = True
            raise api_error("PAYLOAD_TOO_LARGE", headers=_CLOSE)

        async def guarded(message: Message) -> None:
            nonlocal answered, replaced
            if replaced:
                return
            if exceeded and not answered:
                answered = replaced = True
                error = api_error("PAYLOAD_TOO_LARGE")
                await JSONResponse(error.body(), error.status, _CLOSE)(scope, receive, send)
                return
            answered = True
            await send(message)

        await self._app(scope, limited, guarded)


_CLOSE = {"Connection": "close"}
"""The rest of the body is not waited for."""


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0
