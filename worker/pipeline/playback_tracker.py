"""Which segment's samples have been heard: from what was handed to the room to what left it.

Positions count a segment's own samples only; silence that was inserted does not count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocol.events import SegmentEnded, SegmentReason, SegmentStarted
from worker.pipeline.speech import Segment
from worker.rooms.port import MEDIA_RATE


@dataclass
class _Account:
    segment: Segment
    pushed: int = 0
    heard: int = 0
    started: bool = False


@dataclass(frozen=True)
class _Entry:
    start: int
    samples: int
    account: _Account


class PlaybackTracker:
    """Accounts of the segments that are open or not heard to their end, oldest first."""

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}
        self._entries: deque[_Entry] = deque()
        self._pushed = 0

    @property
    def pushed(self) -> int:
        """Samples handed to the room and not thrown away: where its sound ends."""
        return self._pushed

    @property
    def owing(self) -> bool:
        """Whether a segment is not reported yet."""
        return bool(self._accounts)

    def open(self, segment: Segment) -> None:
        """From now on ``segment`` will be reported exactly once."""
        self._accounts.setdefault(segment.id, _Account(segment))

    def push(self, segment: Segment | None, own: int, total: int) -> None:
        """``total`` samples go to the room, the first ``own`` of them belong to ``segment``."""
        if segment is not None and own:
            account = self._accounts[segment.id]
            account.pushed += own
            self._entries.append(_Entry(self._pushed, own, account))
        self._pushed += total

    def settle(self, played: int, now_ns: int) -> list[SegmentStarted | SegmentEnded]:
        """``played`` samples have left the room's queue: what does that start and complete?"""
        events: list[SegmentStarted | SegmentEnded] = []
        while self._entries and self._entries[0].start < played:
            entry = self._entries[0]
            account = entry.account
            if not account.started:
                events.extend(self._complete())  # the one before ends before this one starts
                account.started = True
                since_ns = (played - entry.start) * 1_000_000_000 // MEDIA_RATE
                first_ns = account.segment.first_byte_ns or now_ns
                events.append(
                    SegmentStarted(
                        account.segment.id,
                        account.segment.utterance_id,
                        max(0, (now_ns - since_ns - first_ns) // 1_000_000),
                    )
                )
            if entry.start + entry.samples > played:
                break
            account.heard += entry.samples
            self._entries.popleft()
        events.extend(self._complete())
        return events

    def cut(self, cleared: int, reason: SegmentReason) -> list[SegmentEnded]:
        """The room threw the last ``cleared`` samples away: report all segments, oldest first.

        What the room had begun to play and could not take back counts as heard.
        """
        self._pushed -= cleared
        for entry in self._entries:
            entry.account.heard += min(entry.samples, max(0, self._pushed - entry.start))
        self._entries.clear()
        return [self._close(account, reason) for account in list(self._accounts.values())]

    def _complete(self) -> list[SegmentEnded]:
        waiting = {entry.account.segment.id for entry in self._entries}
        events = []
        for account in list(self._accounts.values()):
            on_its_way = account.pushed < account.segment.taken or account.segment.id in waiting
            if on_its_way or not account.segment.drained:
                break  # reports keep the order of the segments
            events.append(self._close(account, "completed"))
        return events

    def _close(self, account: _Account, reason: SegmentReason) -> SegmentEnded:
        del self._accounts[account.segment.id]
        return SegmentEnded(
            account.segment.id,
            account.segment.utterance_id,
            account.heard / MEDIA_RATE,
            account.segment.duration_s,
            reason,
        )
