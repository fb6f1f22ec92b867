"""The client of one resident worker: asked over HTTP, remembered between answers."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, get_args
from urllib.parse import urlsplit, urlunsplit

import structlog
from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError

from api.dispatch.port import WorkerReport
from api.dispatch.worker_http import Answer, Unanswered, WorkerHttp
from api.records import EndReason, Session

logger = structlog.get_logger(__name__)

STATUS_TIMEOUT_S = 2.0
"""A worker that does not say how it fares within this time is silent."""

KEPT_ENDS = 4096
"""Ends of sessions that are remembered of one worker."""

_REASONS: tuple[EndReason, ...] = get_args(EndReason)


class _Line(BaseModel):
    session_id: str
    ready: bool
    watch_uri: str | None = None


class _End(BaseModel):
    number: int
    session_id: str
    reason: str
    ended_at: AwareDatetime


class _Status(BaseModel):
    """The answer to ``GET /status``."""

    instance: str
    state: Literal["warming", "ready", "full", "draining"]
    capacity: int
    running: int
    engine: str | None = None
    size: str | None = None
    ws_uri: str
    joining: list[str]
    sessions: list[_Line]
    ended: list[_End]


class WorkerClient:
    """A worker at a fixed address. ``status`` is its last answer; None while it is silent."""

    def __init__(
        self,
        handle: str,
        address: str,
        secret: SecretStr | None,
        http: WorkerHttp,
        now: Callable[[], float] = time.monotonic,
        *,
        expected: bool = False,
    ) -> None:
        """``handle``: what the store keeps to find it again. ``expected``: it is being started, and
        that it does not answer yet is no news."""
        self._expected = expected
        self.handle = handle
        self.address = address.rstrip("/")
        self.status: _Status | None = None
        self._running: frozenset[str] = frozenset()
        """What runs here or is about to, by ``status``."""
        self._http = http
        self._now = now
        self._headers = (
            {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret is not None else {}
        )
        self._turn = asyncio.Lock()
        self._asked_at = float("-inf")
        self._instance: str | None = None
        self._ends: OrderedDict[str, _End] = OrderedDict()
        self._last_end = 0
        self._ours: dict[str, float | None] = {}
        """Sessions we placed that ``status`` may not show yet, and when they were (None: not
        yet)."""
        self._silence: str | None = "it was not asked yet"

    # What it is asked

    async def fetch(self) -> None:
        """Bring ``status`` up to date: as of now, or of a moment after this call. Calls that
        overlap share answers."""
        called_at = self._now()
        async with self._turn:
            if self._asked_at < called_at:
                await self._fetch()

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Ask anything. ``body`` is JSON.

        Raises:
            Unanswered: it does not answer.
        """
        return await self._http.request(
            method,
            self.address + path,
            headers=self._headers,
            timeout_s=timeout_s,
            connect_s=min(timeout_s, STATUS_TIMEOUT_S),
            params=params,
            body=body,
        )

    async def _fetch(self) -> None:
        asked_at = self._asked_at = self._now()
        try:
            status = await self._ask_status(self._last_end)
            if status.instance != self._instance and self._last_end:
                # Another process, which counts its ends again.
                status = await self._ask_status(0)
        except Unanswered as error:
            self.silent(str(error))
            return
        except ValidationError:
            self.silent("what is there is no worker of this version")
            return
        except PermissionError as error:
            self.silent(str(error))
            return
        if self._silence is not None:
            logger.info("worker answers", worker=self.handle, state=status.state)
            self._silence = None
        if status.instance != self._instance:
            self._instance = status.instance
            self._ends.clear()
            self._last_end = 0
        for end in status.ended:
            self._ends[end.session_id] = end
            self._last_end = max(self._last_end, end.number)
        while len(self._ends) > KEPT_ENDS:
            self._ends.popitem(last=False)
        self.status = status
        self._running = frozenset((*status.joining, *(each.session_id for each in status.sessions)))
        for session_id, placed_at in list(self._ours.items()):
            if placed_at is not None and placed_at < asked_at:
                del self._ours[session_id]

    async def _ask_status(self, after: int) -> _Status:
        answer = await self.request(
            "GET", "/status", timeout_s=STATUS_TIMEOUT_S, params={"after": str(after)}
        )
        if answer.status in (401, 403):
            raise PermissionError("it refuses our secret; set AVATAR_API_LOCAL__SECRET to its own")
        return _Status.model_validate_json(answer.content)

    def silent(self, why: str) -> None:
        """It was found not to answer."""
        self.status = None
        if self._silence != why:
            self._silence = why
            first = self._expected and self._instance is None
            tell = logger.debug if first else logger.warning
            tell("worker does not answer", worker=self.handle, reason=why)

    # Slots

    def placing(self, session_id: str) -> None:
        """A session is being placed here: its slot counts from now on."""
        self._ours[session_id] = None

    def placed(self, session_id: str, taken: bool) -> None:
        """It was taken, or not."""
        if taken:
            self._ours[session_id] = self._now()
        else:
            self._ours.pop(session_id, None)

    @property
    def capacity(self) -> int:
        """Sessions it holds at a time; 0 while it is silent."""
        return self.status.capacity if self.status else 0

    @property
    def occupied(self) -> int:
        """Slots taken, as far as is known, with those we are about to take."""
        if self.status is None:
            return 0
        return self.status.running + sum(not self.has(each) for each in self._ours)

    @property
    def serving(self) -> bool:
        """It takes sessions, or would if it were not full."""
        return self.status is not None and self.status.state in ("ready", "full")

    @property
    def engine(self) -> str:
        """What it renders, such as "warp, 1280x960"; empty while that is not known."""
        status = self.status
        return ", ".join(filter(None, (status.engine, status.size))) if status else ""

    @property
    def free(self) -> bool:
        """It may take a session."""
        status = self.status
        return status is not None and status.state == "ready" and self.occupied < status.capacity

    # Sessions

    def has(self, session_id: str) -> bool:
        """The session runs here, or is about to, by the last answer."""
        return self.status is not None and session_id in self._running

    def knows(self, session_id: str) -> bool:
        """It runs here, or has run."""
        return self.has(session_id) or session_id in self._ends

    def report(self, session: Session) -> WorkerReport:
        """How ``session`` fares, by the last answer."""
        status = self.status
        if status is None:
            return WorkerReport("silent", detail=self._silence)
        for line in status.sessions:
            if line.session_id == session.id:
                return WorkerReport(
                    "running",
                    ready=line.ready,
                    ws_uri=self.speech_address(status.ws_uri),
                    watch_uri=self.watch_address(session.id) if line.watch_uri else None,
                    instance=status.instance,
                )
        if session.id in status.joining:
            return WorkerReport("starting", instance=status.instance)
        end = self._ends.get(session.id)
        if end is not None:
            return WorkerReport(
                "ended",
                instance=status.instance,
                reason=_reason(end.reason),
                ended_at=end.ended_at,
            )
        other = session.instance is not None and session.instance != status.instance
        why = "the worker has restarted" if other else "the worker does not know the session"
        return WorkerReport("lost", instance=status.instance, detail=why)

    def watch_address(self, session_id: str) -> str:
        """The session's WHEP address, on the way we know to lead there."""
        return f"{self.address}/whep/{session_id}"

    def speech_address(self, ws_uri: str) -> str:
        """The worker's speech socket. One that listens everywhere calls itself 0.0.0.0; it is
        reached where its HTTP service is."""
        parts = urlsplit(ws_uri)
        if parts.hostname not in ("0.0.0.0", "::"):
            return ws_uri
        host = urlsplit(self.address).hostname or ""
        host = f"[{host}]" if ":" in host else host
        return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))


def _reason(text: str) -> EndReason:
    for known in _REASONS:
        if text == known:
            return known
    return "server_error"
