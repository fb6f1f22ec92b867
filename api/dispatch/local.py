"""Resident workers: the least loaded first, a dead one skipped and found again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from api.dispatch.order_body import order_json, portrait_json
from api.dispatch.port import Capacity, NoWorker, Order, OrderRefused, Placement, WorkerReport
from api.dispatch.spawn import SpawnedWorker
from api.dispatch.worker_client import WorkerClient
from api.dispatch.worker_http import Answer, Unanswered, WorkerHttp
from api.records import AspectRatio, EndReason, Platform, Session
from api.settings import LocalSettings

logger = structlog.get_logger(__name__)

END_TIMEOUT_S = 5.0
WARM_TIMEOUT_S = 30.0
WARMING_POLL_S = 0.2
"""Time between looks at workers somebody waits for."""

UNWANTED_S = 600.0
"""How long a worker that did not answer is watched for sessions it should not run."""


class LocalDispatcher:
    """A ``Dispatcher`` of workers at fixed addresses, and perhaps one spawned here."""

    def __init__(
        self,
        settings: LocalSettings,
        *,
        look_s: float,
        spawned: SpawnedWorker | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``look_s``: seconds between looks at the workers. ``now``: seconds of a steady clock."""
        self._settings = settings
        self._look_s = look_s
        self._spawned = spawned
        self._now = now
        self._http = WorkerHttp()
        self._workers = [
            WorkerClient(address.rstrip("/"), address, settings.secret, self._http, now)
            for address in settings.workers
        ]
        self._others: dict[str, WorkerClient] = {}
        """Workers that are no longer listed and still have sessions."""
        self._unwanted: dict[tuple[str, str], tuple[EndReason, float]] = {}
        """(worker, session) that may come alive and must not: the reason, and until when."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: set[str] = set()

    @property
    def platforms(self) -> frozenset[Platform]:
        """All: a worker that lacks a package says so when it is asked."""
        return frozenset(("local", "livekit", "daily", "proxy"))

    async def start(self) -> None:
        """Spawn the worker, if one is to be, and begin to look."""
        if self._spawned is not None:
            await self._spawned.start()
            self._workers.append(
                WorkerClient(
                    self._spawned.handle,
                    self._spawned.address,
                    self._spawned.secret,
                    self._http,
                    self._now,
                    expected=True,
                )
            )
        self._task(self._keep_polling(), "look at the workers")

    async def aclose(self) -> None:
        """Stop looking, close connections, stop what was spawned."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._spawned is not None:
            await self._spawned.aclose()
        await self._http.aclose()

    # Placing

    async def place(self, order: Order) -> Placement:
        """See ``Dispatcher.place``. Waits up to ``warm_wait_s`` for workers that are starting."""
        give_up_at = self._now() + self._settings.warm_wait_s
        refused: set[str] = set()
        body = order_json(order)
        while True:
            worker = self._least_loaded(refused)
            if worker is None:
                # Things may have changed since the last look.
                await self._poll_workers(self._workers)
                worker = self._least_loaded(refused)
            if worker is not None:
                placement = await self._offer(worker, order.session_id, body)
                if placement is not None:
                    return placement
                refused.add(worker.handle)
            elif self._some_starting() and self._now() < give_up_at:
                await asyncio.sleep(WARMING_POLL_S)
                # Those that have started since may be asked again.
                refused &= {each.handle for each in self._workers if each.serving}
            else:
                raise NoWorker("no worker is free")

    def _least_loaded(self, refused: set[str]) -> WorkerClient | None:
        candidates = [each for each in self._workers if each.free and each.handle not in refused]
        return min(candidates, key=lambda each: each.occupied / each.capacity, default=None)

    def _some_starting(self) -> bool:
        if any(each.status and each.status.state == "warming" for each in self._workers):
            return True
        ours = self._spawned
        return ours is not None and ours.starting and not self._spawned_answers()

    def _spawned_answers(self) -> bool:
        ours = self._spawned
        return any(each.status and ours and each.handle == ours.handle for each in self._workers)

    async def _offer(self, worker: WorkerClient, session_id: str, body: bytes) -> Placement | None:
        """Ask one worker. None: it does not take the session, and surely does not run it."""
        self._unwanted.pop((worker.handle, session_id), None)
        worker.placing(session_id)
        taken = False
        try:
            placement = await self._ask(worker, session_id, body, again=True)
            taken = placement is not None
            return placement
        except asyncio.CancelledError:
            # The caller that wanted it has gone; it may be running all the same.
            self._terminate_later(worker, session_id, "client_request")
            raise
        finally:
            worker.placed(session_id, taken)

    async def _ask(
        self, worker: WorkerClient, session_id: str, body: bytes, again: bool
    ) -> Placement | None:
        try:
            answer = await worker.request(
                "POST", "/sessions", timeout_s=self._settings.timeout_s, body=body
            )
        except Unanswered as error:
            logger.warning(
                "worker did not answer an order",
                worker=worker.handle,
                session_id=session_id,
                reason=str(error),
            )
            if error.unseen:
                worker.silent(str(error))
                return None
            return await self._settle(worker, session_id, body, again and not error.timed_out)
        return await self._answered(worker, session_id, answer)

    async def _answered(
        self, worker: WorkerClient, session_id: str, answer: Answer
    ) -> Placement | None:
        content = answer.json()
        if answer.status == 200 and isinstance(content.get("ws_uri"), str):
            watched = content.get("watch_uri") is not None
            return Placement(
                worker.handle,
                content.get("instance"),
                worker.speech_address(content["ws_uri"]),
                worker.watch_address(session_id) if watched else None,
            )
        error = content.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        log = logger.bind(worker=worker.handle, session_id=session_id, code=code)
        if answer.status == 409 and code == "SESSION_EXISTS":
            return await self._found(worker, session_id)
        if answer.status in (400, 404, 413) and isinstance(error, dict) and code:
            log.info("worker refuses an order")
            raise OrderRefused(str(code), str(error.get("message", "")), error.get("suggestion"))
        if answer.status in (401, 403):
            log.error("the worker does not accept our secret; set AVATAR_API_LOCAL__SECRET")
        elif answer.status == 503:
            log.info("worker is not free")
        else:
            log.error("worker failed at an order", status=answer.status)
        # What was known of it is out of date.
        await worker.fetch()
        return None

    async def _settle(
        self, worker: WorkerClient, session_id: str, body: bytes, again: bool
    ) -> Placement | None:
        """The order went out and no answer came: find out, or make sure it does not run."""
        await worker.fetch()
        if worker.knows(session_id) and (found := await self._found(worker, session_id)):
            return found
        if worker.status is not None:
            try:
                await self._delete(worker, session_id, "client_request")
            except Unanswered:
                again = False
            else:
                if again:  # a connection that broke, not a worker that is stuck
                    return await self._ask(worker, session_id, body, again=False)
        self._terminate_later(worker, session_id, "client_request")
        return None

    async def _found(self, worker: WorkerClient, session_id: str) -> Placement | None:
        """Where a session is that this worker has got already."""
        await worker.fetch()
        status = worker.status
        if status is None or not worker.knows(session_id):
            return None
        watched = any(line.session_id == session_id and line.watch_uri for line in status.sessions)
        return Placement(
            worker.handle,
            status.instance,
            worker.speech_address(status.ws_uri),
            worker.watch_address(session_id) if watched else None,
        )

    # Watching and ending

    async def poll(self, sessions: Sequence[Session]) -> Mapping[str, WorkerReport]:
        """See ``Dispatcher.poll``: each worker is asked once."""
        by_handle: dict[str, list[Session]] = defaultdict(list)
        for session in sessions:
            by_handle[session.worker or ""].append(session)
        found = {handle: self._worker(handle) for handle in by_handle}
        await self._poll_workers([each for each in found.values() if each is not None])
        reports: dict[str, WorkerReport] = {}
        for handle, theirs in by_handle.items():
            worker = found[handle]
            for session in theirs:
                reports[session.id] = (
                    worker.report(session)
                    if worker is not None
                    else WorkerReport("silent", detail="the worker is not one of ours")
                )
        return reports

    async def end(self, session: Session, reason: EndReason) -> None:
        """See ``Dispatcher.end``. A worker that does not answer is told when it does again."""
        if session.worker is None:
            # The process that placed it may have died before noting where.
            for each in self._workers:
                self._terminate_later(each, session.id, reason)
            return
        worker = self._worker(session.worker)
        if worker is None:
            return
        try:
            await self._delete(worker, session.id, reason)
        except Unanswered as error:
            logger.warning(
                "worker was not told of an end",
                worker=worker.handle,
                session_id=session.id,
                reason=str(error),
            )
            self._terminate_later(worker, session.id, reason)

    async def _delete(self, worker: WorkerClient, session_id: str, reason: EndReason) -> None:
        # `never_started` is not a worker's word: it has no such session.
        told = "client_request" if reason == "never_started" else reason
        answer = await worker.request(
            "DELETE",
            f"/sessions/{session_id}",
            timeout_s=END_TIMEOUT_S,
            params={"reason": told},
        )
        if answer.status not in (200, 404):
            logger.error(
                "worker failed at an end",
                worker=worker.handle,
                session_id=session_id,
                status=answer.status,
            )

    def _terminate_later(self, worker: WorkerClient, session_id: str, reason: EndReason) -> None:
        self._unwanted[worker.handle, session_id] = (reason, self._now() + UNWANTED_S)

    async def _end_unwanted(self) -> None:
        for (handle, session_id), (reason, until) in list(self._unwanted.items()):
            worker = self._worker(handle)
            if worker is None or self._now() > until:
                self._unwanted.pop((handle, session_id), None)
            elif worker.has(session_id):
                with contextlib.suppress(Unanswered):
                    await self._delete(worker, session_id, reason)
                    logger.info("ended a session nobody wants", session_id=session_id)

    def _worker(self, handle: str) -> WorkerClient | None:
        for each in self._workers:
            if each.handle == handle:
                return each
        if not handle.startswith(("http://", "https://")):
            return None  # spawned by another process, or by one that is gone
        if handle not in self._others:
            self._others[handle] = WorkerClient(
                handle, handle, self._settings.secret, self._http, self._now
            )
        return self._others[handle]

    # In the background

    async def _keep_polling(self) -> None:
        while True:
            waiting = {handle for handle, _ in self._unwanted} & set(self._others)
            await self._poll_workers([*self._workers, *(self._others[each] for each in waiting)])
            try:
                await self._end_unwanted()
            except Exception:
                logger.exception("looking at the workers failed")
            # One that starts is soon ready, and somebody may wait for it.
            starting = self._spawned is not None and self._some_starting()
            await asyncio.sleep(min(self._look_s, WARMING_POLL_S) if starting else self._look_s)

    async def _poll_workers(self, workers: Sequence[WorkerClient]) -> None:
        await asyncio.gather(*(each.fetch() for each in workers))

    async def warm(self, portrait: bytes, aspect_ratio: AspectRatio) -> None:
        """Have every ready worker prepare the portrait, and wait for them: a worker prepares one
        at a time, and who is warmed for two aspect ratios is asked for one after the other. A
        worker that is still at it with another portrait is left alone."""
        body = portrait_json(portrait, aspect_ratio)
        asked = [each for each in self._workers if each.free and each.handle not in self._warming]
        self._warming.update(each.handle for each in asked)
        await asyncio.gather(*(self._warm(each, body) for each in asked))

    async def _warm(self, worker: WorkerClient, body: bytes) -> None:
        try:
            await worker.request("POST", "/portraits", timeout_s=WARM_TIMEOUT_S, body=body)
        except Unanswered as error:
            logger.info("portrait was not prepared", worker=worker.handle, reason=str(error))
        finally:
            self._warming.discard(worker.handle)

    async def capacity(self) -> Capacity:
        """See ``Dispatcher.capacity``."""
        answering = [each for each in self._workers if each.status is not None]
        return Capacity(
            workers=len(answering),
            slots=sum(each.capacity for each in answering if each.serving),
            running=sum(each.occupied for each in answering),
            engines=tuple(dict.fromkeys(each.engine for each in answering if each.serving)),
        )

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
