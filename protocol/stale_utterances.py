"""Which utterances were interrupted a moment ago, so that their late audio is not spoken."""

from __future__ import annotations

from collections.abc import Callable

STALE_FOR_S = 10.0
"""Seconds after an interrupt during which audio of the interrupted utterance is dropped."""

MAX_REMEMBERED = 256
"""Newest utterances kept; nobody interrupts more within ten seconds except to do harm."""


class StaleUtterances:
    """Utterance ids interrupted in the last ten seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[str, float] = {}

    def add(self, utterance_id: str) -> None:
        """``utterance_id`` was interrupted now."""
        self._until.pop(utterance_id, None)
        self._until[utterance_id] = self._monotonic() + STALE_FOR_S
        while len(self._until) > MAX_REMEMBERED:
            del self._until[next(iter(self._until))]

    def __contains__(self, utterance_id: str) -> bool:
        return self._until.get(utterance_id, float("-inf")) >= self._monotonic()
