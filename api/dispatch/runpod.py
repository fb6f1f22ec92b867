"""Serverless workers: one RunPod job is one session."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog

from api.dispatch.order_body import order_body
from api.dispatch.port import Capacity, NoWorker, Order, OrderRefused, Placement, WorkerReport
from api.dispatch.runpod_job import JobProgress
from api.records import AspectRatio, EndReason, Platform, Session
from api.settings import PREFIX, RunPodSettings, SettingsError

logger = structlog.get_logger(__name__)

HANDLE = "runpod:"

MAX_PAYLOAD_BYTES = 10 * 10**6
"""RunPod takes 10 MB; which kind of megabyte, it does not say."""

MARGIN_S = 120
"""A job may run so much longer than its session, so that the session ends by its own clock."""

QUEUE_S = 600
"""And may wait so long before it runs."""

LONGEST_JOB_S = 7 * 24 * 3600

TIMEOUT_S = 10.0
STARTING_POLL_S = 1.0
RUNNING_POLL_S = 5.0
"""Times between looks at one job."""

PARALLEL = 16
"""Requests at a time."""

TRIES = 4
"""Of a request that RunPod answers with 429."""

FIRST_PAUSE_S = 0.5
CANCEL_EVERY_S = 5.0
CANCEL_FOR_S = 600.0
HEALTH_EVERY_S = 15.0
REMEMBERED = 4096
"""Jobs whose last report is kept."""


class _Unanswered(Exception):
    """RunPod did not answer, or with something that tells nothing; the text is for the log."""


@dataclass
class _Job:
    progress: JobProgress
    report: WorkerReport
    polled_at: float


class RunPodDispatcher:
    """A ``Dispatcher`` of one serverless endpoint."""

    def __init__(
        self,
        settings: RunPodSettings,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now``: seconds of a steady clock. Raises ``SettingsError``: something is not set."""
        if not settings.endpoint_id or settings.api_key is None:
            missing = "API_KEY" if settings.endpoint_id else "ENDPOINT_ID"
            raise SettingsError(f"{PREFIX}DISPATCHER=runpod needs {PREFIX}RUNPOD__{missing}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", settings.endpoint_id):
            raise SettingsError(f"{PREFIX}RUNPOD__ENDPOINT_ID is no endpoint id")
        self._settings = settings
        self._now = now
        self._client = httpx.AsyncClient(
            base_url=f"{settings.base_url.rstrip('/')}/{settings.endpoint_id}",
            headers={"Authorization": f"Bearer {settings.api_key.get_secret_value()}"},
            timeout=TIMEOUT_S,
        )
        self._turns = asyncio.Semaphore(PARALLEL)
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._placed: OrderedDict[str, asyncio.Future[Placement]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._capacity = Capacity(0, None, 0)
        self._refused = False

    @property
    def platforms(self) -> frozenset[Platform]:
        """No ``local`` rooms: media over UDP cannot reach a serverless worker from outside."""
        return frozenset(("livekit", "daily", "proxy"))

    async def start(self) -> None:
        """Begin to ask for the endpoint's health."""
        self._task(self._keep_asking_health(), "runpod health")

    async def aclose(self) -> None:
        """Close connections. Jobs go on: they are found again by their ids."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    # Placing

    async def place(self, order: Order) -> Placement:
        """See ``Dispatcher.place``. RunPod knows no idempotency: a repeat is recognised by the
        process that placed the session, and a request without an answer is not sent again."""
        known = self._placed.get(order.session_id)
        if known is not None:
            return await asyncio.shield(known)
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._placed[order.session_id] = future
        while len(self._placed) > REMEMBERED:
            self._placed.popitem(last=False)
        try:
            placement = await self._run(order)
        except BaseException as error:
            self._placed.pop(order.session_id, None)
            # Who waited for this one is told the same, and nobody else needs to be.
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()
            else:
                future.cancel()
            raise
        future.set_result(placement)
        return placement

    async def _run(self, order: Order) -> Placement:
        payload = json.dumps(self._payload(order)).encode()
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise OrderRefused(
                "IMAGE_TOO_LARGE",
                "The image is too large for a serverless worker",
                "Use an image of at most 7 MB",
            )
        try:
            answer = await self._request("POST", "/run", content=payload)
        except _Unanswered as error:
            logger.error("job was not taken", session_id=order.session_id, reason=str(error))
            raise NoWorker(str(error)) from None
        job = _json(answer).get("id")
        if answer.status_code != 200 or not isinstance(job, str) or not _is_id(job):
            why = "RunPod knows no such endpoint" if answer.status_code == 404 else "refused"
            logger.error(
                "job was not taken",
                session_id=order.session_id,
                status=answer.status_code,
                reason=why,
            )
            raise NoWorker("RunPod did not take the job")
        logger.info("job submitted", session_id=order.session_id, job=job)
        return Placement(HANDLE + job)

    def _payload(self, order: Order) -> dict[str, Any]:
        limit_s = float(self._settings.max_session_s)
        if order.expires_at is not None:
            limit_s = max(0.0, (order.expires_at - datetime.now(UTC)).total_seconds())
        body = order_body(order)
        if order.expires_at is None:
            body["max_duration_s"] = limit_s
        run_s = min(limit_s + MARGIN_S, LONGEST_JOB_S)
        live_s = min(run_s + QUEUE_S, LONGEST_JOB_S)
        policy = {"executionTimeout": round(run_s * 1000), "ttl": round(live_s * 1000)}
        return {"input": body, "policy": policy}

    # Watching

    async def poll(self, sessions: Sequence[Session]) -> Mapping[str, WorkerReport]:
        """See ``Dispatcher.poll``. A running job is looked at every 5 s, a starting one every
        second; in between the last report stands."""
        reports = await asyncio.gather(*(self._report(session) for session in sessions))
        return {session.id: report for session, report in zip(sessions, reports, strict=True)}

    async def _report(self, session: Session) -> WorkerReport:
        job_id = (session.worker or "").removeprefix(HANDLE)
        if not (session.worker or "").startswith(HANDLE) or not _is_id(job_id):
            return WorkerReport("silent", detail="the session is not on RunPod")
        job = self._jobs.get(job_id)
        if job is None:
            progress = JobProgress(self._settings.socket, ws_uri=session.ws_uri)
            job = self._jobs[job_id] = _Job(progress, WorkerReport("starting"), float("-inf"))
            while len(self._jobs) > REMEMBERED:
                self._jobs.popitem(last=False)
        every_s = (
            RUNNING_POLL_S
            if job.report.state == "running" and job.report.ready
            else STARTING_POLL_S
        )
        # Half a second early rather than late: pollers come once a second.
        if job.report.state == "ended" or self._now() - job.polled_at < every_s - 0.5:
            return job.report
        job.polled_at = self._now()
        job.report = await self._poll_job(job_id, job.progress, session)
        return job.report

    async def _poll_job(self, job_id: str, progress: JobProgress, session: Session) -> WorkerReport:
        try:
            answer = await self._request("GET", f"/status/{job_id}")
        except _Unanswered as error:
            return WorkerReport("silent", detail=str(error))
        if answer.status_code == 404:
            return WorkerReport("lost", detail="RunPod does not know the job any more")
        if answer.status_code != 200:
            return WorkerReport("silent", detail=f"RunPod answers {answer.status_code}")
        return progress.report(_json(answer), session, datetime.now(UTC))

    # Ending

    async def end(self, session: Session, reason: EndReason) -> None:
        """See ``Dispatcher.end``. The worker tells its clients ``client_request``: RunPod passes
        no reason on. Where RunPod does not answer, the job is cancelled as soon as it does."""
        job_id = (session.worker or "").removeprefix(HANDLE)
        if not (session.worker or "").startswith(HANDLE) or not _is_id(job_id):
            return
        if not await self._cancelled(job_id):
            logger.warning("job was not cancelled yet", session_id=session.id, job=job_id)
            self._task(self._keep_cancelling(job_id), "runpod cancel")

    async def _cancelled(self, job_id: str) -> bool:
        try:
            answer = await self._request("POST", f"/cancel/{job_id}")
        except _Unanswered:
            return False
        # It may be over, or forgotten, already.
        return answer.status_code < 500

    async def _keep_cancelling(self, job_id: str) -> None:
        give_up_at = self._now() + CANCEL_FOR_S
        while self._now() < give_up_at:
            await asyncio.sleep(CANCEL_EVERY_S)
            if await self._cancelled(job_id):
                logger.info("job cancelled", job=job_id)
                return
        logger.error("job could not be cancelled; it runs until its limit", job=job_id)

    # The rest

    async def warm(self, portrait: bytes, aspect_ratio: AspectRatio) -> None:
        """Nothing: which worker will get the next job is not known."""

    async def capacity(self) -> Capacity:
        """Workers that are up; at least one while RunPod answers, for it starts one when it is
        needed."""
        return self._capacity

    async def _keep_asking_health(self) -> None:
        while True:
            try:
                answer = await self._request("GET", "/health")
                if answer.status_code != 200:
                    raise _Unanswered(f"RunPod answers {answer.status_code}")
            except _Unanswered as error:
                logger.warning("runpod does not answer", reason=str(error))
                self._capacity = Capacity(0, None, 0)
            else:
                health = _json(answer)
                up = _count(health, "workers", "running") + _count(health, "workers", "idle")
                self._capacity = Capacity(max(1, up), None, _count(health, "jobs", "inProgress"))
            await asyncio.sleep(HEALTH_EVERY_S)

    async def _request(
        self, method: str, path: str, *, content: bytes | None = None
    ) -> httpx.Response:
        """Ask RunPod; a 429 is waited out for a while.

        Raises:
            _Unanswered: no answer, or one that says we may not ask.
        """
        headers = {"Content-Type": "application/json"} if content is not None else {}
        pause_s = FIRST_PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                async with self._turns:
                    answer = await self._client.request(
                        method, path, content=content, headers=headers
                    )
            except httpx.HTTPError as error:
                raise _Unanswered(type(error).__name__) from None
            if answer.status_code in (401, 403):
                if not self._refused:
                    self._refused = True
                    logger.error(f"RunPod refuses our key; set {PREFIX}RUNPOD__API_KEY")
                raise _Unanswered("RunPod refuses our key")
            self._refused = False
            if answer.status_code != 429:
                return answer
            if left:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        raise _Unanswered("RunPod asks us to slow down")

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_id(text: str) -> bool:
    """Ids become part of a path."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,200}", text) is not None


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _count(health: Mapping[str, Any], group: str, name: str) -> int:
    counts = health.get(group)
    number = counts.get(name) if isinstance(counts, dict) else None
    return number if isinstance(number, int) else 0
