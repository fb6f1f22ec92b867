"""The diffusion sampler: from noise to 80 rows of motion in a few steps, many sessions at once.

The noise schedule is the cosine schedule of Nichol and Dhariwal (2021, "Improved denoising
diffusion probabilistic models", equation 17), the steps are those of DDIM with eta = 1 (Song et
al. 2021, "Denoising diffusion implicit models", equations 12 and 16).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

SCHEDULE_STEPS = 1000
"""Noise levels the denoiser was trained on."""
ROWS = 80
"""Rows of motion in a window: 3.2 s."""

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``denoise(x, time) -> x_start``: x (B, 80, 265), time (B,) int64, the answer like x.

What the motion depends on (speech, start motion, guidance) is bound when the callable is made,
so that it is encoded once per window and not once per step.
"""


def alphas_cumprod() -> np.ndarray:
    """Share of the signal's variance left at each noise level: float32, shape (1000,), falling.

    The variances of single steps are rounded to float32 first: the denoiser was trained so.
    """
    t = np.arange(SCHEDULE_STEPS + 1, dtype=np.float64) / SCHEDULE_STEPS
    signal = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999).astype(np.float32)
    return np.cumprod(np.float32(1) - betas, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class DdimStep:
    """One step from noise level ``t`` to ``t_next``; its numbers are those of the formulas.

    ``x_next = sqrt_alpha_next * x_start + noise_scale * predicted noise + sigma * fresh noise``,
    ``predicted noise = x * noise_from_x - x_start * noise_from_start``.
    """

    t: int
    t_next: int
    """-1 after the last step, whose answer is x_start itself."""
    sqrt_alpha_next: float
    noise_scale: float
    sigma: float
    noise_from_x: float
    noise_from_start: float


def ddim_steps(count: int) -> list[DdimStep]:
    """The ``count`` steps from pure noise to motion, in the order they are taken.

    Raises:
        ValueError: ``count`` is not 1 to 1000.
    """
    if not 1 <= count <= SCHEDULE_STEPS:
        raise ValueError(f"a sampler takes 1 to {SCHEDULE_STEPS} steps, not {count}")
    levels = np.linspace(-1, SCHEDULE_STEPS - 1, count + 1).astype(int)[::-1].tolist()
    alphas = alphas_cumprod().astype(np.float64)
    steps = []
    for t, t_next in pairwise(levels):
        now = float(alphas[t])
        after = float(alphas[t_next]) if t_next >= 0 else 1.0
        steps.append(
            DdimStep(
                t=t,
                t_next=t_next,
                sqrt_alpha_next=math.sqrt(after),
                # The textbook's sqrt(1 - after - sigma²) cancels to nothing, or to less than
                # nothing, at the noisiest step. This is the same number without the difference.
                noise_scale=(1 - after) * math.sqrt(now / after) / math.sqrt(1 - now),
                sigma=math.sqrt(max(0.0, (1 - now / after) * (1 - after) / (1 - now))),
                noise_from_x=math.sqrt(1 / (1 - now)),
                noise_from_start=1 / math.sqrt(1 / now - 1),
            )
        )
    return steps


class SessionNoise:
    """The random numbers of one session, on its device.

    The noise of the steps is drawn once and serves every window: the same speech then moves much
    the same way in overlapping windows, which is what lets them be fused. Only the start of each
    window is drawn afresh.

    Args:
        steps: of the sampler.
        channels: of a row of motion.
        seed: the same seed draws the same numbers on the same kind of device.
        device: where the numbers live.
        rows: of a window.
    """

    def __init__(
        self,
        steps: int,
        channels: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        rows: int = ROWS,
    ) -> None:
        self._shape = (rows, channels)
        self._generator = torch.Generator(device).manual_seed(seed)
        self.fixed = self._draw((steps - 1, *self._shape))
        """Noise of the steps: float32, (steps - 1, rows, channels)."""

    def start(self) -> torch.Tensor:
        """Where the next window starts: fresh noise, float32, (rows, channels)."""
        return self._draw(self._shape)

    def _draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator, device=self._generator.device)


class DdimSampler:
    """Runs the steps. Holds no state of a window: thread-safe.

    Args:
        steps: 10 as released; 5 costs half and moves a little less.
        device: where it samples. Nothing passes between host and device while it does.
    """

    def __init__(self, steps: int = 10, device: str | torch.device = "cpu") -> None:
        self.steps = ddim_steps(steps)
        self._times = torch.tensor([step.t for step in self.steps], device=device)

    def noise(self, channels: int, seed: int = 0, rows: int = ROWS) -> SessionNoise:
        """The random numbers of one session of this sampler."""
        return SessionNoise(len(self.steps), channels, seed, self._times.device, rows)

    @torch.inference_mode()
    def sample(self, denoise: Denoiser, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Motion of a batch of windows, each of any session.

        Args:
            denoise: the network with its conditions; called once per step.
            x: start of each window, :meth:`SessionNoise.start` stacked: (B, rows, channels).
            noise: :attr:`SessionNoise.fixed` stacked: (B, steps - 1, rows, channels).

        Returns:
            motion, (B, rows, channels).

        Raises:
            ValueError: ``noise`` was drawn for another number of steps.
        """
        if noise.shape[:2] != (len(x), len(self.steps) - 1):
            raise ValueError(
                f"noise of shape {tuple(noise.shape)} does not serve {len(x)} windows of "
                f"{len(self.steps)} steps"
            )
        for i, step in enumerate(self.steps):
            start = denoise(x, self._times[i].expand(len(x)))
            if step.t_next < 0:
                return start
            predicted = x * step.noise_from_x - start * step.noise_from_start
            x = start * step.sqrt_alpha_next + predicted * step.noise_scale
            x = x + noise[:, i] * step.sigma
        raise AssertionError("the last step returns")
