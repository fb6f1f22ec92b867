"""What every HTTP request is wrapped in: its id, its line in the log, its metrics, the rate limit's
headers, and the answer of last resort."""

from __future__ import annotations

import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.container.services import Services
from api.http.errors import ApiError, api_error
from api.http.request_id import HEADER, request_id

logger = structlog.get_logger(__name__)

_MAX_LOGGED_PATH = 200
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMiddleware:
    """The outermost ASGI middleware. Query strings, headers and bodies never reach the log."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = request_id(Headers(scope=scope).get(HEADER))
        with structlog.contextvars.bound_contextvars(request_id=identity):
            await _Exchange(self._services, scope, identity).run(self._app, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, services: Services, scope: Scope, identity: str) -> None:
        self._services = services
        self._method: str = scope["method"]
        # Anyone who can GET can HEAD: the route answers as to GET, and the body is left out.
        self._scope = {**scope, "method": "GET"} if self._method == "HEAD" else scope
        self._state: dict[str, Any] = {**scope.get("state", {}), "request_id": identity}
        self._scope["state"] = self._state
        self._identity = identity
        self._status: int | None = None

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Pass it on, and answer if nobody did."""
        began = time.perf_counter()

        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = self._identity
                headers.update(self._state.get("rate_headers", {}))
            elif self._method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await app(self._scope, receive, wrapped)
        except ApiError as error:
            await self._answer(error, receive, wrapped)
        except Exception as error:
            logger.error("request failed", route=self._route, exc_info=error)
            await self._answer(api_error("INTERNAL_ERROR"), receive, wrapped)
        finally:
            self._note(time.perf_counter() - began)

    async def _answer(self, error: ApiError, receive: Receive, send: Send) -> None:
        if self._status is None:
            response = JSONResponse(error.body(), error.status, error.headers)
            await response(self._scope, receive, send)

    @property
    def _route(self) -> str:
        """The route's template."""
        return getattr(self._scope.get("route"), "path", None) or "unmatched"

    def _note(self, seconds: float) -> None:
        route = self._route
        method = self._method if self._method in _METHODS else "other"
        # No status: the client went before it was answered.
        status = self._status or 499
        self._services.metrics.request(method, route, status, seconds)
        fields: dict[str, Any] = {
            "method": method,
            # A path may hold a link that is a secret; a template never does.
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        if route == "unmatched":
            fields["path"] = self._scope["path"][:_MAX_LOGGED_PATH]
        session_id = self._state.get("session_id") or (self._scope.get("path_params") or {}).get(
            "session_id"
        )
        if session_id:
            fields["session_id"] = str(session_id)[:64]
        log = logger.info if route.startswith("/v1/") or status >= 400 else logger.debug
        log("request", **fields)
