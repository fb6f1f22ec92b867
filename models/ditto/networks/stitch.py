"""Stitching: nudges the driven key points so that the face still fits its neck and shoulders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ditto.networks.motion_extractor import POINTS


class StitchNetwork(nn.Module):
    """A small perceptron on both sets of key points. Always float32: the face trembles otherwise.

    What a batch costs is nothing beside its launch; call it once for all poses of a moment.
    """

    def __init__(self, widths: Sequence[int] = (128, 128, 64)) -> None:
        """Args: the hidden layers."""
        super().__init__()
        sizes = [2 * 3 * POINTS, *widths]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(sizes[-1], 3 * POINTS + 2))

    def forward(self, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        """Key points of the portrait and of the frame, (B, 21, 3) each → those of the frame,
        corrected: an offset for each point, and one in x and y for all."""
        offsets = self.mlp(torch.cat([kp_source.flatten(1), kp_driving.flatten(1)], dim=1))
        each, common = offsets.split([3 * POINTS, 2], dim=1)
        common = F.pad(common, (0, 1))  # z stays
        return kp_driving + each.unflatten(1, (POINTS, 3)) + common.unsqueeze(1)
