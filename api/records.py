"""What the control plane remembers, as frozen records: the store returns them, nobody edits them.

Every ``datetime`` is aware and in UTC, in whole seconds where the API shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from protocol.events import EndReason as WorkerEndReason

AspectRatio = Literal["4:3", "3:4", "1:1"]
RATIOS: tuple[AspectRatio, ...] = get_args(AspectRatio)

Platform = Literal["daily", "livekit", "proxy", "local"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)

SessionStatus = Literal["created", "started", "ended"]

EndReason = Literal[WorkerEndReason, "never_started"]
"""A worker's reasons, and one of ours: a session nobody started in time."""

UNBILLED: frozenset[EndReason] = frozenset({"join_failed", "never_started"})
"""Ends of sessions that never served anybody: no minute is billed."""


@dataclass(frozen=True)
class Plan:
    """What an account may do. None means without limit."""

    key: str
    name: str
    concurrency: int
    avatars_per_cycle: int | None
    included_minutes: int | None
    session_minutes: int | None
    """Longest session, in minutes."""
    images_in_sessions: bool
    """Whether ``avatar`` may be an image (URL or base64) when a session is created."""


@dataclass(frozen=True)
class Account:
    """Who pays."""

    id: str
    name: str
    plan_key: str
    created_at: datetime
    anchor_day: int | None = None
    """Day of the month (1-28) a billing period begins on; None: calendar months."""


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret part, which only its owner has."""

    id: str
    account_id: str
    name: str
    hint: str
    """The first and last characters, enough to tell keys apart."""
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class Avatar:
    """A portrait that can talk."""

    id: str
    account_id: str | None
    """None: public, everybody's."""
    ratio: AspectRatio
    """The aspect ratio its photo was aligned to."""
    digest: str
    """SHA-256 of the uploaded bytes, hexadecimal."""
    original_key: str
    image_key: str
    preview_key: str
    """Where the media store keeps the original upload, the aligned image and the preview."""
    created_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True)
class RoomOrder:
    """The room a session is to join, as the client asked for it. Never returned by the API."""

    platform: Platform
    url: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Bill:
    """What a session cost."""

    minutes_used: int
    from_plan: int
    from_purchased: int


@dataclass(frozen=True)
class Session:
    """One session. Times are None until they happen."""

    id: str
    account_id: str
    avatar_id: str
    status: SessionStatus
    aspect_ratio: AspectRatio
    platform: Platform
    metadata: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None = None
    expires_at: datetime | None = None
    ready_at: datetime | None = None
    """The avatar was in its room."""
    seen_at: datetime | None = None
    """When its worker was last heard to have it."""
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    worker: str | None = None
    """The dispatcher's handle of who runs it; None until a worker was asked."""
    instance: str | None = None
    """The worker process; another one under the same handle does not have the session."""
    ws_uri: str | None = None
    """The worker's own speech socket; None until the worker can be reached."""
    watch_uri: str | None = None
    """The worker's WHEP address of a ``local`` room."""
    max_minutes: int | None = None
    """A shorter limit than the plan's (previews)."""
    bill: Bill | None = None
    """Of one that has ended."""

    def duration_s(self, now: datetime) -> int:
        """Whole seconds from start to end, or to ``now`` while it runs; 0 before it starts."""
        if self.started_at is None:
            return 0
        return max(0, int(((self.ended_at or now) - self.started_at).total_seconds()))


@dataclass(frozen=True)
class NewSession:
    """A session to be stored."""

    id: str
    account_id: str
    avatar_id: str
    aspect_ratio: AspectRatio
    room: RoomOrder = field(repr=False)
    metadata: Mapping[str, Any]
    token_digest: bytes = field(repr=False)
    start: bool
    """False: stays ``created`` until it is started."""
    fingerprint: str
    """Digest of avatar, ratio and room: a repeated create returns the first session. Empty: never
    taken for a repetition."""
    idempotency_key: str | None = None
    request_digest: str = ""
    """Digest of the whole request body: the same idempotency key with another is a conflict."""
    max_minutes: int | None = None


@dataclass(frozen=True)
class QuotaSnapshot:
    """What an account uses now, as it is told with a new session."""

    running: int
    """Sessions that hold a slot."""
    minutes_left: int | None
    """None: unlimited."""


@dataclass(frozen=True)
class Usage:
    """An account's billing period as it stands; minutes are whole."""

    period_start: datetime
    period_end: datetime
    included_total: int | None
    """None: unlimited."""
    included_used: int
    """With the running sessions' minutes."""
    purchased_total: int
    purchased_remaining: int
    active_minutes: int
    """Of the running sessions, each rounded up; part of the used ones."""
    active: Sequence[Session]
    avatars_used: int
    """Avatars made in this period."""

    @property
    def quota(self) -> QuotaSnapshot:
        """What it says, in short."""
        return QuotaSnapshot(len(self.active), self.total_remaining)

    @property
    def included_remaining(self) -> int | None:
        """None: unlimited."""
        if self.included_total is None:
            return None
        return max(0, self.included_total - self.included_used)

    @property
    def total_remaining(self) -> int | None:
        """None: unlimited."""
        if self.included_remaining is None:
            return None
        return self.included_remaining + self.purchased_remaining
