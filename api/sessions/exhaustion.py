"""When an account's minutes run out."""

from __future__ import annotations

from datetime import datetime, timedelta

from api.records import Session, Usage


def exhausted_at(usage: Usage, now: datetime) -> datetime | None:
    """When the running sessions will have used up every minute the account has, if that is within
    the next minute; a time that has passed if they have. None: not so soon, or never.

    Sessions are billed by the begun minute: the last one is the customer's to its end.
    """
    left = usage.total_remaining
    if left is None or not usage.active:
        return None
    if left == 0 and usage.included_total is not None:
        # Below zero, when more has run than there was.
        left = min(0, usage.included_total - usage.included_used + usage.purchased_remaining)
    if left < 0:
        return now
    ends = sorted(_end_of_minute(session, now) for session in usage.active)
    return ends[left] if left < len(ends) else None


def _end_of_minute(session: Session, now: datetime) -> datetime:
    """The end of the last minute the session is billed for already."""
    minutes = -(-session.duration_s(now) // 60)
    return (session.started_at or now) + timedelta(minutes=minutes)
