"""Warp: bends a portrait's feature volume to the key points of a frame.

The dense motion network decides, for each cell of the volume, which key point's shift it follows,
and which parts of the face the portrait never showed (the occlusion map). Most of its work is 3-D
convolutions at full resolution; a frame of the official size costs 0.34 TFLOP in proportion to the
batch, of which the 7×7×7 mask takes 0.14. The largest tensor, 142 channels of all cells, is 37 MB
in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ditto.networks.motion_extractor import POINTS

HEAT_VARIANCE = 0.01
"""Variance of a key point's heat map, in squared coordinates (the volume spans -1 to 1)."""


class WarpNetwork(nn.Module):
    """Dense motion, warp, and the way back from a volume to a flat feature map."""

    def __init__(
        self,
        channels: int = 32,
        depth: int = 16,
        features: int = 256,
        compressed: int = 4,
        encoder: Sequence[int] = (64, 128, 256, 512, 1024),
        decoder: Sequence[int] = (512, 256, 128, 64, 32),
        mask_kernel: int = 7,
    ) -> None:
        """Args:
        channels, depth: of the volume.
        features: channels of the result.
        compressed: channels of the volume as dense motion sees it.
        encoder, decoder: widths of the hourglass, as many of one as of the other; each step
            halves or doubles height and width.
        mask_kernel: of the last convolutions of dense motion.
        """
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork(
            channels, depth, compressed, encoder, decoder, mask_kernel
        )
        self.third = ConvNormLeaky(channels * depth, features)
        self.fourth = nn.Conv2d(features, features, kernel_size=1)

    def forward(self, feature_3d: Tensor, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        """Volume (B, channels, depth, H, W), key points (B, 21, 3) of the portrait and of the
        frame → feature map (B, features, H, W). H and W are multiples of 2 ** len(encoder)."""
        motion = self.dense_motion_network(feature_3d, kp_source, kp_driving)
        warped = sample(feature_3d, motion.deformation).flatten(1, 2)
        return self.fourth(self.third(warped)) * motion.occlusion


class DenseMotion(NamedTuple):
    """Where each cell of the bent volume comes from."""

    deformation: Tensor
    """(B, D, H, W, 3), at least float32: the (x, y, z) to read from, -1 to 1"""
    occlusion: Tensor
    """(B, 1, H, W), 0 where the portrait shows nothing of use"""
    mask: Tensor
    """(B, 22, D, H, W): share of the background and of each key point"""


class DenseMotionNetwork(nn.Module):
    """A weighting of 22 candidate shifts: none at all, and that of each key point."""

    def __init__(
        self,
        channels: int,
        depth: int,
        compressed: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        kernel: int,
    ) -> None:
        super().__init__()
        candidates = POINTS + 1
        inputs = candidates * (1 + compressed)
        self.hourglass = Hourglass(inputs, encoder, decoder)
        outputs = self.hourglass.outputs
        half = kernel // 2
        self.mask = nn.Conv3d(outputs, candidates, kernel, padding=half)
        self.compress = nn.Conv3d(channels, compressed, kernel_size=1)
        self.norm = nn.BatchNorm3d(compressed)
        self.occlusion = nn.Conv2d(outputs * depth, 1, kernel, padding=half)

    def forward(self, feature_3d: Tensor, kp_source: Tensor, kp_driving: Tensor) -> DenseMotion:
        """(B, channels, D, H, W) and key points (B, 21, 3) → ``DenseMotion``."""
        size = feature_3d.shape[2:]
        # Coordinates need float32 whatever the convolutions run in: a bfloat16 has three digits.
        precise = torch.promote_types(kp_source.dtype, torch.float32)
        kp_source, kp_driving = kp_source.to(precise), kp_driving.to(precise)
        axes = [torch.linspace(-1, 1, n, dtype=precise, device=kp_source.device) for n in size]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)

        # (B, 22, 3): what to add to a place in the frame to find it in the portrait.
        shifts = F.pad(kp_source - kp_driving, (0, 0, 1, 0))
        sparse_motion = grid + shifts[:, :, None, None, None, :]

        compressed = F.relu(self.norm(self.compress(feature_3d)))
        # All candidates in one call: they lie behind one another in the depth of the result, so
        # that the volume is not copied 22 times. 17 MB of coordinates a frame.
        candidates = sample(compressed, sparse_motion.flatten(1, 2))
        candidates = candidates.unflatten(2, (POINTS + 1, size[0])).movedim(2, 1)
        heat = heat_maps(kp_driving, axes) - heat_maps(kp_source, axes)
        heat = F.pad(heat, (0, 0, 0, 0, 0, 0, 1, 0)).unsqueeze(2).to(candidates.dtype)
        seen = self.hourglass(torch.cat([heat, candidates], dim=2).flatten(1, 2))

        mask = self.mask(seen).softmax(dim=1)
        # The shares add up to 1, so the sum over the candidates is the grid and a mean shift.
        shares = mask.to(precise).unsqueeze(-1)
        deformation = grid + (shares * shifts[:, :, None, None, None]).sum(dim=1)
        occlusion = self.occlusion(seen.flatten(1, 2)).sigmoid()
        return DenseMotion(deformation, occlusion, mask)


