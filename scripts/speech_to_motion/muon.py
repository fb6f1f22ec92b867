"""An optimizer for weight matrices that needs fewer steps than Adam."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients that take singular values from near 0 to about 1 in five turns."""


def orthogonal(matrix: Tensor, turns: int = 5) -> Tensor:
    """``matrix`` (rows, columns) with singular values all near 1, by Newton-Schulz iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    wide = wide / (wide.norm() + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(turns):
        gram = wide @ wide.t()
        wide = torch.addmm(wide, b * gram + c * gram @ gram, wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.t()


class Muon(torch.optim.Optimizer):
    """Momentum whose every step moves each weight matrix in all its directions alike.

    After Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; steps are
    scaled to the size of Adam's as by Liu et al., "Muon is scalable for LLM training", 2025.

    Args:
        matrices: two-dimensional parameters.
        rate: root mean square of a step, times five.
        decay: share of the weights lost in a step, over ``rate``.
    """

    def __init__(self, matrices: Iterable[Tensor], rate: float, decay: float) -> None:
        super().__init__(matrices, {"lr": rate, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the matrices once."""
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1.0 - _MOMENTUM)
                move = orthogonal(matrix.grad.lerp(mean, _MOMENTUM))
                size = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1.0 - group["lr"] * group["decay"])
                matrix.add_(move, alpha=-group["lr"] * size)
