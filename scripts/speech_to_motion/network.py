"""The network of ``models.warp.speech.network`` in torch, to be trained.

Its tensors have the names and shapes that the engine's own network loads.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.warp.speech.log_mel import BANDS, SILENCE
from models.warp.speech.network import WEIGHTS
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS
from speech_to_motion.phones import CLASSES

PHONE_CLASSES = len(CLASSES)

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


class SpeechToMotionModule(nn.Module):
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
        like = self.motion.weight
        state = [
            like.new_full((batch, self.listen.context, BANDS), SILENCE),
            like.new_zeros(batch, self.halve.context, 96),
        ]
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            state.append(like.new_zeros(batch, block.conv.context, self.width))
        return [*state, like.new_zeros(1, batch, self.width)]

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
            mel: (batch, 2 * rows, BANDS), from ``speech_to_motion.log_mel``.
            state: from ``initial_state`` or the call before.

        Returns:
            motion (batch, rows, LOOKAHEAD + 1, len(OUTPUTS)): at [:, s, d] what is said of row
            s - d once row s has been heard, ``PROBABILITIES`` as logits; the logits of the phone
            of row s - LOOKAHEAD, (batch, rows, PHONE_CLASSES); the next state.
        """
        x, state = self.features(mel, state)
        motion = self.motion(x).unflatten(-1, (LOOKAHEAD + 1, len(OUTPUTS)))
        return motion, self.phones(x), state

    def save(self, path: Path) -> None:
        """Write the weights as the engine's network loads them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> SpeechToMotionModule:
        """The trained network, ready to listen.

        Raises:
            FileNotFoundError: there are no weights at ``path``.
        """
        network = cls()
        network.load_state_dict(load_file(path))
        return network.eval().requires_grad_(False)
