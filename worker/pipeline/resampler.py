"""Streaming sample-rate conversion of speech, by libswresample through PyAV."""

from __future__ import annotations

import av
import numpy as np


class Resampler:
    """Converts one stretch of mono int16 audio from one rate to another, piece by piece.

    The output does not depend on how the input was cut into pieces, and output sample *n* lies at
    the same instant as input sample ``n * source_rate / target_rate``: the filter's delay is
    compensated. Make a new one for each stretch.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._taken = 0
        self._given = 0
        self._converter: av.AudioResampler | None = None
        if source_rate != target_rate:
            self._converter = av.AudioResampler(format="s16", layout="mono", rate=target_rate)

    def push(self, pcm: np.ndarray) -> np.ndarray:
        """Feed int16 samples, shape (n,); returns the int16 samples that are ready, shape (m,)."""
        self._taken += len(pcm)
        if self._converter is None:
            self._given += len(pcm)
            return pcm
        if not len(pcm):
            return pcm
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(pcm, dtype=np.int16)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = self.source_rate
        return self._collect(self._converter.resample(frame))

    def finish(self) -> np.ndarray:
        """The rest, int16 (m,): in all ``round(taken * target_rate / source_rate)`` samples."""
        total = (2 * self._taken * self.target_rate + self.source_rate) // (2 * self.source_rate)
        due = total - self._given
        if self._converter is None or not self._taken:
            return np.zeros(0, dtype=np.int16)
        rest = self._collect(self._converter.resample(None))[:due]
        self._given = total
        # A filter that keeps a sample or two to itself must not shift what follows.
        return np.pad(rest, (0, max(0, due - len(rest))))

    def _collect(self, frames: list[av.AudioFrame]) -> np.ndarray:
        if not frames:
            return np.zeros(0, dtype=np.int16)
        pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        self._given += len(pcm)
        return pcm
