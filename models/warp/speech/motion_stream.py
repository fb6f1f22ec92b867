"""Speech that arrives in pieces on its way through the network: rows of motion come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from models.engine import SPEECH_SAMPLES_PER_FRAME
from models.warp.speech.log_mel import LogMelStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS, PROBABILITIES, ROW, ROW_SAMPLES

_TAPER = np.hanning(ROW_SAMPLES)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on the calling thread alone.

    The network's products are too small to share out; on a busy machine, waiting for the other
    threads takes ten times as long as the work. The setting is the calling thread's own.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _loudness_and_treble(pcm: np.ndarray) -> np.ndarray:
    """The last two columns of ``ROW`` for whole rows of int16 speech: float32, (rows, 2)."""
    rows = pcm.reshape(-1, ROW_SAMPLES) / 32768.0
    decibels = 10.0 * np.log10(np.maximum(np.square(rows).mean(axis=1), 1e-10))
    power = np.square(np.abs(np.fft.rfft(rows * _TAPER)))  # bins of 50 Hz
    low, high = power[:, 1:20].sum(axis=1), power[:, 20:100].sum(axis=1)
    treble = high / np.maximum(low + high, 1e-9)
    loudness = np.clip((decibels + 60.0) / 50.0, 0.0, 1.0)
    return np.column_stack([loudness, treble]).astype(np.float32)


class MotionStream:
    """One stretch of speech on its way through the network.

    ``hear`` only stores; ``take`` runs the network just far enough, in blocks. Final rows do not
    depend on how the speech was cut into pieces.
    """

    BLOCK = 16
    """Rows put through the network at once when more has been heard than is needed."""

    def __init__(self, network: SpeechToMotion) -> None:
        self._network = network
        self._device = network.motion.weight.device
        self._mel = LogMelStream(self._device)
        self._state = network.initial_state()
        self._waiting: deque[np.ndarray] = deque()
        self._samples = 0
        self._finished = False
        self._stepped = 0  # rows that went through the network
        self._taken = 0
        # Of what was heard from row _taken on: the network's readings, each of LOOKAHEAD + 1 rows,
        # the newest first, and the sound's own columns.
        self._said = np.zeros((0, LOOKAHEAD + 1, len(OUTPUTS)), np.float32)
        self._sound = np.zeros((0, 2), np.float32)

    @property
    def finished(self) -> bool:
        """No more speech will come."""
        return self._finished

    @property
    def heard(self) -> int:
        """Whole rows heard and not taken."""
        return self._samples // ROW_SAMPLES - self._taken

    @property
    def ready(self) -> int:
        """Of those, the rows whose lookahead has been heard, too."""
        missing = 0 if self._finished else LOOKAHEAD
        return max(0, self.heard - missing)

    def hear(self, pcm: np.ndarray) -> None:
        """Take in speech: int16, 16 kHz, shape (samples,). It is copied.

        Raises:
            ValueError: the stream was finished, or ``pcm`` is not what is asked for.
        """
        if self._finished:
            raise ValueError("this stretch of speech is finished; start a new MotionStream")
        if pcm.dtype != np.int16 or pcm.ndim != 1:
            raise ValueError(
                f"speech must be int16 of shape (samples,), not {pcm.dtype} of shape {pcm.shape}"
            )
        if len(pcm) == 0:
            return
        self._waiting.append(pcm.copy())
        self._samples += len(pcm)

    def finish(self) -> None:
        """The speech ends: pad it with silence to a whole frame. What follows is silence."""
        if not self._finished:
            padding = -self._samples % SPEECH_SAMPLES_PER_FRAME
            self._waiting.append(np.zeros(padding + LOOKAHEAD * ROW_SAMPLES, np.int16))
            self._samples += padding
            self._finished = True

    def take(self, rows: int) -> np.ndarray:
        """The next ``rows`` rows, final where their lookahead has been heard.

        Returns:
            float32, (rows, len(ROW)), probabilities 0 to 1.

        Raises:
            ValueError: more rows than have been heard.
        """
        views = self.take_views(rows)
        return np.array([view[0] for view in views], np.float32).reshape(rows, len(ROW))

    def take_views(self, rows: int) -> list[np.ndarray]:
        """The next ``rows`` rows, each with what is guessed of the rows after it.

        Returns:
            Of each row, float32, (1 to LOOKAHEAD + 1, len(ROW)): itself and the rows after it, as
            the network understood them when it had heard LOOKAHEAD rows more, or all there was.

        Raises:
            ValueError: more rows than have been heard.
        """
        if not 0 <= rows <= self.heard:
            raise ValueError(f"cannot take {rows} rows of motion: {self.heard} rows were heard")
        heard = self._samples // ROW_SAMPLES + (LOOKAHEAD if self._finished else 0)
        needed = min(self._taken + rows + LOOKAHEAD, heard) if rows else 0
        while self._stepped < needed:
            self._step(min(max(needed - self._stepped, self.BLOCK), heard - self._stepped))
        views = []
        for row in range(rows):
            last = min(row + LOOKAHEAD, len(self._said) - 1)
            said = self._said[last, last - row :: -1]
            views.append(np.column_stack([said, self._sound[row : last + 1]]))
        self._said, self._sound = self._said[rows:], self._sound[rows:]
        self._taken += rows
        return views

    @_one_thread()
    @torch.inference_mode()
    def _step(self, rows: int) -> None:
        """Put the next ``rows`` rows of speech through the network."""
        pcm = self._next_samples(rows * ROW_SAMPLES)
        self._sound = np.concatenate([self._sound, _loudness_and_treble(pcm)])
        mel = self._mel.push(pcm)
        said, _, self._state = self._network(mel[None], self._state)
        said[..., PROBABILITIES] = torch.sigmoid(said[..., PROBABILITIES])
        self._said = np.concatenate([self._said, said[0].cpu().numpy()])
        self._stepped += rows

    def _next_samples(self, count: int) -> np.ndarray:
        pieces, missing = [], count
        while missing:
            piece = self._waiting.popleft()
            if len(piece) > missing:
                self._waiting.appendleft(piece[missing:])
                piece = piece[:missing]
            pieces.append(piece)
            missing -= len(piece)
        return np.concatenate(pieces)
