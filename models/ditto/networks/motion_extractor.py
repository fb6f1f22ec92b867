"""Motion: where the key points of a portrait are, how the head is turned, what the face does.

A ConvNeXt V2 (Woo et al. 2023) with seven linear heads. Runs once per portrait: frames that are
spoken get their motion from the denoiser (``lmdm``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POINTS = 21
"""Key points of a face, each (x, y, z)."""

ANGLE_BINS = 66
"""Bins over which an angle's logits are spread, 3° each."""


class Motion(NamedTuple):
    """What the seven heads say, in their order. All raw: angles are logits over bins."""

    pitch: Tensor
    """(B, 66)"""
    yaw: Tensor
    """(B, 66)"""
    roll: Tensor
    """(B, 66)"""
    t: Tensor
    """(B, 3) translation"""
    exp: Tensor
    """(B, 63) expression: an offset of each of the 21 key points, (x, y, z) by point"""
    scale: Tensor
    """(B, 1)"""
    kp: Tensor
    """(B, 63) canonical key points of this person, (x, y, z) by point"""


class MotionExtractor(nn.Module):
    """Image → ``Motion``. All its weights are under ``detector``, as in the released file."""

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        widths: Sequence[int] = (96, 192, 384, 768),
    ) -> None:
        """Args: blocks and channels of each of the four stages."""
        super().__init__()
        self.detector = ConvNeXt(depths, widths)

    def forward(self, image: Tensor) -> Motion:
        """Image (B, 3, H, W), RGB from 0 to 1, sides multiples of 32 (official: 256)."""
        return self.detector(image)


class ConvNeXt(nn.Module):
    """ConvNeXt V2 and the heads."""

    def __init__(self, depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, widths[0], kernel_size=4, stride=4), ChannelNorm(widths[0])
        )
        self.downsample_layers = nn.ModuleList([stem])
        for narrow, wide in pairwise(widths):
            self.downsample_layers.append(
                nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, kernel_size=2, stride=2))
            )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for depth, width in zip(depths, widths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.fc_kp = nn.Linear(widths[-1], 3 * POINTS)
        self.fc_scale = nn.Linear(widths[-1], 1)
        self.fc_pitch = nn.Linear(widths[-1], ANGLE_BINS)
        self.fc_yaw = nn.Linear(widths[-1], ANGLE_BINS)
        self.fc_roll = nn.Linear(widths[-1], ANGLE_BINS)
        self.fc_t = nn.Linear(widths[-1], 3)
        self.fc_exp = nn.Linear(widths[-1], 3 * POINTS)

    def forward(self, image: Tensor) -> Motion:
        """(B, 3, H, W) → the seven heads."""
        x = image
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        x = self.norm(x.mean(dim=(2, 3)))
        return Motion(
            pitch=self.fc_pitch(x),
            yaw=self.fc_yaw(x),
            roll=self.fc_roll(x),
            t=self.fc_t(x),
            exp=self.fc_exp(x),
            scale=self.fc_scale(x),
            kp=self.fc_kp(x),
        )


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a picture (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """A wide depth-wise convolution, then two linear layers at each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.grn = ResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) → the same shape."""
        y = self.norm(self.dwconv(x).movedim(1, -1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return x + y.movedim(-1, 1)


class ResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, equations 1 to 3): channels compete by their
    energy over the whole picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, width) → the same shape."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x
