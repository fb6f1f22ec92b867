"""Speech that arrives in pieces on its way through the network: rows of motion come out."""

from __future__ import annotations

from collections import deque

import numpy as np

from models.engine import SPEECH_SAMPLES_PER_FRAME
from models.warp.speech.log_mel import LogMelStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS, ROW, ROW_SAMPLES

_TAPER = np.hanning(ROW_SAMPLES)


def _loudness_and_treble(pcm: np.ndarray) -> np.ndarray:
    """The last two columns of ``ROW`` for whole rows of int16 speech: float32, (rows, 2)."""
    rows = pcm.reshape(-1, ROW_SAMPLES) / 32768.0
    mean_square = np.einsum("rs,rs->r", rows, rows) / ROW_SAMPLES
    decibels = 10.0 * np.log10(np.maximum(mean_square, 1e-10))
    spectrum = np.fft.rfft(rows * _TAPER)[:, 1:100]  # bins of 50 Hz
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    low, high = power[:, :19].sum(axis=1), power[:, 19:].sum(axis=1)
    columns = np.empty((len(rows), 2), np.float32)
    columns[:, 0] = np.minimum(np.maximum((decibels + 60.0) / 50.0, 0.0), 1.0)
    columns[:, 1] = high / np.maximum(low + high, 1e-9)
    return columns


class MotionStream:
    """One stretch of speech on its way through the network.

    ``hear`` only stores; ``take`` runs the network just far enough, in blocks. Final rows do not
    depend on how the speech was cut into pieces.
    """

    BLOCK = 16
    """Rows put through the network at once when more has been heard than is needed."""
    MOST = 64
    """Most rows put through at once: more is no cheaper."""

    def __init__(self, network: SpeechToMotion) -> None:
        self._network = network
        self._mel = LogMelStream()
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
        self._understand(rows)
        first = np.arange(rows)
        last = np.minimum(first + LOOKAHEAD, len(self._said) - 1)
        taken = np.concatenate([self._said[last, last - first], self._sound[:rows]], axis=1)
        self._forget(rows)
        return taken

    def take_views(self, rows: int) -> list[np.ndarray]:
        """The next ``rows`` rows, each with what is guessed of the rows after it.

        Returns:
            Of each row, float32, (1 to LOOKAHEAD + 1, len(ROW)): itself and the rows after it, as
            the network understood them when it had heard LOOKAHEAD rows more, or all there was.

        Raises:
            ValueError: more rows than have been heard.
        """
        self._understand(rows)
        views = []
        for row in range(rows):
            last = min(row + LOOKAHEAD, len(self._said) - 1)
            view = np.empty((last - row + 1, len(ROW)), np.float32)
            view[:, : len(OUTPUTS)] = self._said[last, last - row :: -1]
            view[:, len(OUTPUTS) :] = self._sound[row : last + 1]
            views.append(view)
        self._forget(rows)
        return views

    def _understand(self, rows: int) -> None:
        """Run the network as far as the next ``rows`` rows need."""
        if not 0 <= rows <= self.heard:
            raise ValueError(f"cannot take {rows} rows of motion: {self.heard} rows were heard")
        heard = self._samples // ROW_SAMPLES + (LOOKAHEAD if self._finished else 0)
        needed = min(self._taken + rows + LOOKAHEAD, heard) if rows else 0
        said, sound = [self._said], [self._sound]
        while self._stepped < needed:
            step = min(max(needed - self._stepped, self.BLOCK), heard - self._stepped, self.MOST)
            pcm = self._next_samples(step * ROW_SAMPLES)
            motion, self._state = self._network(self._mel.push(pcm), self._state)
            said.append(motion)
            sound.append(_loudness_and_treble(pcm))
            self._stepped += step
        if len(said) > 1:
            self._said, self._sound = np.concatenate(said), np.concatenate(sound)

    def _forget(self, rows: int) -> None:
        self._said, self._sound = self._said[rows:], self._sound[rows:]
        self._taken += rows

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
