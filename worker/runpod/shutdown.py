"""SIGTERM on RunPod: what the SDK does, and what it leaves undone.

The SDK replaces signal handlers when it starts, and on SIGTERM it only stops asking for jobs: it
waits for running ones, and for its open long polls, one of which may still bring a job that nobody
would run. So our handler goes before the SDK's, and calls it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Container

import structlog

from worker.http.errors import as_api_error
from worker.interfaces import Draining
from worker.runpod.job import failed

logger = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.1

STRAY_AFTER_S = 1.0
"""A job the SDK holds for so long without running it will never run."""


class Shutdown:
    """Runs ``work`` once when SIGTERM comes; a second one exits at once with status 1."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.begun = False
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Take SIGTERM over on the running loop, once the SDK has installed its own handler."""
        if threading.current_thread() is not threading.main_thread():
            logger.warning("not in the main thread: SIGTERM will not drain this worker")
            return
        theirs = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if self.begun:
                os._exit(1)
            self.begun = True
            logger.info("draining")
            if callable(theirs):
                theirs(signal.SIGTERM, None)
            self._task = loop.create_task(self._run(), name="runpod shutdown")

        loop.add_signal_handler(signal.SIGTERM, on_signal)

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception:
            logger.exception("draining failed")
            os._exit(1)


async def refuse_strays(seen: Container[str]) -> None:
    """Until cancelled, refuse jobs that the SDK has taken and will not run any more.

    ``seen``: ids of the jobs that reached the handler.
    """
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result
    from runpod.serverless.modules.worker_state import JobsProgress

    answer = as_api_error(Draining())
    assert answer is not None
    since: dict[str, float] = {}
    async with AsyncClientSession() as http:
        while True:
            now = asyncio.get_running_loop().time()
            held = {job.id for job in set(JobsProgress())}
            for job_id in held:
                if job_id in seen or now - since.setdefault(job_id, now) < STRAY_AFTER_S:
                    continue
                logger.info("job refused", code=answer.code)
                await send_result(http, failed(answer), {"id": job_id})
                JobsProgress().remove(job_id)
            await asyncio.sleep(LOOK_EVERY_S)


async def results_posted(timeout_s: float) -> None:
    """Wait until the SDK holds no job any more: each has got its result."""
    from runpod.serverless.modules.worker_state import JobsProgress

    try:
        async with asyncio.timeout(timeout_s):
            # The SDK keeps a plain set: there is no event to wait for.
            while JobsProgress().get_job_count():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        logger.warning("results are still being posted; leaving without them")
