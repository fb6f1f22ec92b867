"""What gives way when there is more to render than time: idle faces, before anything that speaks.

A face that waits hardly moves. Showing every second of its pictures twice is not seen, and gives
its time to the faces that talk; if that is not enough, every fourth is shown four times.
"""

from __future__ import annotations

from collections import deque

STRIDES = (1, 2, 4)
"""Of how many frames of an idle face one is rendered. Nobody is frozen: the last still gives six
pictures a second."""

_WINDOW_NS = 1_000_000_000
_SETTLES_NS = 200_000_000
"""Time a stride gets to show what it does before the next is tried."""
_CALM_NS = 2_000_000_000
"""Time without pressure before more is rendered again."""
_PRESSED, _ROOM = 0.95, 0.80
"""Share of the time at work from which there is too much of it, and up to which there may be more
again, of each thread."""


class LoadShedding:
    """Decides how much idle faces give up. The render pool's; times in ns.

    Not thread-safe: the pool calls it with its lock.
    """

    def __init__(self, threads: int = 1) -> None:
        """``threads``: how many work at a time."""
        self._window_ns = threads * _WINDOW_NS
        """Time at work of a window in which no thread rests."""
        self._level = 0
        self._changed_ns = -_CALM_NS
        self._pressed_ns = -_CALM_NS
        self._since_ns: int | None = None
        self._work: deque[tuple[int, int, int]] = deque()  # end, time at work, time saved
        self._busy_ns = 0
        self._saved_ns = 0

    @property
    def stride(self) -> int:
        """Of how many frames of an idle face one is rendered."""
        return STRIDES[self._level]

    def worked(self, now_ns: int, busy_ns: int, saved_ns: int, late: bool) -> None:
        """Note a piece of work.

        Args:
            now_ns: when it ended.
            busy_ns: how long it took.
            saved_ns: how much longer it would have taken with nothing given up.
            late: whether a frame's picture came, or would have come, too late.
        """
        if self._since_ns is None:
            self._since_ns = now_ns - busy_ns
        self._work.append((now_ns, busy_ns, saved_ns))
        self._busy_ns += busy_ns
        self._saved_ns += saved_ns
        while self._work and self._work[0][0] <= now_ns - _WINDOW_NS:
            _, old_busy_ns, old_saved_ns = self._work.popleft()
            self._busy_ns -= old_busy_ns
            self._saved_ns -= old_saved_ns
        whole = now_ns - self._since_ns >= _WINDOW_NS
        if late or (whole and self._busy_ns > _PRESSED * self._window_ns):
            self._pressed_ns = now_ns
            if self._level + 1 < len(STRIDES) and now_ns - self._changed_ns >= _SETTLES_NS:
                self._set(self._level + 1, now_ns)
        elif self._level and now_ns - max(self._pressed_ns, self._changed_ns) >= _CALM_NS:
            # With half the stride as many pictures again: of 4 frames 3 are saved now, then 2.
            now, then = STRIDES[self._level], STRIDES[self._level - 1]
            back = (1 / then - 1 / now) / (1 - 1 / now)
            if self._busy_ns + back * self._saved_ns <= _ROOM * self._window_ns:
                self._set(self._level - 1, now_ns)

    def _set(self, level: int, now_ns: int) -> None:
        self._level = level
        self._changed_ns = now_ns
