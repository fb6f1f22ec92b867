"""Who is on this worker, and who was: what the control plane asks about."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

from protocol.events import SegmentEnded, SessionEnded, SessionEvent, SessionReady
from worker.interfaces import EndedSession, SessionRequest, SessionSummary
from worker.session import Session

KEPT_ENDED = 1024
"""Ended sessions that are remembered: for clients that still connect, and for the control plane."""


class Entry:
    """A session of this worker, from its start to its end."""

    def __init__(self, session: Session, request: SessionRequest, watch_uri: str | None) -> None:
        self.session = session
        self.token = token_digest(request.session_token)
        self.watch_uri = watch_uri
        self._platform = request.room.platform
        self._aspect_ratio = request.aspect_ratio
        self._ready_at: datetime | None = None
        self._speech_s = 0.0
        self._end: SessionEnded | None = None
        session.subscribe(self._note)

    def _note(self, event: SessionEvent) -> None:
        match event:
            case SessionReady():
                self._ready_at = datetime.now(UTC)
            case SegmentEnded():
                self._speech_s += event.playback_position
            case SessionEnded():
                self._end = event

    def summary(self) -> SessionSummary:
        """The session as it is now."""
        session = self.session
        return SessionSummary(
            session.session_id,
            self._platform,
            self._aspect_ratio,
            session.canvas,
            session.created_at,
            session.expiration,
            session.ready,
            self._ready_at,
            self.watch_uri,
        )

    def ended(self, number: int) -> EndedSession:
        """The session after its end."""
        end = self._end
        return EndedSession(
            number=number,
            session_id=self.session.session_id,
            reason=end.reason if end else "server_error",
            ended_at=end.ended_at if end else datetime.now(UTC),
            ready_at=self._ready_at,
            seconds=end.duration_s if end else 0.0,
            speech_seconds=self._speech_s,
        )


class EndedSessions:
    """The latest ``KEPT_ENDED`` ended sessions, numbered from 1 in the order they ended."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[EndedSession, bytes]] = OrderedDict()
        self._number = 0

    def add(self, entry: Entry) -> None:
        """Remember a session that has ended; the oldest one may be forgotten for it."""
        self._number += 1
        record = entry.ended(self._number)
        self._kept[record.session_id] = (record, entry.token)
        while len(self._kept) > KEPT_ENDED:
            self._kept.popitem(last=False)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._kept

    def token(self, session_id: str) -> bytes | None:
        """The digest of an ended session's token."""
        kept = self._kept.get(session_id)
        return kept[1] if kept else None

    def after(self, number: int) -> Sequence[EndedSession]:
        """Those with a higher number, in the order they ended."""
        newer = []
        for record, _ in reversed(self._kept.values()):
            if record.number <= number:
                break
            newer.append(record)
        return newer[::-1]


def token_digest(token: str) -> bytes:
    """Tokens are compared and kept as digests: equal length, and nothing to leak."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
