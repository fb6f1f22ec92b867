"""The network: a small causal one that hears 16 kHz speech and moves a mouth.

Every 20 ms it says how the lips and jaw stand, in a *row* of ``OUTPUTS``. It says so six times,
each time having heard more: at once, then 20, 40, ... 100 ms later. The last word on a row is
*final*; the earlier ones serve frames that must be shown before their lookahead has been heard.

It is trained on synthesised speech alone, by ``scripts/train_speech_to_motion.py``.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from models.warp.speech.log_mel import BANDS, SILENCE
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS

WEIGHTS = Path(__file__).parent / "weights" / "speech_to_motion.safetensors"

PHONE_CLASSES = 29

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
