"""Decoder: paints the picture from the warped feature map.

SPADE blocks (Park et al. 2019): the feature map is not only what is painted from, it also says at
every norm how to scale and shift each pixel. A frame of the official size costs 0.81 TFLOP in
proportion to the batch; the largest tensor, scale and shift of the last block when fused, is 67 MB
in bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """Feature map → picture, eight times as wide and high."""

    def __init__(
        self,
        features: int = 256,
        width: int = 512,
        blocks: int = 6,
        hidden: int = 128,
        up: tuple[int, int] = (256, 64),
    ) -> None:
        """Args:
        features: channels of the feature map.
        width: of the blocks at its own size.
        blocks: how many of them (six in the released weights; they are named one by one).
        hidden: width of the layer between the feature map and a norm's scale and shift.
        up: widths after the first and the second doubling.
        """
        super().__init__()
        self.fc = nn.Conv2d(features, width, kernel_size=3, padding=1)
        self.middle = [f"G_middle_{i}" for i in range(blocks)]
        for name in self.middle:
            self.add_module(name, SpadeBlock(width, width, features, hidden))
        self.up_0 = SpadeBlock(width, up[0], features, hidden, enlarged=2)
        self.up_1 = SpadeBlock(up[0], up[1], features, hidden, enlarged=4)
        self.conv_img = nn.Sequential(
            nn.Conv2d(up[1], 3 * 2 * 2, kernel_size=3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, feature: Tensor) -> Tensor:
        """(B, features, H, W) → RGB from 0 to 1, (B, 3, 8 H, 8 W)."""
        x = self.fc(feature)
        for name in self.middle:
            x = getattr(self, name)(x, feature)
        x = self.up_0(enlarge(x), feature)
        x = self.up_1(enlarge(x), feature)
        return self.conv_img(F.leaky_relu(x, 0.2)).sigmoid()

    def fold_spectral_norm(self) -> None:
        """Divide the weights by their norm once and for all. Call it after loading, before the
        dtype is lowered; a second call does nothing."""
        for module in self.modules():
            if isinstance(module, SpectralConv2d):
                module.fold()

    def fuse(self) -> None:
        """Join the two convolutions of each norm into one, and keep the kernels of enlarged ones.
        The same numbers but for the order of rounding. Call it after loading, before the dtype is
        lowered: files can no longer be loaded after it, and a second call does nothing."""
        for module in self.modules():
            if isinstance(module, Spade):
                module.fuse()


def enlarge(x: Tensor) -> Tensor:
    """Every pixel becomes four."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class SpadeBlock(nn.Module):
    """Two modulated convolutions beside a shortcut, which is convolved where the width changes."""

    def __init__(
        self, inputs: int, outputs: int, features: int, hidden: int, enlarged: int = 1
    ) -> None:
        """``enlarged``: how many times wider and higher than the feature map its input is."""
        super().__init__()
        middle = min(inputs, outputs)
        self.conv_0 = SpectralConv2d(inputs, middle, kernel_size=3)
        self.conv_1 = SpectralConv2d(middle, outputs, kernel_size=3)
        self.norm_0 = Spade(inputs, features, hidden, enlarged)
        self.norm_1 = Spade(middle, features, hidden, enlarged)
        self.conv_s: SpectralConv2d | None = None
        self.norm_s: Spade | None = None
        if inputs != outputs:
            self.conv_s = SpectralConv2d(inputs, outputs, kernel_size=1, bias=False)
            self.norm_s = Spade(inputs, features, hidden, enlarged)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """(B, inputs, H, W) and the feature map → (B, outputs, H, W)."""
        y = self.conv_0(F.leaky_relu(self.norm_0(x, feature), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, feature), 0.2))
        if self.conv_s is not None and self.norm_s is not None:
            x = self.conv_s(self.norm_s(x, feature))
        return x + y


