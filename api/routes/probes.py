"""Probes for load balancers and operators, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.container.deps import ServicesDep
from api.http.openapi_errors import openapi_errors
from api.metrics import CONTENT_TYPE

logger = structlog.get_logger(__name__)

router = APIRouter(tags=["operation"])

CHECK_S = 5.0
"""What does not answer by then is missing."""


class Alive(BaseModel):
    """The process and its event loop are alive."""

    ok: Literal[True]


class Ready(BaseModel):
    """Sessions can be created."""

    ready: Literal[True]


class NotReady(BaseModel):
    """Sessions cannot be created now."""

    ready: Literal[False]
    reason: str
    missing: list[str]


class Ping(BaseModel):
    """Requests are served."""

    status: Literal["ready", "draining"]


@router.get("/healthz", response_model=Alive, responses=openapi_errors(keyed=False))
async def healthz() -> dict[str, bool]:
    """The process and its event loop are alive."""
    return {"ok": True}


@router.get(
    "/readyz",
    response_model=Ready,
    responses={**openapi_errors(keyed=False), 503: {"model": NotReady, "description": "not ready"}},
)
async def readyz(services: ServicesDep) -> Any:
    """Whether sessions can be created; if not, what is missing: `store`, `media`, `workers`."""
    missing = [
        name
        for name, fine in zip(
            ("store", "media"),
            await asyncio.gather(
                _passes("store", services.store.check()), _passes("media", services.media.check())
            ),
            strict=True,
        )
        if not fine
    ]
    if (await services.dispatcher.capacity()).workers == 0:
        missing.append("workers")
    if services.sessions.draining:
        return JSONResponse({"ready": False, "reason": "draining", "missing": missing}, 503)
    if missing:
        reason = f"missing: {', '.join(missing)}"
        return JSONResponse({"ready": False, "reason": reason, "missing": missing}, 503)
    return {"ready": True}


@router.get(
    "/ping",
    response_model=Ping,
    responses={**openapi_errors(keyed=False), 503: {"model": Ping, "description": "draining"}},
)
async def ping(services: ServicesDep) -> Any:
    """For load balancers: 200 while requests are served, 503 once the process is going."""
    if services.sessions.draining:
        return JSONResponse({"status": "draining"}, 503)
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **openapi_errors(keyed=False),
        200: {"description": "Prometheus text", "content": {"text/plain": {}}},
    },
)
async def metrics(services: ServicesDep) -> Response:
    """Metrics of this process, as Prometheus text."""
    totals = await services.store.totals()
    capacity = await services.dispatcher.capacity()
    return Response(services.metrics.exposition(totals, capacity), media_type=CONTENT_TYPE)


async def _passes(name: str, check: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(CHECK_S):
            await check
    except Exception as error:
        logger.warning("not ready", part=name, error=type(error).__name__)
        return False
    return True
