"""A session and a directory that only remember what they were told."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.engine import Canvas
from protocol.events import EndReason, SegmentEnded, SessionEnded, SessionEvent
from protocol.session_types import AuthFailure, SessionInfo, SpeakReceipt, speech_samples
from worker.interfaces import AuthError, SessionOver

TOKEN = "session_token_right"


@dataclass(frozen=True)
class Heard:
    """One piece of speech as the session got it."""

    pcm: bytes
    sample_rate: int
    utterance_id: str | None


@dataclass
class FakeSession:
    """A ``SpeechTarget``: speech opens segments that stay pending until an interrupt or the end.

    ``gate`` cleared makes ``speak`` wait; ``full`` makes it refuse; ``broken`` makes it raise.
    """

    session_id: str = "sess_1"
    expiration: datetime | None = None
    heard: list[Heard] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    full: bool = False
    broken: bool = False
    ended: EndReason | None = None
    attached: int = 0
    detached: list[tuple[bool, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.gone = asyncio.Event()
        self._subscribers: list[Callable[[SessionEvent], None]] = []
        self._open: tuple[int, str | None] | None = None
        self._pending: list[tuple[int, str | None]] = []
        self._segments = 0

    @property
    def info(self) -> SessionInfo:
        return SessionInfo(self.session_id, self.expiration, Canvas(640, 480))

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    async def speak(
        self, pcm: bytes, sample_rate: int, utterance_id: str | None
    ) -> SpeakReceipt | None:
        self.calls.append("speak")
        await self.gate.wait()
        if self.broken:
            raise RuntimeError("the engine is on fire")
        if self.ended:
            raise SessionOver
        if self.full:
            return None
        if self._open is None or utterance_id not in (None, self._open[1]):
            self._begin(utterance_id)
        assert self._open is not None
        self.heard.append(Heard(pcm, sample_rate, utterance_id))
        return SpeakReceipt(self._open[0], speech_samples(len(pcm) // 2, sample_rate))

    def begin_speech(self, utterance_id: str | None, sample_rate: int) -> None:
        self.calls.append(f"begin {utterance_id} {sample_rate}")
        self._begin(utterance_id)

    def end_speech(self) -> None:
        self.calls.append("end_speech")
        self._open = None

    async def interrupt(self) -> None:
        self.calls.append("interrupt")
        await asyncio.sleep(0)
        self._finish("interrupted")

    async def end(self, reason: EndReason) -> None:
        if self.ended is None:
            self.ended = reason
            self._finish("session_ended")
            self.emit(SessionEnded(reason, 12.9, datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)))

    def subscribe(self, callback: Callable[[SessionEvent], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def attach(self) -> None:
        self.attached += 1

    def detach(self, clean: bool, grace_s: float) -> None:
        self.detached.append((clean, grace_s))
        self.gone.set()

    def emit(self, event: SessionEvent) -> None:
        for subscriber in list(self._subscribers):
            subscriber(event)

    def _begin(self, utterance_id: str | None) -> None:
        self._segments += 1
        self._open = (self._segments, utterance_id)
        self._pending.append(self._open)

    def _finish(self, reason: str) -> None:
        pending, self._pending, self._open = self._pending, [], None
        for number, name in pending:
            self.emit(SegmentEnded(number, name, 0.0, 1.0, reason))  # type: ignore[arg-type]


class FakeDirectory:
    """Knows one session, by ``TOKEN``; ``refusal`` set, it refuses even the right token."""

    def __init__(self, session: FakeSession) -> None:
        self.session = session
        self.refusal: AuthFailure | None = None

    def authenticate(self, session_id: str, token: str) -> FakeSession:
        if session_id != self.session.session_id or not hmac.compare_digest(token, TOKEN):
            raise AuthError("credentials")
        if self.refusal is not None:
            raise AuthError(self.refusal)
        return self.session
