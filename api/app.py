"""The HTTP application: every route, every error in its documented form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from api.auth import SECURITY_SCHEMES
from api.container.services import Services
from api.gateway import gateway
from api.http.body_limit import BodyLimit
from api.http.errors import ApiError, api_error
from api.http.middleware import RequestMiddleware
from api.routes import avatars, console, media, preview, probes, sessions, usage, watch

logger = structlog.get_logger(__name__)

ROUTERS: Sequence[APIRouter] = (
    sessions.router,
    avatars.router,
    preview.router,
    usage.router,
    media.router,
    watch.router,
    probes.router,
    gateway.router,
    console.router,
)

_DESCRIPTION = "Real-time avatars: sessions, avatars, usage."


def version() -> str:
    """The installed package's version."""
    try:
        return metadata.version("avatar-server")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "0"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Those of all routers: they close the gateway and the clients that their routes made."""
    async with AsyncExitStack() as opened:
        for router in ROUTERS:
            await opened.enter_async_context(router.lifespan_context(app))
        yield


def create_app(services: Services) -> FastAPI:
    """The application. What it uses is opened and closed by the caller that made ``services``."""
    app = FastAPI(
        lifespan=_lifespan,
        title="Avatar API",
        version=version(),
        description=_DESCRIPTION,
        # A redirect would send the key once more, to an address the client did not choose.
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    # In one flat list: an included router would be asked first, and then match all over again.
    app.router.routes += [route for router in ROUTERS for route in router.routes]
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    _install_error_handlers(app, app.routes)
    app.add_middleware(BodyLimit)
    # The last one added is the outermost.
    app.add_middleware(RequestMiddleware, services=services)
    return app


def _install_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return JSONResponse(error.body(), error.status, error.headers)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allow = {"Allow": ", ".join(_allowed(routes, request))}
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=allow)
            return await known(request, api_error("METHOD_NOT_ALLOWED", headers=allow))
        if error.status_code == 404:
            return await known(request, api_error("NOT_FOUND"))
        refusal = api_error("INVALID_BODY", status=error.status_code, message=str(error.detail))
        refusal.headers.update(error.headers or {})
        return await known(request, refusal)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        where, *names = error.errors()[0]["loc"]
        if where == "query":
            message = f"Invalid value for query parameter `{names[0] if names else ''}`"
            return await known(request, api_error("INVALID_QUERY", message=message))
        return await known(request, api_error("INVALID_BODY", message="Request cannot be read"))

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)


def _allowed(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """The methods of all routes at this address; the router names only the first one's."""
    methods = {"OPTIONS"}
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        for operations in document["paths"].values():
            for operation in operations.values():
                # FastAPI's own form of a validation error, which nobody gets here.
                operation["responses"].pop("422", None)
                if "401" in operation["responses"]:
                    operation["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
        for unused in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
