"""A worker that starts sessions in name only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from worker.events import EndReason
from worker.ingress import SessionCreated, SessionRequest, SessionSummary, WorkerState
from worker.metrics import Metrics


class FakeWorker:
    """A ``WorkerPort``. ``failure`` set, ``create`` raises it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.condition: WorkerState = "ready"
        self.failure: Exception | None = None
        self.requests: dict[str, SessionRequest] = {}
        self.ends: list[tuple[str, EndReason]] = []

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

    def whep_room(self, session_id: str) -> None:
        return None
