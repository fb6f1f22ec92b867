"""RunPod's control plane in the test process: what the SDK's worker loop and a client talk to.

The worker side (job-take, job-stop, job-done, job-stream, ping) refuses what the platform refuses:
a wrong key, unfilled URL templates, results of jobs that the worker does not hold. The client side
lies under ``/v2/{endpoint}``. Time limits run on an injectable clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
API_KEY = "rp-key-of-the-tests"
MAX_RUN_BYTES = 10 * 2**20
MAX_RUNSYNC_BYTES = 20 * 2**20
WEEK_MS = 7 * 24 * 3600_000
RETENTION_S = {"run": 30 * 60.0, "runsync": 60.0}
LOOK_EVERY_S = 0.05


@dataclass
class Job:
    """One job and everything that was posted about it."""

    id: str
    input: Any
    execution_timeout_s: float
    ttl_s: float
    created: float
    kind: str = "run"
    status: str = "IN_QUEUE"
    worker: str | None = None
    started: float | None = None
    finished: float | None = None
    output: Any = None
    error: Any = None
    stop_pod: bool = False
    progress: list[Any] = field(default_factory=list)
    stream: deque[Any] = field(default_factory=deque)
    late: list[Any] = field(default_factory=list)
    """Bodies posted after the job was final."""


class ShiftedClock:
    """The platform's: real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


