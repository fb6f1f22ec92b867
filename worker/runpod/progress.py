"""What a job tells while it runs: one sender per job, in order, and nothing after the end.

The SDK's own ``progress_update`` starts a thread per call: updates overtake each other and one can
land after the result. Here each update is posted and awaited before the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import structlog

logger = structlog.get_logger(__name__)

JobState = Literal["starting", "joining", "ready", "draining", "ended"]

Post = Callable[[dict[str, Any]], Awaitable[None]]

SEND_TIMEOUT_S = 10.0
"""How long one update may take; then the job goes on without it."""


class Progress:
    """One job's updates, numbered from 1 by ``seq``."""

    def __init__(self, post: Post) -> None:
        """``post`` delivers one update."""
        self._post = post
        self._seq = 0
        self._over = False
        self._turn = asyncio.Lock()

    async def send(self, state: JobState, **facts: Any) -> None:
        """Deliver an update; after ``last`` this does nothing. A failed delivery is logged: a
        session does not end because its control plane did not listen."""
        async with self._turn:
            if self._over:
                return
            update = self._numbered(state, facts)
            logger.info("job progress", **update)
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._post(update)
            except Exception as error:
                logger.warning("job progress was not delivered", error=type(error).__name__)

    async def last(self, state: JobState, **facts: Any) -> dict[str, Any]:
        """The job's output, numbered like an update; waits for the one under way."""
        async with self._turn:
            self._over = True
            return self._numbered(state, facts)

    def _numbered(self, state: JobState, facts: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        return {"seq": self._seq, "state": state, **facts}


@asynccontextmanager
async def platform_post(job: dict[str, Any]) -> AsyncIterator[Post]:
    """Posts updates of ``job`` to RunPod, over a connection of the job's own."""
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result

    async with AsyncClientSession() as http:

        async def post(update: dict[str, Any]) -> None:
            await send_result(http, {"status": "IN_PROGRESS", "output": update}, job)

        yield post


@asynccontextmanager
async def no_post(job: dict[str, Any]) -> AsyncIterator[Post]:
    """Posts nothing: a local run has nobody to tell. The log has it."""

    async def post(update: dict[str, Any]) -> None:
        pass

    yield post
