"""A dispatcher in memory, whose workers do as a test says: refuse, dawdle, die, fall silent, report
that a session has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from api.dispatch.port import Capacity, NoWorker, Order, Placement, WorkerReport
from api.records import PLATFORMS, AspectRatio, EndReason, Platform, Session


@dataclass
class FakeRun:
    """One session on a worker."""

    order: Order
    state: Literal["starting", "running", "ended", "lost", "silent"] = "running"
    ready: bool = False
    reason: EndReason | None = None
    ended_at: datetime | None = None
    told: list[EndReason] = field(default_factory=list)


class FakeDispatcher:
    """``slots`` sessions at a time; ``refusal`` is raised by ``place``; ``place_gate`` and
    ``end_gate`` hold calls back while they are clear."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.slots: int | None = None
        self.refusal: Exception | None = None
        self.end_failure: Exception | None = None
        self.poll_failure: Exception | None = None
        self.platforms: frozenset[Platform] = frozenset(PLATFORMS)
        self.addressed = True
        """Whether placements have addresses at once; False: as on a serverless endpoint."""
        self.workers = 1
        self.place_gate = _open()
        self.end_gate = _open()
        self.placing = asyncio.Event()
        """Set once ``place`` was called."""
        self.places = 0
        self.looks = 0
        self.warmed: list[AspectRatio] = []
        self.ends: list[tuple[str, str | None, EndReason]] = []
        """Each session ``end`` was called with, its worker and why."""
        self.closed = False

    async def start(self) -> None:
        return

    async def place(self, order: Order) -> Placement:
        self.places += 1
        self.placing.set()
        await self.place_gate.wait()
        if self.refusal is not None:
            raise self.refusal
        running = sum(run.state != "ended" for run in self.runs.values())
        if self.slots is not None and running >= self.slots:
            raise NoWorker
        self.runs[order.session_id] = FakeRun(order)
        return self._placement(order.session_id) if self.addressed else Placement("fake", "i-1")

    async def poll(self, sessions: Sequence[Session]) -> Mapping[str, WorkerReport]:
        self.looks += 1
        if self.poll_failure is not None:
            raise self.poll_failure
        return {session.id: self._report(session) for session in sessions}

    async def end(self, session: Session, reason: EndReason) -> None:
        self.ends.append((session.id, session.worker, reason))
        await self.end_gate.wait()
        if self.end_failure is not None:
            raise self.end_failure
        run = self.runs.get(session.id)
        if run is not None:
            run.told.append(reason)
            run.state, run.reason = "ended", reason

    async def warm(self, portrait: bytes, aspect_ratio: AspectRatio) -> None:
        self.warmed.append(aspect_ratio)

    async def capacity(self) -> Capacity:
        return Capacity(self.workers, self.slots, len(self.runs))

    async def aclose(self) -> None:
        self.closed = True

    def _placement(self, session_id: str) -> Placement:
        return Placement(
            "fake", "i-1", "ws://127.0.0.1:1/v1/ws", f"http://127.0.0.1:1/whep/{session_id}"
        )

    def _report(self, session: Session) -> WorkerReport:
        run = self.runs.get(session.id)
        if run is None or run.state == "lost":
            return WorkerReport("lost")
        if run.state == "ended":
            return WorkerReport("ended", reason=run.reason, ended_at=run.ended_at)
        if run.state in ("silent", "starting"):
            return WorkerReport(run.state)
        at = self._placement(session.id)
        return WorkerReport(
            "running", ready=run.ready, instance="i-1", ws_uri=at.ws_uri, watch_uri=at.watch_uri
        )


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
