"""Speech in windows, as the speech network wants them, and its rows as 25 features a second.

One call of the network hears 6480 samples at 16 kHz: 3 frames of past, 5 frames of present, 2 of
future and 80 samples more, and answers with 20 rows at 50 Hz, row *r* beginning at sample 320 r.
The ten rows of the present, averaged in pairs, are the features of its five frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME

PAST, PRESENT, FUTURE = 3, 5, 2
"""Frames of a window."""
WINDOW = (PAST + PRESENT + FUTURE) * FRAME + 80
"""Samples of a window: 6480."""
STRIDE = PRESENT * FRAME
"""Samples from one window to the next: 3200."""
LOOKAHEAD = WINDOW - (PAST + PRESENT) * FRAME
"""Samples beyond a window's present that it hears: 1360, 85 ms."""
_KEPT = slice(2 * PAST, 2 * (PAST + PRESENT))
"""Of a window's 20 rows, those of its present."""


def features(rows: torch.Tensor) -> torch.Tensor:
    """Features of the present of each window: (..., 20, D) at 50 Hz to (..., 5, D) at 25 Hz.

    Raises:
        ValueError: a window does not have 20 rows.
    """
    if rows.shape[-2] != 2 * (PAST + PRESENT + FUTURE):
        raise ValueError(f"a window of speech has 20 rows, not {rows.shape[-2]}")
    kept = rows[..., _KEPT, :]
    return kept.unflatten(-2, (PRESENT, 2)).mean(-2)


def frames_of(samples: int) -> int:
    """Frames that ``samples`` of speech last, a begun one counted."""
    return -(-samples // FRAME)


def online_windows(speech: np.ndarray) -> np.ndarray:
    """Windows of a whole stretch of speech as a live stream cuts them.

    Window *j* begins 3200 j - 1920 samples into the speech; what is missing on either side is
    silence. The released pipeline goes on while a window begins inside the speech, which may be a
    window past the last frame.

    Args:
        speech: float32, mono, 16 kHz, (samples,).

    Returns:
        float32, (windows, 6480).
    """
    return _cut(speech, PAST * FRAME, -(-(len(speech) + PAST * FRAME) // STRIDE))


def offline_windows(speech: np.ndarray) -> np.ndarray:
    """Windows of a whole stretch of speech as the released pipeline cuts a file.

    They begin 80 samples earlier than :func:`online_windows`. Keep the first
    ``frames_of(len(speech))`` features.

    Args:
        speech: float32, mono, 16 kHz, (samples,).

    Returns:
        float32, (windows, 6480).
    """
    return _cut(speech, WINDOW - (PRESENT + FUTURE) * FRAME, -(-frames_of(len(speech)) // PRESENT))


def silence_windows(frames: int) -> np.ndarray:
    """Windows whose first ``frames`` features stand before every stream: of nothing at all.

    Returns:
        float32 zeros, (windows, 6480).
    """
    return offline_windows(np.zeros(frames * FRAME, np.float32))


def _cut(speech: np.ndarray, before: int, windows: int) -> np.ndarray:
    padded = np.zeros(max((windows - 1) * STRIDE + WINDOW, before + len(speech)), np.float32)
    padded[before : before + len(speech)] = speech
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STRIDE][:windows]
    return np.ascontiguousarray(cut)


@dataclass(frozen=True)
class SpeechWindow:
    """One window of a stream."""

    samples: np.ndarray
    """float32, (6480,)."""
    frames: int
    """Of its five features, those that belong to heard speech; the last window may have fewer."""


class SpeechWindows:
    """A stream of speech, cut into windows as it comes. Not thread-safe.

    Holds the speech that no window has taken yet and 120 ms before it.
    """

    def __init__(self) -> None:
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._buffer = np.zeros(PAST * FRAME, np.float32)
        self._next = 0  # where in the buffer the next window begins
        self._arrived: list[np.ndarray] = []  # behind the buffer
        self._samples = 0  # of the stretch, without the zeros in front
        self._taken = 0  # windows
        self._finished = False

    @property
    def frames(self) -> int:
        """Frames heard since the stretch began; a begun one counts once it is whole, or at the
        stretch's end."""
        return frames_of(self._samples) if self._finished else self._samples // FRAME

    @property
    def waiting(self) -> int:
        """Of those, the frames that no window has taken yet."""
        return max(0, self.frames - PRESENT * self._taken)

    @property
    def drained(self) -> bool:
        """Whether the stretch has ended and all of it was taken."""
        return self._finished and not self.waiting

    def hear(self, pcm: np.ndarray) -> None:
        """Take in speech of any length: int16, or float32 within -1 to 1; mono, 16 kHz, (samples,).

        After :meth:`finish` it begins a new stretch.

        Raises:
            ValueError: another type or shape, or the last stretch was finished and not yet taken.
        """
        if pcm.ndim != 1 or pcm.dtype not in (np.int16, np.float32):
            raise ValueError(
                f"speech is int16 or float32 of shape (samples,), not {pcm.dtype} {pcm.shape}"
            )
        if self._finished:
            if self.waiting:
                raise ValueError("the last stretch of speech has to be taken before the next comes")
            self._start_afresh()
        # A copy also of float32: the caller may use the buffer again.
        scale = np.float32(1 / 32768) if pcm.dtype == np.int16 else np.float32(1)
        self._arrived.append(pcm.astype(np.float32) * scale)
        self._samples += len(pcm)

    def finish(self) -> None:
        """The stretch ends here; what follows is silence."""
        self._finished = True

    def cut(self) -> None:
        """Forget what no window has taken; the next speech begins a new stretch."""
        self._start_afresh()

    def take(self, lookahead: bool = True) -> SpeechWindow | None:
        """The next window, or None if it is not complete yet.

        Args:
            lookahead: without it a window whose present was heard is given out at once, with
                silence for what it does not know of its future; for a stream that starves.
        """
        heard = self._samples - self._taken * STRIDE
        needed = STRIDE + (LOOKAHEAD if lookahead else 0)
        if heard < needed and not (self._finished and heard > 0):
            return None
        if self._arrived:
            self._buffer = np.concatenate([self._buffer[self._next :], *self._arrived])
            self._arrived.clear()
            self._next = 0
        window = np.zeros(WINDOW, np.float32)
        known = self._buffer[self._next : self._next + WINDOW]
        window[: len(known)] = known
        frames = min(PRESENT, self.waiting)
        self._next += STRIDE
        self._taken += 1
        return SpeechWindow(window, frames)
