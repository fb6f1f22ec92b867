"""The RunPod worker: a warm engine, its servers on the SDK's event loop, one session per job.

The SDK runs handlers as tasks of its own event loop, which exists from ``start`` on only; fitness
checks run before it, on another. So the engine is warmed without a loop, and everything that has
one (servers, sessions) is opened on the loop that first asks for it, and lives there alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog

from models.engine import Engine
from worker.diagnostics.capacity import MEASURE_S, Capacity, capacity_meter
from worker.engines import sample_portrait
from worker.http.errors import ApiError, as_api_error
from worker.interfaces import Draining
from worker.runpod.address import listen_port, proxy_url, speech_addresses
from worker.runpod.job import failed, read_job
from worker.runpod.progress import Progress, no_post, platform_post
from worker.runpod.session_job import run_session
from worker.runpod.shutdown import Shutdown, refuse_strays, results_posted
from worker.server import PortError, http_server, speech_server
from worker.service import Worker
from worker.settings import WorkerSettings, load_settings

logger = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 25.0
"""How long sessions may go on after SIGTERM, unless the settings say so: a pod is killed soon."""

POSTING_TIMEOUT_S = 15.0
"""How long results may take to be posted after the last session has ended."""


def runpod_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """The worker's settings, with defaults that suit a pod: reachable, and a short drain.

    Raises:
        SettingsError: a variable cannot be used.
    """
    settings = load_settings()
    given = settings.model_fields_set
    overrides: dict[str, Any] = {"ws_port": listen_port(environ, settings.ws_port)}
    if "host" not in given and environ.get("RUNPOD_POD_ID"):
        overrides["host"] = "0.0.0.0"
    if "drain_timeout_s" not in given:
        overrides["drain_timeout_s"] = DRAIN_TIMEOUT_S
    return load_settings(**overrides)


class JobService:
    """Runs jobs. ``handle`` and ``concurrency`` are what the SDK is given."""

    def __init__(
        self,
        settings: WorkerSettings,
        load_engine: Callable[[], Engine],
        environ: Mapping[str, str],
    ) -> None:
        """``load_engine`` returns a warm engine and raises where its weights are missing;
        ``environ`` holds RunPod's variables."""
        self._settings = settings
        self._load_engine = load_engine
        self._environ = environ
        self._engine: Engine | None = None
        self._capacity = settings.max_sessions or 1
        self._on_platform = False
        self._opening: asyncio.Task[Worker] | None = None
        self._servers = AsyncExitStack()
        self._keeper: asyncio.Task[None] | None = None
        self._addresses: dict[str, str] = {}
        self._seen: set[str] = set()
        self._shutdown = Shutdown(self._shut_down)

    def warm(self) -> None:
        """Load the engine, have it render and measure how many sessions it holds; once.

        The fitness check: it raises when weights are missing or no frame comes out.
        """
        if self._engine is not None:
            return
        engine = self._load_engine()
        settings = self._settings
        # A few frames are rendered even where the settings leave nothing open.
        known = settings.max_sessions is not None and settings.canvas.scale != "auto"
        measure = capacity_meter(settings, sample_portrait(), seconds=0.01 if known else MEASURE_S)
        found = measure(engine)
        self._settings = settings.at_scale(found.scale)
        # Here a job is a session, and a worker that takes none would wait for ever.
        self._capacity = settings.max_sessions or found.sessions or 1
        self._engine = engine

    @property
    def capacity(self) -> int:
        """Sessions this worker holds at a time."""
        return self._capacity

    def concurrency(self, current: int) -> int:
        """How many jobs the SDK may run at a time: the measured capacity.

        Only the SDK's loop on the platform asks, before it takes its first job: by then the
        servers should be opening.
        """
        self._on_platform = True
        self._open()
        return self._capacity

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job; returns its output, or its error without a trace of the inside."""
        self._seen.add(str(job.get("id")))
        try:
            return await self._run(job)
        except Exception as error:
            answer = as_api_error(error)
            if answer is None:
                logger.exception("job failed")
                answer = ApiError(500, "INTERNAL_ERROR", "Internal server error")
            logger.info("job refused", code=answer.code)
            return failed(answer)

    async def _run(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._shutdown.begun:
            raise Draining
        try:
            worker = await asyncio.shield(self._open())
        except PortError as error:
            raise ApiError(500, "PORT_NOT_AVAILABLE", str(error)) from None
        order = await asyncio.to_thread(read_job, job.get("input"), self._settings)
        if order.request.room.platform == "whep" and not self._serves_http:
            raise ApiError(
                400,
                "PLATFORM_NOT_AVAILABLE",
                "room.platform: whep is not available on this server",
                "Set AVATAR_WORKER_SECRET, which guards the HTTP service that whep needs",
            )
        post = platform_post if self._on_platform else no_post
        async with post(job) as deliver:
            return await run_session(worker, order, self._addresses, Progress(deliver))

    def _open(self) -> asyncio.Task[Worker]:
        loop = asyncio.get_running_loop()
        if self._opening is None:
            self._opening = loop.create_task(self._start(), name="runpod worker")
            self._opening.add_done_callback(self._opened)
        elif self._opening.get_loop() is not loop:
            raise RuntimeError("this worker lives on another event loop")
        return self._opening

    def _opened(self, opening: asyncio.Task[Worker]) -> None:
        if opening.cancelled() or opening.exception() is None:
            return
        logger.error("this worker cannot serve", error=str(opening.exception()))
        if self._on_platform:  # a worker that nobody can reach must not take jobs
            opening.get_loop().call_soon(sys.exit, 1)

    async def _start(self) -> Worker:
        engine = self._engine
        if engine is None:  # a local run: the platform's fitness check has not been here
            await asyncio.to_thread(self.warm)
            engine = self._engine
        assert engine is not None
        worker = Worker(self._settings, lambda: engine)
        scale = self._settings.canvas.scale
        assert scale != "auto"
        await worker.start(lambda _: Capacity(scale, self._capacity))
        self._servers.push_async_callback(worker.aclose)
        speech = await self._servers.enter_async_context(speech_server(worker, self._settings))
        self._addresses = speech_addresses(self._environ, speech.port, self._settings.public_ws_url)
        if self._serves_http:
            port = await self._servers.enter_async_context(http_server(worker, self._settings))
            if self._settings.public_url is None:
                worker.http_url = proxy_url(self._environ, port) or worker.http_url
        self._shutdown.install()
        self._keeper = asyncio.create_task(self._keep(), name="runpod keeper")
        logger.info("taking jobs", capacity=self._capacity, addresses=self._addresses)
        return worker

    @property
    def _serves_http(self) -> bool:
        return self._settings.loopback or self._settings.secret is not None

    async def aclose(self) -> None:
        """End what still runs and close the servers."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._servers.aclose()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        """Close everything when the loop is torn down, as it is after a local test job."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._servers.aclose()

    async def _shut_down(self) -> None:
        """Drain; on the platform, see every job answered and leave."""
        strays = asyncio.create_task(refuse_strays(self._seen)) if self._on_platform else None
        if self._opening is not None and self._opening.done() and not self._opening.exception():
            await self._opening.result().drain()
        if strays is None:
            return  # a local run ends with its job
        await results_posted(POSTING_TIMEOUT_S)
        strays.cancel()
        await asyncio.gather(strays, return_exceptions=True)
        await self.aclose()
        # The SDK would go on waiting for its open long polls.
        asyncio.get_running_loop().call_soon(sys.exit, 0)
