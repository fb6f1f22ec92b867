"""Watches over running sessions: what their workers report, and what time does to them.

Every step can be taken by several processes at once and again after a crash: a session ends once,
in the store, and everything else follows from what is stored. Nothing a single session does keeps
the others from being looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from api.dispatch.port import Dispatcher, WorkerReport
from api.metrics import ApiMetrics
from api.plans import Plans
from api.records import EndReason, Session
from api.sessions.exhaustion import exhausted_at
from api.sessions.sessions import Sessions
from api.settings import LifecycleSettings
from api.store.port import Store

logger = structlog.get_logger(__name__)

AT_ONCE = 16
"""Sessions ended at a time."""
_SEEN_S = 5.0
"""A session that is merely running is noted no more often."""


class Supervisor:
    """Looks at every running session, all the time."""

    def __init__(
        self,
        settings: LifecycleSettings,
        store: Store,
        dispatcher: Dispatcher,
        plans: Plans,
        metrics: ApiMetrics,
        sessions: Sessions,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._dispatcher = dispatcher
        self._plans = plans
        self._metrics = metrics
        self._sessions = sessions
        self._now = now
        # While we were away nobody listened: workers get their time to be heard again.
        self._since = now()
        self._seen_s = min(_SEEN_S, settings.heartbeat_s / 3)
        self._exhausted: dict[str, datetime] = {}
        self._tasks: list[asyncio.Task[None]] = []
        sessions.poll = self.poll

    def start(self) -> None:
        """Begin to look. ``aclose`` stops it."""
        self._since = self._now()
        every = (
            (self._settings.look_s, self.poll_all, "look"),
            (self._settings.minutes_check_s, self.check_minutes, "minutes"),
            (self._settings.sweep_s, self.sweep_created, "sweep"),
        )
        self._tasks = [
            asyncio.create_task(self._repeat(interval, step), name=f"supervisor {name}")
            for interval, step, name in every
        ]

    async def aclose(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _repeat(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:
                self._metrics.supervisor_failed()
                logger.error("supervisor failed, and tries again", exc_info=error)
            await asyncio.sleep(interval_s)

    # Steps

    async def poll_all(self) -> None:
        """Look at every running session once."""
        await self.poll(await self._store.running_sessions())

    async def poll(self, sessions: Sequence[Session]) -> None:
        """Ask the workers how these running sessions fare, and act on what they say and on what
        the clock says."""
        placed = [session for session in sessions if session.worker is not None]
        reports: Mapping[str, WorkerReport] = {}
        if placed:
            try:
                reports = await self._dispatcher.poll(placed)
            except Exception as error:
                # What the clock says still holds.
                self._metrics.supervisor_failed()
                logger.error("workers not looked at", exc_info=error)
        now = self._now()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(session: Session) -> None:
            async with gate:
                try:
                    await self._apply(session, reports.get(session.id), now)
                except Exception as error:
                    self._metrics.supervisor_failed()
                    logger.error("session not looked at", session_id=session.id, exc_info=error)

        await asyncio.gather(*(one(session) for session in sessions))

    async def check_minutes(self) -> None:
        """Find out when running accounts run out of minutes."""
        running: dict[str, Session] = {}
        for session in await self._store.running_sessions():
            running.setdefault(session.account_id, session)
        for account_id in self._exhausted.keys() - running.keys():
            del self._exhausted[account_id]
        for account_id in running:
            try:
                await self._check_account(account_id)
            except Exception as error:
                self._metrics.supervisor_failed()
                logger.error("minutes not checked", account_id=account_id, exc_info=error)

    async def sweep_created(self) -> None:
        """End sessions nobody started in time."""
        now = self._now()
        before = now - timedelta(seconds=self._settings.created_ttl_s)
        for session in await self._store.stale_created(before):
            try:
                await self._sessions.finish(session, "never_started", now)
            except Exception as error:
                self._metrics.supervisor_failed()
                logger.error("session not swept", session_id=session.id, exc_info=error)

    # One session

    async def _apply(self, session: Session, report: WorkerReport | None, now: datetime) -> None:
        if session.status != "started" or session.started_at is None:
            return
        heard = report is not None and report.state in ("starting", "running")
        verdict = self._verdict(session, report, now)
        if verdict is not None and verdict[0] == "minutes_exhausted":
            # Minutes may have been bought since they were counted.
            await self._check_account(session.account_id)
            verdict = self._verdict(session, report, now)
        if verdict is None:
            if report is not None and heard:
                await self._note(session, report, now)
            return
        reason, at = verdict
        if report is not None and report.state in ("ended", "lost", "silent"):
            logger.info(
                "worker gave a session up",
                session_id=session.id,
                state=report.state,
                reason=reason,
                detail=report.detail,
            )
        # Who said so itself, or does not know it, need not be told.
        tell = report is None or report.state not in ("ended", "lost")
        await self._sessions.finish(session, reason, at, tell=tell)

    def _verdict(
        self, session: Session, report: WorkerReport | None, now: datetime
    ) -> tuple[EndReason, datetime] | None:
        """Why and since when the session is over; None: it goes on."""
        began = session.started_at or now
        seen = session.seen_at or began
        if report is not None and report.state == "ended":
            at = report.ended_at or now
            return report.reason or "server_error", min(max(at, began), now)
        exhausted = self._exhausted.get(session.account_id)
        if exhausted is not None and began < exhausted <= now:
            return "minutes_exhausted", exhausted
        if session.expires_at is not None and session.expires_at <= now:
            # A worker that has been gone for longer did not serve until then.
            gone = (
                report is not None
                and report.state in ("lost", "silent")
                and not self._recent(seen, session.expires_at)
            )
            if not gone:
                return "expired", session.expires_at
        if report is not None and report.state == "lost":
            return "server_error", seen
        timeout = timedelta(seconds=self._settings.heartbeat_s)
        if (
            report is not None
            and report.state == "silent"
            and now - max(seen, self._since) > timeout
        ):
            return "server_error", seen
        ready = session.ready_at is not None or (report is not None and report.ready)
        if not ready and now - began > timedelta(seconds=self._settings.ready_timeout_s):
            return "join_failed", now
        return None

    def _recent(self, seen: datetime, then: datetime) -> bool:
        return then - seen <= timedelta(seconds=self._settings.heartbeat_s)

    async def _note(self, session: Session, report: WorkerReport, now: datetime) -> None:
        news = (
            (report.ready and session.ready_at is None)
            or (report.ws_uri is not None and session.ws_uri is None)
            or (report.watch_uri is not None and session.watch_uri is None)
            or (report.instance is not None and session.instance is None)
        )
        seen = session.seen_at
        if news or seen is None or (now - seen).total_seconds() >= self._seen_s:
            await self._store.note_seen(
                session.id,
                now,
                ready=report.ready,
                instance=report.instance,
                ws_uri=report.ws_uri,
                watch_uri=report.watch_uri,
            )

    async def _check_account(self, account_id: str) -> None:
        account = await self._store.account(account_id)
        if account is None:
            return
        now = self._now()
        usage = await self._store.usage(account, self._plans.get(account.plan_key), now)
        end = exhausted_at(usage, now)
        known = self._exhausted.get(account_id)
        if end is None:
            self._exhausted.pop(account_id, None)
        elif known is None or known > now or end > now:
            # What was computed before it passed is exact; afterwards it can only be guessed.
            self._exhausted[account_id] = end
