"""A worker that starts sessions in name only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from models.engine import Canvas
from protocol.events import EndReason
from worker.interfaces import (
    SessionCreated,
    SessionRequest,
    SessionSummary,
    WorkerState,
    WorkerStatus,
)
from worker.metrics import Metrics
from worker.settings import WorkerSettings


class FakeWorker:
    """A ``WorkerPort``. ``failure`` set, ``create`` raises it."""

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        self.metrics = Metrics()
        self.instance = "fake"
        self.condition: WorkerState = "ready"
        self.failure: Exception | None = None
        self.requests: dict[str, SessionRequest] = {}
        self.ends: list[tuple[str, EndReason]] = []
        self.prepared: list[tuple[bytes, Canvas]] = []

    def state(self) -> WorkerState:
        return self.condition

    async def create(self, request: SessionRequest) -> SessionCreated:
        if self.failure is not None:
            raise self.failure
        self.requests[request.session_id] = request
        watch = f"http://x/watch/{request.session_id}" if request.room.platform == "whep" else None
        return SessionCreated(request.session_id, "ws://x/v1/ws", watch, request.expires_at)

    def get(self, session_id: str) -> SessionSummary | None:
        request = self.requests.get(session_id)
        if request is None:
            return None
        return SessionSummary(
            session_id,
            request.room.platform,
            request.aspect_ratio,
            request.canvas,
            datetime(2026, 3, 30, tzinfo=UTC),
            request.expires_at,
            ready=False,
        )

    def sessions(self) -> Sequence[SessionSummary]:
        return [summary for each in self.requests if (summary := self.get(each)) is not None]

    async def end(self, session_id: str, reason: EndReason) -> bool:
        self.ends.append((session_id, reason))
        return self.requests.pop(session_id, None) is not None

    async def prepare(self, portrait: bytes, canvas: Canvas) -> None:
        if self.failure is not None:
            raise self.failure
        self.prepared.append((portrait, canvas))

    def status(self, ended_after: int = 0) -> WorkerStatus:
        sessions = self.sessions()
        return WorkerStatus(
            self.instance,
            self.condition,
            4,
            len(sessions),
            "fake",
            "640x480",
            "ws://x/v1/ws",
            [],
            sessions,
            [],
        )

    def whep_room(self, session_id: str) -> None:
        return None
