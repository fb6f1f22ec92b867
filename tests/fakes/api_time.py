"""The control plane's clock for tests: stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ApiTime:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 14, 15, 9, 26, 535_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