def sample(volume: Tensor, grid: Tensor) -> Tensor:
    """Read a volume (B, C, D, H, W) at (x, y, z) of ``grid`` (B, d, h, w, 3) → (B, C, d, h, w).

    Trilinear, zero outside. The corners are not aligned although the grid above is built as if
    they were: the weights were trained on that mismatch. Never below float32; the result has the
    volume's dtype again.
    """
    precise = torch.promote_types(volume.dtype, grid.dtype)
    sampled = F.grid_sample(
        volume.to(precise), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.to(volume.dtype)


def heat_maps(points: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """A Gaussian around each point: (B, n, 3) and the coordinates along depth, height and width
    → (B, n, D, H, W). It is a product of three curves, one for each axis."""
    z, y, x = (
        torch.exp(-0.5 / HEAT_VARIANCE * (axis - points[..., i, None]).square())
        for i, axis in zip((2, 1, 0), axes, strict=True)
    )
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :])[..., None, :, :]


class Hourglass(nn.Module):
    """A 3-D U-net that leaves the depth as it is."""

    def __init__(self, inputs: int, encoder: Sequence[int], decoder: Sequence[int]) -> None:
        super().__init__()
        widths = [inputs, *encoder]
        self.encoder = HourglassEncoder(widths)
        self.decoder = HourglassDecoder(widths, decoder)
        self.outputs = decoder[-1] + inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) → (B, outputs, D, H, W)."""
        return self.decoder(self.encoder(x))


class HourglassEncoder(nn.Module):
    """Halves height and width step by step, and remembers each size."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The input and what each step made of it, finest first."""
        sizes = [x]
        for block in self.down_blocks:
            sizes.append(block(sizes[-1]))
        return sizes


class HourglassDecoder(nn.Module):
    """Doubles them again, and puts each remembered size beside its own."""

    def __init__(self, encoder: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList()
        inputs = encoder[-1]
        for width, beside in zip(widths, encoder[-2::-1], strict=True):
            self.up_blocks.append(UpBlock(inputs, width))
            inputs = width + beside
        self.conv = nn.Conv3d(inputs, inputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(inputs)

    def forward(self, sizes: list[Tensor]) -> Tensor:
        """The encoder's list → the finest size."""
        x = sizes[-1]
        for block, beside in zip(self.up_blocks, sizes[-2::-1], strict=True):
            x = torch.cat([block(x), beside], dim=1)
        return F.relu(self.norm(self.conv(x)))


class DownBlock(nn.Module):
    """Convolution, norm, ReLU, then the mean of 2×2 pixels of every slice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) → (B, outputs, D, H / 2, W / 2)."""
        x = F.relu(self.norm(self.conv(x)))
        # avg_pool3d with (1, 2, 2), which knows neither channels-last nor bfloat16 on a CPU.
        upper, lower = x[..., ::2, :], x[..., 1::2, :]
        pairs = (upper[..., ::2] + upper[..., 1::2]) + (lower[..., ::2] + lower[..., 1::2])
        return 0.25 * pairs


class UpBlock(nn.Module):
    """Every slice doubled, then convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) → (B, outputs, D, 2 H, 2 W)."""
        x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
        return F.relu(self.norm(self.conv(x)))


class ConvNormLeaky(nn.Module):
    """A 3×3 convolution with batch norm and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)
