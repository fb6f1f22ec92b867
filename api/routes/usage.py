"""``GET /v1/usage``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.auth import CallerDep
from api.container.deps import ServicesDep
from api.container.services import Services
from api.http.openapi_errors import openapi_errors
from api.records import AspectRatio, Plan, Session, Usage
from api.sessions.answers import (
    UNLIMITED,
    Concurrency,
    concurrency_view,
    optional_timestamp,
    timestamp,
)

router = APIRouter(prefix="/v1/usage", tags=["usage"])


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Period(_Shape):
    """The billing period, its end excluded."""

    start: str
    end: str


class IncludedMinutes(_Shape):
    """Minutes of the plan; ``used`` counts running sessions."""

    total: int
    used: int
    remaining: int


class PurchasedMinutes(_Shape):
    """Minutes of packages."""

    total: int
    remaining: int


class UsedAvatar(_Shape):
    """An avatar in use."""

    avatar_id: str
    url: str = Field(description="its preview")


class ActiveSession(_Shape):
    """A running session; its status is called ``active`` here."""

    session_id: str
    avatar: UsedAvatar
    status: Literal["active"]
    started_at: str | None
    ended_at: str | None
    expiration: str | None
    aspect_ratio: AspectRatio
    duration: int
    metadata: dict[str, Any]


class AvatarsMade(_Shape):
    """Avatars of this period; a limit of null is none."""

    limit: int | None
    used: int
    remaining: int | None


class PlanView(_Shape):
    """The account's plan; ``max_session_duration`` in minutes, null: unlimited."""

    key: str
    name: str
    max_session_duration: int | None
    will_renew: bool


class UsageView(_Shape):
    """The account's billing period as it stands."""

    period: Period
    included_minutes: IncludedMinutes
    purchased_minutes: PurchasedMinutes
    total_remaining: int
    unlimited: bool = Field(
        default=False, description="minutes are unlimited, and their figures stand for that"
    )
    active_sessions: list[ActiveSession]
    active_minutes: int
    concurrency: Concurrency
    avatars: AvatarsMade
    plan: PlanView


class UsageAnswer(_Shape):
    """Answer to ``GET /v1/usage``."""

    success: Literal[True]
    usage: UsageView


@router.get(
    "",
    response_model=UsageAnswer,
    response_model_exclude_unset=True,
    summary="Minutes, sessions and avatars of this period",
    responses=openapi_errors(),
)
async def usage(services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Minutes are whole: running sessions count as they would be billed now."""
    found = await services.store.usage(caller.account, caller.plan, services.now())
    return {"success": True, "usage": await _view(services, found, caller.plan)}


async def _view(services: Services, usage: Usage, plan: Plan) -> dict[str, Any]:
    unlimited = usage.included_total is None
    limit = plan.avatars_per_cycle
    view: dict[str, Any] = {
        "period": {"start": timestamp(usage.period_start), "end": timestamp(usage.period_end)},
        "included_minutes": {
            "total": _figure(usage.included_total),
            "used": usage.included_used,
            "remaining": _figure(usage.included_remaining),
        },
        "purchased_minutes": {
            "total": usage.purchased_total,
            "remaining": usage.purchased_remaining,
        },
        "total_remaining": _figure(usage.total_remaining),
        "active_sessions": await _active(services, usage.active),
        "active_minutes": usage.active_minutes,
        "concurrency": concurrency_view(len(usage.active), plan),
        "avatars": {
            "limit": limit,
            "used": usage.avatars_used,
            "remaining": None if limit is None else max(0, limit - usage.avatars_used),
        },
        "plan": {
            "key": plan.key,
            "name": plan.name,
            "max_session_duration": plan.session_minutes,
            "will_renew": True,
        },
    }
    if unlimited:
        view["unlimited"] = True
    return view


async def _active(services: Services, sessions: Sequence[Session]) -> list[dict[str, Any]]:
    now = services.now()
    urls: dict[str, str] = {}
    views = []
    for session in sessions:
        if session.avatar_id not in urls:
            avatar = await services.store.avatar(session.avatar_id)
            # Deleted while the session runs: there is no picture to point at any more.
            urls[session.avatar_id] = services.avatars.preview_url(avatar) if avatar else ""
        views.append(
            {
                "session_id": session.id,
                "avatar": {"avatar_id": session.avatar_id, "url": urls[session.avatar_id]},
                "status": "active",
                "started_at": optional_timestamp(session.started_at),
                "ended_at": optional_timestamp(session.ended_at),
                "expiration": optional_timestamp(session.expires_at),
                "aspect_ratio": session.aspect_ratio,
                "duration": session.duration_s(now),
                "metadata": session.metadata,
            }
        )
    return views


def _figure(minutes: int | None) -> int:
    return UNLIMITED if minutes is None else minutes
