"""Billing periods: calendar months in UTC, or months that begin on an account's anchor day."""

from __future__ import annotations

from datetime import UTC, datetime


def billing_period(anchor_day: int | None, now: datetime) -> tuple[datetime, datetime]:
    """First moment of the period ``now`` is in, and first moment of the next one.

    ``anchor_day``: 1-28, so that every month has it; None means 1.
    """
    day = anchor_day or 1
    moment = now.astimezone(UTC)
    start = datetime(moment.year, moment.month, day, tzinfo=UTC)
    if start > moment:
        start = _month_before(start)
    return start, _month_after(start)


def _month_after(start: datetime) -> datetime:
    year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
    return start.replace(year=year, month=month)


def _month_before(start: datetime) -> datetime:
    year, month = (start.year - 1, 12) if start.month == 1 else (start.year, start.month - 1)
    return start.replace(year=year, month=month)