class Spade(nn.Module):
    """Instance norm whose scale and shift are painted from the feature map, pixel by pixel."""

    def __init__(self, channels: int, features: int, hidden: int, enlarged: int = 1) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(EnlargedConv2d(features, hidden, enlarged), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)
        self.mlp_both: nn.Conv2d | None = None

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, features, H / enlarged, W / enlarged) → (B, channels, H,
        W)."""
        shared = self.mlp_shared(feature)
        if self.mlp_both is not None:
            gamma, beta = self.mlp_both(shared).chunk(2, dim=1)
        else:
            gamma, beta = self.mlp_gamma(shared), self.mlp_beta(shared)
        # F.instance_norm would leave the channels-last layout; compiled, this is one pass.
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(precise, dim=(2, 3), correction=0, keepdim=True)
        normal = (precise - mean) * (variance + 1e-5).rsqrt()
        return (normal * (1 + gamma) + beta).to(x.dtype)

    def fuse(self) -> None:
        """One convolution of twice the width reads ``shared`` once."""
        if self.mlp_both is not None:
            return
        for part in self.mlp_shared.modules():
            if isinstance(part, EnlargedConv2d):
                part.fuse()
        parts = (self.mlp_gamma, self.mlp_beta)
        both = nn.Conv2d(
            self.mlp_gamma.in_channels,
            2 * self.mlp_gamma.out_channels,
            kernel_size=3,
            padding=1,
            device="meta",
        )
        both.weight = _frozen(torch.cat([part.weight for part in parts]))
        both.bias = _frozen(torch.cat([part.get_parameter("bias") for part in parts]))
        self.mlp_both = both
        del self.mlp_gamma, self.mlp_beta


class EnlargedConv2d(nn.Conv2d):
    """A 3×3 convolution of a picture of which every pixel was made ``times`` × ``times``, without
    making it: most of the nine taps would meet the same pixel.

    In one dimension, pixels ``times·a - 1`` to ``times·a + times - 2`` of the result see nothing
    but the small pixels a - 1 and a: the first of them (w0 + w1, w2), the second (w0, w1 + w2), the
    others (0, w0 + w1 + w2). So a kernel of 2×2 over the small picture gives them all, as channels
    to be shuffled out: 4 products a pixel instead of 9.
    """

    def __init__(self, inputs: int, outputs: int, times: int) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=1)
        self.times = times
        self.small: Tensor | None = None
        self.small_bias: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, times H, times W)."""
        if self.times == 1:
            return super().forward(x)
        if self.small is not None:
            weight, bias = self.small, self.small_bias
        else:
            weight, bias = self.kernel()
        y = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), self.times)
        height, width = (self.times * side for side in x.shape[2:])
        return y[..., 1 : height + 1, 1 : width + 1]

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (outputs · times², inputs, 2, 2) and bias (outputs · times²)."""
        # (result's pixel, small pixel, tap): which taps of a pixel meet which small pixel
        meets = self.weight.new_zeros(self.times, 2, 3)
        meets[0, 0, :2] = meets[0, 1, 2] = 1
        meets[1, 0, 0] = meets[1, 1, 1:] = 1
        meets[2:, 1] = 1
        weight = torch.einsum("pat,qbu,oitu->opqiab", meets, meets, self.weight).flatten(0, 2)
        return weight, self.get_parameter("bias").repeat_interleave(self.times**2)

    def fuse(self) -> None:
        """Make the kernel once and for all."""
        if self.times > 1 and self.small is None:
            self.small, self.small_bias = (_frozen(part) for part in self.kernel())
            del self.weight, self.bias


class SpectralConv2d(nn.Module):
    """A convolution in the form that training with spectral norm (Miyato et al. 2018) stores: the
    raw weight, and the two vectors that give its largest singular value."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel_size, kernel_size)
        fan_in = inputs * kernel_size * kernel_size
        u = F.normalize(torch.randn(outputs), dim=0)
        v = F.normalize(torch.randn(fan_in), dim=0)
        # With the vectors' own product in it, a fresh weight's norm is close to 1.
        weight = torch.randn(shape) / fan_in**0.5 + torch.outer(u, v).view(shape)
        self.padding = kernel_size // 2
        self.weight: nn.Parameter | None = None
        self.weight_orig = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_u: Tensor
        self.weight_v: Tensor
        self.register_buffer("weight_u", u)
        self.register_buffer("weight_v", v)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        weight = self.normalised() if self.weight is None else self.weight
        return F.conv2d(x, weight, self.bias, padding=self.padding)

    def normalised(self) -> Tensor:
        """The weight divided by uᵀ·W·v, with W flattened behind its first axis."""
        return self.weight_orig / (self.weight_u @ self.weight_orig.flatten(1) @ self.weight_v)

    def fold(self) -> None:
        """Keep only what ``forward`` needs."""
        if self.weight is None:
            self.weight = _frozen(self.normalised())
            del self.weight_orig, self.weight_u, self.weight_v


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)
