from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.store.periods import billing_period


@pytest.mark.parametrize(
    ("anchor", "now", "start", "end"),
    [
        (None, "2026-03-10T12:00+00:00", "2026-03-01", "2026-04-01"),
        (None, "2026-03-01T00:00+00:00", "2026-03-01", "2026-04-01"),
        (None, "2026-12-31T23:59:59.999+00:00", "2026-12-01", "2027-01-01"),
        # Late in the evening of March abroad, April in UTC.
        (None, "2026-03-31T20:00-05:00", "2026-04-01", "2026-05-01"),
        (15, "2026-03-14T23:59+00:00", "2026-02-15", "2026-03-15"),
        (15, "2026-03-15T00:00+00:00", "2026-03-15", "2026-04-15"),
        (28, "2026-01-03T00:00+00:00", "2025-12-28", "2026-01-28"),
        (28, "2026-02-28T00:00+00:00", "2026-02-28", "2026-03-28"),
        (1, "2026-02-01T00:00+00:00", "2026-02-01", "2026-03-01"),
    ],
)
def test_a_period(anchor: int | None, now: str, start: str, end: str) -> None:
    expected = tuple(datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (start, end))
    assert billing_period(anchor, datetime.fromisoformat(now)) == expected
