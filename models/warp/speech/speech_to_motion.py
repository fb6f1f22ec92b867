"""Speech to motion: a small causal network that hears 16 kHz speech and moves a mouth.

Every 20 ms it says how the lips and jaw stand, in a *row* of ``OUTPUTS``. It says so six times,
each time having heard more: at once, then 20, 40, ... 100 ms later. The last word on a row is
*final*; the earlier ones serve frames that must be shown before their lookahead has been heard.

It is trained on synthesised speech alone, by ``scripts/train_speech_to_motion.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from models.engine import SPEECH_SAMPLES_PER_FRAME
from models.warp.speech.log_mel import BANDS, HOP, SILENCE, LogMelStream

WEIGHTS = Path(__file__).parent / "weights" / "speech_to_motion.safetensors"

ROW_SAMPLES = 2 * HOP
"""Speech samples (16 kHz) of one row: 320, 20 ms. Row *t* speaks for its centre, 20 t + 10 ms."""
ROWS_PER_FRAME = SPEECH_SAMPLES_PER_FRAME // ROW_SAMPLES
LOOKAHEAD = 5
"""Rows heard after a row before the last word on it: row *t* needs the first 20 t + 120 ms."""

OUTPUTS = ("aperture", "width", "jaw", "closure", "labiodental", "tongue", "speech")
"""What the network says in a row. ``aperture`` 0 shut to 1 an open "ah"; ``width`` -1 rounded to 1
spread; ``jaw`` 0 to 1; the others are probabilities: lips pressed together, lower lip at the upper
teeth, tongue at the upper teeth, somebody speaks."""
ROW = (*OUTPUTS, "loudness", "treble")
"""Columns of the rows a ``MotionStream`` hands out: the network's; the speech's own loudness, 0 at
-60 dB of full scale to 1 at -10 dB; and the share of its energy up to 5 kHz that is above 1 kHz."""
COLUMN = {name: i for i, name in enumerate(ROW)}
PROBABILITIES = slice(COLUMN["closure"], len(OUTPUTS))
PHONE_CLASSES = 29

_TAPER = np.hanning(ROW_SAMPLES)

State = list[Tensor]
"""What the network remembers of the speech so far: each layer's left context, then the GRU's."""


class CausalConv(nn.Module):
    """Convolution over time that sees only the past, as one matrix product over its taps."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.dilation, self.stride = kernel, dilation, stride
        self.context = (kernel - 1) * dilation + 1 - stride
        self.linear = nn.Linear(kernel * inputs, outputs)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, time, inputs), past (batch, context, inputs) -> output, the next ``past``."""
        steps = x.shape[1] // self.stride
        x = torch.cat([past, x], dim=1)
        taps = [
            x[:, i * self.dilation : i * self.dilation + steps * self.stride : self.stride]
            for i in range(self.kernel)
        ]
        return self.linear(torch.cat(taps, dim=-1)), x[:, x.shape[1] - self.context :]


class ResidualBlock(nn.Module):
    """Adds what three moments, ``dilation`` rows apart, say together."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = CausalConv(width, width, kernel=3, dilation=dilation)
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, time, width) -> the same shape, the next ``past``."""
        y, past = self.conv(self.norm(x), past)
        return x + self.mix(F.gelu(y)), past


class SpeechToMotion(nn.Module):
    """The network: log-mel frames (10 ms) in, rows of motion (20 ms) out. 0.47 M parameters."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.listen = CausalConv(BANDS, 96, kernel=5)
        self.halve = CausalConv(96, width, kernel=4, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(width, dilation) for dilation in (1, 2, 4, 8))
        self.norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.motion = nn.Linear(2 * width, (LOOKAHEAD + 1) * len(OUTPUTS))
        self.phones = nn.Linear(2 * width, PHONE_CLASSES)  # helps in training only

    def initial_state(self, batch: int = 1) -> State:
        """The memory of someone who has heard nothing but digital silence."""
        device = self.motion.weight.device
        state = [
            torch.full((batch, self.listen.context, BANDS), SILENCE, device=device),
            torch.zeros(batch, self.halve.context, 96, device=device),
        ]
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            state.append(torch.zeros(batch, block.conv.context, self.width, device=device))
        return [*state, torch.zeros(1, batch, self.width, device=device)]

    def features(self, mel: Tensor, state: State) -> tuple[Tensor, State]:
        """mel (batch, 2 * rows, BANDS) -> features (batch, rows, 2 * width), the next state."""
        x, first = self.listen(mel, state[0])
        x, second = self.halve(F.gelu(x), state[1])
        after = [first, second]
        for block, past in zip(self.blocks, state[2:-1], strict=True):
            x, past = block(x, past)
            after.append(past)
        x = self.norm(x)
        y, memory = self.gru(x, state[-1])
        return torch.cat([x, y], dim=-1), [*after, memory]

    def forward(self, mel: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """What the network says as it hears each row.

        Args:
            mel: float32, (batch, 2 * rows, BANDS) from ``models.warp.speech.log_mel``.
            state: from ``initial_state`` or the call before.

        Returns:
            motion (batch, rows, LOOKAHEAD + 1, len(OUTPUTS)): at [:, s, d] what is said of row
            s - d once row s has been heard, ``PROBABILITIES`` as logits; the logits of the phone
            of row s - LOOKAHEAD, (batch, rows, PHONE_CLASSES); the next state.
        """
        x, state = self.features(mel, state)
        motion = self.motion(x).unflatten(-1, (LOOKAHEAD + 1, len(OUTPUTS)))
        return motion, self.phones(x), state

    @classmethod
    def load(cls, path: Path = WEIGHTS, device: torch.device | str = "cpu") -> SpeechToMotion:
        """The trained network, ready to listen.

        Raises:
            FileNotFoundError: there are no weights at ``path``.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"no speech-to-motion weights at {path}; train them with "
                "scripts/train_speech_to_motion.py or restore the file from the repository"
            )
        network = cls()
        network.load_state_dict(load_file(path))
        return network.to(device).eval().requires_grad_(False)


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
