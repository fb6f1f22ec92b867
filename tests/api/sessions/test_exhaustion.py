"""When minutes run out, for any number of sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.records import Session, Usage
from api.sessions.exhaustion import exhausted_at

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


def usage(total: int | None, used: int, purchased: int, *seconds: int) -> Usage:
    """Of an account whose running sessions are that old; ``used`` before they are counted."""
    active = [
        Session(
            id=f"s{number}",
            account_id="a",
            avatar_id="a",
            status="started",
            aspect_ratio="4:3",
            platform="local",
            metadata={},
            created_at=NOW,
            started_at=NOW - timedelta(seconds=age),
        )
        for number, age in enumerate(seconds)
    ]
    running = sum(-(-age // 60) for age in seconds)
    from_plan = running if total is None else min(running, max(0, total - used))
    from_packages = min(running - from_plan, purchased)
    return Usage(
        period_start=NOW,
        period_end=NOW,
        included_total=total,
        included_used=used + running - from_packages,
        purchased_total=purchased,
        purchased_remaining=purchased - from_packages,
        active_minutes=running,
        active=active,
        avatars_used=0,
    )


def test_never() -> None:
    assert exhausted_at(usage(None, 5000, 0, 30), NOW) is None
    assert exhausted_at(usage(120, 120, 0), NOW) is None
    assert exhausted_at(usage(120, 118, 0, 30), NOW) is None


def test_the_last_begun_minute_is_had() -> None:
    assert exhausted_at(usage(120, 119, 0, 30), NOW) == NOW + timedelta(seconds=30)
    assert exhausted_at(usage(120, 120, 1, 59), NOW) == NOW + timedelta(seconds=1)
    assert exhausted_at(usage(120, 119, 0, 60), NOW) == NOW


def test_more_has_run_than_there_was() -> None:
    assert exhausted_at(usage(120, 119, 0, 61), NOW) == NOW


@given(
    left=st.integers(0, 20),
    purchased=st.integers(0, 5),
    ages=st.lists(st.integers(1, 600), min_size=1, max_size=6),
)
def test_no_minute_is_run_that_there_is_not(left: int, purchased: int, ages: list[int]) -> None:
    def needed(at: datetime) -> int:
        late = int((at - NOW).total_seconds())
        return sum(-(-(age + late) // 60) for age in ages)

    end = exhausted_at(usage(100, 100 - left, purchased, *ages), NOW)
    there = left + purchased
    if end is None:
        assert needed(NOW + timedelta(seconds=60)) <= there
    elif needed(NOW) > there:
        assert end == NOW
    else:
        assert needed(end) <= there
        assert needed(end + timedelta(seconds=1)) > there
