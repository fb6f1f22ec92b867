"""Appearance: a portrait becomes a volume of features that can be bent in three dimensions.

Runs once per portrait (64 GFLOP). The volume of the official size is 8 MB in float32; it is what an
identity keeps on the device.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AppearanceExtractor(nn.Module):
    """The volumetric appearance encoder of face vid2vid (Wang et al. 2021), as LivePortrait
    trained it."""

    def __init__(
        self, width: int = 64, channels: int = 32, depth: int = 16, blocks: int = 6
    ) -> None:
        """Args: ``width`` of the first convolution, doubled twice; ``channels`` and ``depth`` of
        the volume; how many residual ``blocks`` work on it."""
        super().__init__()
        self.depth = depth
        self.first = ConvNormRelu(3, width)
        self.down_blocks = nn.ModuleList(
            [
                ConvNormRelu(width, 2 * width, halve=True),
                ConvNormRelu(2 * width, 4 * width, halve=True),
            ]
        )
        self.second = nn.Conv2d(4 * width, channels * depth, kernel_size=1)
        self.resblocks_3d = nn.Sequential(
            OrderedDict((f"3dr{i}", ResBlock3d(channels)) for i in range(blocks))
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W), RGB from 0 to 1 → volume (B, channels, depth, H / 4, W / 4)."""
        x = self.first(image)
        for block in self.down_blocks:
            x = block(x)
        volume: Tensor = self.second(x).unflatten(1, (-1, self.depth))
        return self.resblocks_3d(volume)


class ConvNormRelu(nn.Module):
    """A 3×3 convolution with batch norm and ReLU; ``halve`` averages pairs of pixels after it."""

    def __init__(self, inputs: int, outputs: int, halve: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W), or half of both sides."""
        x = F.relu(self.norm(self.conv(x)))
        return F.avg_pool2d(x, 2) if self.halve else x


class ResBlock3d(nn.Module):
    """Two 3×3×3 convolutions, each after its norm and ReLU, beside a plain shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm3d(channels)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, D, H, W) → the same shape."""
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return torch.add(x, y)