class RunPodPlatform:
    """Start it with ``running``; ``environ`` is what a worker process is given."""

    def __init__(self, *, hold_s: float = 20.0, now: Callable[[], float] = time.monotonic) -> None:
        """``hold_s``: how long empty long polls are held. ``now``: seconds, for every limit."""
        self.jobs: dict[str, Job] = {}
        self.pings: list[dict[str, str]] = []
        self.polls: dict[str, int] = {}
        """Open long polls, by route."""
        self.fail_done = 0
        """How many of the next job-done posts answer 500."""
        self.refuse: deque[int] = deque()
        """Statuses that the next calls of clients are answered with: 429, 500, …"""
        self.asked: list[str] = []
        """Method and path of every client's call."""
        self.progress_delays: deque[float] = deque()
        """Seconds that each of the next updates is on its way."""
        self._hold_s = hold_s
        self._now = now
        self._queue: deque[str] = deque()
        self._stops: dict[str, deque[str]] = {}
        self._number = 0
        self._url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RunPodPlatform]:
        """Listen on a free port of the loopback interface while the context lasts."""
        app = web.Application(client_max_size=2 * MAX_RUNSYNC_BYTES)
        worker, client = "/v1/worker", "/v2/{endpoint}"
        app.add_routes(
            [
                web.get(worker + "/job-take/{worker}", self._take),
                web.get(worker + "/job-take-batch/{worker}", self._take_batch),
                web.get(worker + "/job-stop/{worker}", self._stop),
                web.post(worker + "/job-done/{worker}/{job}", self._done),
                web.post(worker + "/job-stream/{worker}/{job}", self._streamed),
                web.get(worker + "/ping/{worker}", self._ping),
                web.post(client + "/run", self._run),
                web.post(client + "/runsync", self._runsync),
                web.get(client + "/status/{job}", self._status),
                web.get(client + "/stream/{job}", self._stream),
                web.post(client + "/cancel/{job}", self._cancel),
                web.get(client + "/health", self._health),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self._url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @property
    def api(self) -> str:
        """Base address of the client side, for some endpoint."""
        return f"{self._url}/v2/endpoint"

    def environ(self, pod: str) -> dict[str, str]:
        """The variables that make the SDK a worker of this platform."""
        base = f"{self._url}/v1/worker"
        return {
            "RUNPOD_AI_API_KEY": API_KEY,
            "RUNPOD_POD_ID": pod,
            "RUNPOD_ENDPOINT_ID": "endpoint",
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def tick(self) -> None:
        """Apply the time limits as of now."""
        now = self._now()
        for job in list(self.jobs.values()):
            if job.finished is not None:
                if now - job.finished > RETENTION_S[job.kind]:
                    del self.jobs[job.id]
            elif now - job.created > job.ttl_s:
                del self.jobs[job.id]
                self._tell_stop(job)
            elif job.started is not None and now - job.started > job.execution_timeout_s:
                self._finish(job, "TIMED_OUT")
                job.error = "executionTimeout exceeded"
                self._tell_stop(job)

    # The worker's side

    async def _take(self, request: web.Request) -> web.Response:
        taken = await self._hand_out(request, "job-take", 1)
        return web.json_response(taken[0]) if taken else web.Response(status=204)

    async def _take_batch(self, request: web.Request) -> web.Response:
        size = request.query.get("batch_size", "")
        if not size.isdecimal() or not int(size):
            raise web.HTTPBadRequest(text="batch_size")
        taken = await self._hand_out(request, "job-take-batch", int(size))
        return web.json_response(taken) if taken else web.Response(status=204)

    async def _hand_out(self, request: web.Request, route: str, size: int) -> list[dict[str, Any]]:
        worker = self._worker(request)
        if request.query.get("job_in_progress") not in ("0", "1"):
            raise web.HTTPBadRequest(text="job_in_progress")
        await self._held(route, lambda: bool(self._queue))
        taken = []
        while self._queue and len(taken) < size:
            job = self.jobs.get(self._queue.popleft())
            if job is None or job.status != "IN_QUEUE":
                continue
            job.status, job.worker, job.started = "IN_PROGRESS", worker, self._now()
            taken.append({"id": job.id, "input": job.input})
        return taken

    async def _stop(self, request: web.Request) -> web.Response:
        stops = self._stops.setdefault(self._worker(request), deque())
        await self._held("job-stop", lambda: bool(stops))
        if not stops:
            return web.Response(status=204)
        ids = list(stops)
        stops.clear()
        return web.json_response({"jobsToStop": ids})

    async def _done(self, request: web.Request) -> web.Response:
        job, body = await self._posted(request)
        if self.fail_done:
            self.fail_done -= 1
            raise web.HTTPInternalServerError
        if body.get("status") == "IN_PROGRESS" and self.progress_delays:
            await asyncio.sleep(self.progress_delays.popleft())
        if job.status in FINAL:
            job.late.append(body)
        elif body.get("status") == "IN_PROGRESS":
            job.progress.append(body.get("output"))
            job.output = body.get("output")
        else:
            job.output, job.error = body.get("output"), body.get("error")
            job.stop_pod = bool(body.get("stopPod"))
            self._finish(job, "FAILED" if job.error else "COMPLETED")
        return web.Response()

    async def _streamed(self, request: web.Request) -> web.Response:
        job, body = await self._posted(request)
        job.stream.append(body)
        return web.Response()

    async def _posted(self, request: web.Request) -> tuple[Job, dict[str, Any]]:
        worker = self._worker(request)
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType
        if request.query.get("isStream") not in ("true", "false"):
            raise web.HTTPBadRequest(text="isStream")
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound
        if job.worker != worker or request.headers.get("X-Request-ID") != job.id:
            raise web.HTTPBadRequest(text="not this worker's job")
        try:
            body = json.loads(await request.text())
        except ValueError:
            raise web.HTTPBadRequest(text="not JSON") from None
        if not isinstance(body, dict):
            raise web.HTTPBadRequest(text="not an object")
        return job, body

    async def _ping(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        self.pings.append({"worker": worker, **request.query})
        return web.Response()

    def _worker(self, request: web.Request) -> str:
        if request.headers.get("Authorization") != API_KEY:
            raise web.HTTPUnauthorized
        worker = request.match_info["worker"]
        if "$" in worker or "$" in request.match_info.get("job", ""):
            raise web.HTTPBadRequest(text="unfilled URL template")
        return worker

    async def _held(self, route: str, wanted: Callable[[], bool]) -> None:
        """Hold a long poll until there is something to tell, or too long."""
        self.polls[route] = self.polls.get(route, 0) + 1
        try:
            until = time.monotonic() + self._hold_s
            self.tick()
            while not wanted() and time.monotonic() < until:
                await asyncio.sleep(LOOK_EVERY_S)
                self.tick()
        finally:
            self.polls[route] -= 1

    # The client's side

    async def _run(self, request: web.Request) -> web.Response:
        job = await self._submit(request, "run", MAX_RUN_BYTES)
        return web.json_response({"id": job.id, "status": job.status})

    async def _runsync(self, request: web.Request) -> web.Response:
        job = await self._submit(request, "runsync", MAX_RUNSYNC_BYTES)
        await self._held("runsync", lambda: job.status in FINAL)
        return web.json_response(self._view(job))

    async def _submit(self, request: web.Request, kind: str, limit: int) -> Job:
        self._authorise(request)
        raw = await request.read()
        if len(raw) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, len(raw))
        try:
            body = json.loads(raw)
        except ValueError:
            raise web.HTTPBadRequest(text="not JSON") from None
        if not isinstance(body, dict) or "input" not in body:
            raise web.HTTPBadRequest(text="input is required")
        policy = body.get("policy", {})
        execution_ms = policy.get("executionTimeout", 600_000)
        ttl_ms = policy.get("ttl", 24 * 3600_000)
        if not isinstance(execution_ms, int) or not isinstance(ttl_ms, int):
            raise web.HTTPBadRequest(text="policy: not whole milliseconds")
        if not 5_000 <= execution_ms <= WEEK_MS or not 10_000 <= ttl_ms <= WEEK_MS:
            raise web.HTTPBadRequest(text="policy: out of range")
        self._number += 1
        job = Job(
            f"job-{self._number}",
            body["input"],
            execution_ms / 1000,
            ttl_ms / 1000,
            self._now(),
            kind,
        )
        self.jobs[job.id] = job
        self._queue.append(job.id)
        return job

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._view(self._asked(request)))

    async def _stream(self, request: web.Request) -> web.Response:
        job = self._asked(request)
        pieces = list(job.stream)
        job.stream.clear()
        return web.json_response({"status": job.status, "stream": pieces})

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._asked(request)
        if job.status not in FINAL:
            self._finish(job, "CANCELLED")
            self._tell_stop(job)
        return web.json_response({"id": job.id, "status": job.status})

    async def _health(self, request: web.Request) -> web.Response:
        self._authorise(request)
        self.tick()
        count = [job.status for job in self.jobs.values()].count
        jobs = {
            "completed": count("COMPLETED"),
            "failed": count("FAILED") + count("TIMED_OUT"),
            "inProgress": count("IN_PROGRESS"),
            "inQueue": count("IN_QUEUE"),
            "retried": 0,
        }
        return web.json_response({"jobs": jobs, "workers": {"running": len(self._stops)}})

    def _asked(self, request: web.Request) -> Job:
        self._authorise(request)
        self.tick()
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound(text="request does not exist")
        return job

    def _authorise(self, request: web.Request) -> None:
        self.asked.append(f"{request.method} {request.path}")
        if self.refuse:
            answer = web.HTTPException()
            answer.set_status(self.refuse.popleft())
            raise answer
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            raise web.HTTPUnauthorized
        if request.match_info["endpoint"] != "endpoint":
            raise web.HTTPNotFound(text="endpoint does not exist")

    def _view(self, job: Job) -> dict[str, Any]:
        view: dict[str, Any] = {"id": job.id, "status": job.status}
        if job.started is not None:
            view["delayTime"] = round((job.started - job.created) * 1000)
        if job.started is not None and job.finished is not None:
            view["executionTime"] = round((job.finished - job.started) * 1000)
        if job.output is not None:
            view["output"] = job.output
        if job.error is not None:
            view["error"] = job.error
        return view

    def _finish(self, job: Job, status: str) -> None:
        job.status, job.finished = status, self._now()

    def _tell_stop(self, job: Job) -> None:
        if job.worker is not None:
            self._stops.setdefault(job.worker, deque()).append(job.id)
