"""The network: a small causal one that hears 16 kHz speech and moves a mouth.

Every 20 ms it says how the lips and jaw stand, in a *row* of ``OUTPUTS``. It says so six times,
each time having heard more: at once, then 20, 40, ... 100 ms later. The last word on a row is
*final*; the earlier ones serve frames that must be shown before their lookahead has been heard.

It is trained on synthesised speech alone, by ``scripts/train_speech_to_motion.py``, which has the
same network in torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.warp.speech.layers import GRU, CausalConv, LayerNorm, Linear, Weights, gelu
from models.warp.speech.log_mel import BANDS, SILENCE
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS, PROBABILITIES

WEIGHTS = Path(__file__).parent / "weights" / "speech_to_motion.safetensors"

WIDTH = 128
"""Channels of the network, and of its memory."""
_LISTENING = 96
_DILATIONS = (1, 2, 4, 8)

State = list[np.ndarray]
"""What the network remembers of the speech so far: each layer's left context, then the GRU's."""


class ResidualBlock:
    """Adds what three moments, ``dilation`` rows apart, say together."""

    def __init__(self, weights: Weights, name: str, dilation: int) -> None:
        self.norm = LayerNorm(weights, f"{name}.norm")
        self.conv = CausalConv(weights, f"{name}.conv", kernel=3, dilation=dilation)
        self.mix = Linear(weights, f"{name}.mix")

    def __call__(self, x: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (time, WIDTH) -> the same shape, the next ``past``."""
        y, past = self.conv(self.norm(x), past)
        y = self.mix(gelu(y))
        y += x
        return y, past


class SpeechToMotion:
    """The network: log-mel frames (10 ms) in, rows of motion (20 ms) out. 0.47 M parameters.

    Nothing of it changes between calls, so streams and threads may share it.

    Args:
        weights: tensors by name, float32.

    Raises:
        ValueError: a tensor is missing, or of another type or shape.
    """

    def __init__(self, weights: Weights) -> None:
        for name, shape in _shapes().items():
            found = weights.get(name)
            if found is None or found.shape != shape or found.dtype != np.float32:
                what = "missing" if found is None else f"{found.dtype} of shape {found.shape}"
                raise ValueError(f"{name} must be float32 of shape {shape}, and is {what}")
        self.listen = CausalConv(weights, "listen", kernel=5)
        self.halve = CausalConv(weights, "halve", kernel=4, stride=2)
        self.blocks = [
            ResidualBlock(weights, f"blocks.{i}", dilation) for i, dilation in enumerate(_DILATIONS)
        ]
        self.norm = LayerNorm(weights, "norm")
        self.gru = GRU(weights, "gru")
        self.motion = Linear(weights, "motion")

    def initial_state(self) -> State:
        """The memory of someone who has heard nothing but digital silence."""
        return [
            np.full((self.listen.context, BANDS), SILENCE, np.float32),
            np.zeros((self.halve.context, _LISTENING), np.float32),
            *(np.zeros((block.conv.context, WIDTH), np.float32) for block in self.blocks),
            np.zeros(WIDTH, np.float32),
        ]

    def __call__(self, mel: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """What the network says as it hears each row.

        Args:
            mel: float32, (2 * rows, BANDS) from ``models.warp.speech.log_mel``.
            state: from ``initial_state`` or the call before; it is not changed.

        Returns:
            motion, float32, (rows, LOOKAHEAD + 1, len(OUTPUTS)): at [s, d] what is said of row
            s - d once row s has been heard, ``PROBABILITIES`` from 0 to 1; the next state.
        """
        x, first = self.listen(mel, state[0])
        x, second = self.halve(gelu(x), state[1])
        after = [first, second]
        for block, past in zip(self.blocks, state[2:-1], strict=True):
            x, past = block(x, past)
            after.append(past)
        x = self.norm(x)
        y, memory = self.gru(x, state[-1])
        motion = self.motion(np.concatenate([x, y], axis=1))
        motion = motion.reshape(-1, LOOKAHEAD + 1, len(OUTPUTS))
        logits = motion[..., PROBABILITIES]
        logits *= 0.5  # the logistic function is (1 + tanh(x / 2)) / 2
        np.tanh(logits, out=logits)
        logits += 1.0
        logits *= 0.5
        return motion, [*after, memory]

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> SpeechToMotion:
        """The trained network, ready to listen.

        Raises:
            FileNotFoundError: there are no weights at ``path``.
            ValueError: the file holds something else.
        """
        remedy = (
            "train them with scripts/train_speech_to_motion.py or restore the file from the "
            "repository"
        )
        if not path.is_file():
            raise FileNotFoundError(f"no speech-to-motion weights at {path}; {remedy}")
        try:
            return cls(load_file(path))
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path} holds other weights: {error}; {remedy}") from error


def _shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors the network is made of."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)})

    linear("listen.linear", 5 * BANDS, _LISTENING)
    linear("halve.linear", 4 * _LISTENING, WIDTH)
    for i in range(len(_DILATIONS)):
        norm(f"blocks.{i}.norm")
        linear(f"blocks.{i}.conv.linear", 3 * WIDTH, WIDTH)
        linear(f"blocks.{i}.mix", WIDTH, WIDTH)
    norm("norm")
    for side in ("ih", "hh"):
        shapes[f"gru.weight_{side}_l0"] = (3 * WIDTH, WIDTH)
        shapes[f"gru.bias_{side}_l0"] = (3 * WIDTH,)
    linear("motion", 2 * WIDTH, (LOOKAHEAD + 1) * len(OUTPUTS))
    return shapes
