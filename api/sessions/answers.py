"""Sessions as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.records import AspectRatio, EndReason, Plan, QuotaSnapshot, Session, SessionStatus

UNLIMITED = 1_000_000
"""Stands for unlimited minutes, beside ``"unlimited": true``: typed clients expect a number."""


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, whole seconds, ``Z``."""
    # `strftime` takes four times as long.
    return moment.astimezone(UTC).isoformat()[:19] + "Z"


def optional_timestamp(moment: datetime | None) -> str | None:
    """The same; None stays None."""
    return None if moment is None else timestamp(moment)


def _no_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_ABSENT: Any = Field(default=None, json_schema_extra=_no_default)
"""A key that may be absent and is never null."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Billing(_Answer):
    """What an ended session cost."""

    minutes_used: int
    from_plan: int
    from_purchased: int


class ProxyRoom(_Answer):
    """The LiveKit room made for a ``proxy`` session."""

    roomURL: str
    participantToken: str


class LocalRoom(_Answer):
    """Where to watch a ``local`` session."""

    whep_url: str
    watch_url: str


class CreatedSession(_Answer):
    """A new session; the only place its token is told."""

    session_id: str
    status: SessionStatus
    session_token: str
    started_at: str | None
    ended_at: str | None
    expiration: str | None
    metadata: dict[str, Any]
    aspect_ratio: AspectRatio
    ws_uri: str
    room: ProxyRoom | LocalRoom = _ABSENT


class Concurrency(_Answer):
    """Running sessions and how many there may be."""

    current: int
    max: int
    available: int


class MinutesLeft(_Answer):
    """Minutes the account may still use."""

    total_remaining: int
    unlimited: Literal[True] = _ABSENT


class CreateUsage(_Answer):
    """Usage with the new session."""

    concurrency: Concurrency
    minutes: MinutesLeft


class CreateAnswer(_Answer):
    """Answer to ``POST /v1/sessions``."""

    success: Literal[True]
    session: CreatedSession
    usage: CreateUsage
    message: str


class SessionView(_Answer):
    """A session; neither its token nor its room is ever told again."""

    session_id: str
    status: SessionStatus
    started_at: str | None
    ended_at: str | None
    expiration: str | None
    duration: int
    metadata: dict[str, Any]
    aspect_ratio: AspectRatio
    billing: Billing | None
    end_reason: EndReason | None


class SessionAnswer(_Answer):
    """Answer to ``GET /v1/sessions/{session_id}``."""

    success: Literal[True]
    session: SessionView


class SessionsAnswer(_Answer):
    """Answer to ``GET /v1/sessions``."""

    success: Literal[True]
    sessions: list[SessionView]
    total: int


class EndedSession(_Answer):
    """A session that has ended."""

    session_id: str
    status: Literal["ended"]
    started_at: str | None
    ended_at: str | None
    duration: int
    billing: Billing | None
    end_reason: EndReason | None


class EndAnswer(_Answer):
    """Answer to ``POST /v1/sessions/{session_id}/end``."""

    success: Literal[True]
    session: EndedSession
    message: str


class StartAnswer(_Answer):
    """Answer to ``/v1/sessions/{session_id}/start``."""

    success: Literal[True]
    ws_uri: str
    expiration: str | None
    message: str


def session_view(session: Session, now: datetime) -> dict[str, Any]:
    """A ``SessionView``."""
    return {
        "session_id": session.id,
        "status": session.status,
        "started_at": optional_timestamp(session.started_at),
        "ended_at": optional_timestamp(session.ended_at),
        "expiration": optional_timestamp(session.expires_at),
        "duration": session.duration_s(now),
        "metadata": dict(session.metadata),
        "aspect_ratio": session.aspect_ratio,
        "billing": billing(session),
        "end_reason": session.end_reason,
    }


def ended_view(session: Session, now: datetime) -> dict[str, Any]:
    """An ``EndedSession``."""
    view = session_view(session, now)
    return {name: view[name] for name in EndedSession.model_fields}


def billing(session: Session) -> dict[str, int] | None:
    """A ``Billing``; None until the session has ended."""
    bill = session.bill
    if bill is None:
        return None
    return {
        "minutes_used": bill.minutes_used,
        "from_plan": bill.from_plan,
        "from_purchased": bill.from_purchased,
    }


def concurrency_view(running: int, plan: Plan) -> dict[str, int]:
    """A ``Concurrency``."""
    return {
        "current": running,
        "max": plan.concurrency,
        "available": max(0, plan.concurrency - running),
    }


def create_usage(quota: QuotaSnapshot, plan: Plan) -> dict[str, Any]:
    """A ``CreateUsage``."""
    left = quota.minutes_left
    return {
        "concurrency": concurrency_view(quota.running, plan),
        "minutes": {"total_remaining": UNLIMITED, "unlimited": True}
        if left is None
        else {"total_remaining": left},
    }
