"""The denoiser: from a noisy stretch of motion and what is heard, to the motion itself.

A transformer over windows of 80 frames (EDGE, Tseng et al. 2023, as Ditto trained it for faces).
It answers twice: with what is heard, and without (classifier-free guidance); both passes go
through it as one batch. The noise schedule is not here.

A window of the official size costs 2.1 GFLOP to encode and 7.3 GFLOP a step, both passes together:
too little to fill a GPU, so a batch of several windows costs little more than one. Always float32:
the steps add up, and a lower precision would round the tables below.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conditioning(NamedTuple):
    """What was heard, digested: the same for all steps of a window. 2 B rows: the first B know
    what was heard, the others do not."""

    tokens: Tensor
    """(2 B, frames, width)"""
    pooled: Tensor
    """(2 B, width)"""
    keys: Tensor
    """(layers, 2 B, heads, frames, width / heads): what each layer's attention compares the tokens
    by. With the values 5 MB a window of the official size, while it is denoised."""
    values: Tensor
    """Likewise, what it takes from them."""


class MotionDenoiser(nn.Module):
    """Predicts the clean motion of a window from a noisy one."""

    def __init__(
        self,
        motion: int = 265,
        condition: int = 1103,
        frames: int = 80,
        width: int = 512,
        heads: int = 8,
        feedforward: int = 1024,
        layers: int = 8,
        encoder_layers: int = 2,
    ) -> None:
        """Args: values per frame of motion and of condition, frames of a window, and the size of
        the transformer."""
        super().__init__()
        self.null_cond_embed = nn.Parameter(torch.randn(1, frames, width))
        self.null_cond_hidden = nn.Parameter(torch.randn(1, width))
        # One table, which the released file holds again under every layer.
        self.rotary = Rotary(width, positions=frames + TIME_TOKENS)
        self.time_mlp = nn.Sequential(TimeWaves(width), nn.Linear(width, 4 * width), nn.Mish())
        self.to_time_cond = nn.Sequential(nn.Linear(4 * width, width))
        self.to_time_tokens = nn.Sequential(
            nn.Linear(4 * width, TIME_TOKENS * width), nn.Unflatten(1, (TIME_TOKENS, width))
        )
        self.norm_cond = nn.LayerNorm(width)
        self.input_projection = nn.Linear(2 * motion, width)
        self.cond_encoder = nn.Sequential(
            *(EncoderLayer(width, heads, feedforward, self.rotary) for _ in range(encoder_layers))
        )
        self.cond_projection = nn.Linear(condition, width)
        self.non_attn_cond_projection = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.seqTransDecoder = DecoderStack(layers, width, heads, feedforward, self.rotary)
        self.final_layer = nn.Linear(width, motion)

    def encode(self, cond: Tensor) -> Conditioning:
        """Condition (B, frames, condition) → ``Conditioning``. Once per window: it depends
        neither on the noise nor on the step."""
        batch = cond.shape[0]
        tokens = self.cond_encoder(self.cond_projection(cond))
        pooled = self.non_attn_cond_projection(tokens.mean(dim=1))
        tokens = torch.cat([tokens, self.null_cond_embed.expand(batch, -1, -1)])
        keys, values = self.seqTransDecoder.project(*self._memory(tokens))
        pooled = torch.cat([pooled, self.null_cond_hidden.expand(batch, -1)])
        return Conditioning(tokens, pooled, keys, values)

    def _memory(self, tokens: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """What layers attend to, turned by place and plain; ``tokens`` begin at place ``first``.
        Each token for itself, so those of the step need not wait for those of the window."""
        memory = self.norm_cond(tokens)
        return self.rotary(memory, first), memory

    def forward(
        self, x: Tensor, cond_frame: Tensor, cond: Tensor | Conditioning, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Clean motion as predicted with, and without, what is heard.

        Args:
            x: noisy motion, (B, frames, motion).
            cond_frame: motion that the window starts from, (B, motion).
            cond: what is heard, (B, frames, condition), or what ``encode`` made of it.
            time: step of the noise schedule, (B,) int64, 0 to 999.

        Returns: two tensors of the shape of ``x``.
        """
        heard = cond if isinstance(cond, Conditioning) else self.encode(cond)
        start = cond_frame.unsqueeze(1).expand(-1, x.shape[1], -1)
        rows = self.input_projection(torch.cat([x, start], dim=2)).repeat(2, 1, 1)

        t = self.time_mlp(time)
        tau = F.mish(self.to_time_cond(t).repeat(2, 1) + heard.pooled)
        step = self._memory(self.to_time_tokens(t), first=heard.tokens.shape[1])
        rows = self.seqTransDecoder(rows, heard.keys, heard.values, *step, tau)
        conditional, unconditional = self.final_layer(rows).chunk(2)
        return conditional, unconditional

    def denoise(
        self,
        x: Tensor,
        cond_frame: Tensor,
        cond: Tensor | Conditioning,
        time: Tensor,
        guidance: float = 2.0,
    ) -> Tensor:
        """Clean motion (B, frames, motion), pushed ``guidance`` times from what the network says
        without hearing towards what it says when it hears. Arguments as for ``forward``."""
        conditional, unconditional = self(x, cond_frame, cond, time)
        return unconditional + guidance * (conditional - unconditional)


TIME_TOKENS = 2
"""Tokens behind the condition's that tell the step."""


class TimeWaves(nn.Module):
    """The step as sines and cosines of falling frequency, (B,) → (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        frequencies = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(self, time: Tensor) -> Tensor:
        """Computed in float32 whatever the network's dtype, as in training."""
        angle = time.float().unsqueeze(1) * self.frequencies.float()
        return torch.cat([angle.sin(), angle.cos()], dim=1).to(self.frequencies.dtype)


class Rotary(nn.Module):
    """Turns pairs of values by an angle that grows with the row (RoFormer, Su et al. 2021)."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        exponent = torch.arange(0, width, 2).float() / width
        self.register_buffer("freqs", 1.0 / 10000**exponent)
        self.freqs: Tensor
        self.positions = positions
        self.cos: Tensor
        self.sin: Tensor
        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(0), persistent=False)
        self._tabulate()
        self.register_load_state_dict_post_hook(lambda rotary, _: rotary._tabulate())

    def _tabulate(self) -> None:
        """The angles are float32 products, as in training; their cosines round once."""
        row = torch.arange(self.positions, device=self.freqs.device).float()
        angle = (row[:, None] * self.freqs.float()).double()
        self.cos = angle.cos().to(self.freqs.dtype)
        self.sin = angle.sin().to(self.freqs.dtype)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """(B, rows, width) → the same shape; row i is turned by ``first`` + i times each
        frequency."""
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        places = slice(first, first + x.shape[1])
        cos, sin = self.cos[places], self.sin[places]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Multi-head attention with its three input projections in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) / width**0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, rows, width) attends to (B, others, width) → (B, rows, width)."""
        return self.attend(query, *self.project(key, value))

    def project(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Both as ``attend`` wants them: (B, others, width) → (B, heads, others, width / heads)."""
        return self._part(key, 1), self._part(value, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, rows, width) attends to what ``project`` gave → (B, rows, width)."""
        attended = F.scaled_dot_product_attention(self._part(query, 0), key, value)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _part(self, x: Tensor, index: int) -> Tensor:
        weight = self.in_proj_weight.chunk(3)[index]
        bias = self.in_proj_bias.chunk(3)[index]
        return F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward over what is heard."""

    def __init__(self, width: int, heads: int, feedforward: int, rotary: Rotary) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.rotary = rotary

    def forward(self, c: Tensor) -> Tensor:
        """(B, rows, width) → the same shape. Places count for who attends to whom, not for what
        is passed on."""
        h = self.norm1(c)
        placed = self.rotary(h)
        c = c + self.self_attn(placed, placed, h)
        return c + self.linear2(F.gelu(self.linear1(self.norm2(c))))


class DecoderStack(nn.Module):
    """The layers that work on the motion."""

    def __init__(
        self, layers: int, width: int, heads: int, feedforward: int, rotary: Rotary
    ) -> None:
        super().__init__()
        self.stack = nn.ModuleList(
            DecoderLayer(width, heads, feedforward, rotary) for _ in range(layers)
        )

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.stack if isinstance(layer, DecoderLayer)]

    def project(self, placed_memory: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, others, width), turned by place and plain → keys and values of all layers, each
        (layers, B, heads, others, width / heads)."""
        parts = [layer.multihead_attn.project(placed_memory, memory) for layer in self._layers()]
        keys, values = zip(*parts, strict=True)
        return torch.stack(keys), torch.stack(values)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        placed_step: Tensor,
        step: Tensor,
        tau: Tensor,
    ) -> Tensor:
        """Motion (2 B, rows, width), keys and values of what is heard as ``project`` gives them,
        memory of the step (B, tokens, width) turned by place and plain, tau (2 B, width)
        → (2 B, rows, width)."""
        for layer, heard_keys, heard_values in zip(self._layers(), keys, values, strict=True):
            # The same for both passes; behind what is heard.
            added = layer.multihead_attn.project(placed_step, step)
            key, value = (
                torch.cat([heard, tail.repeat(2, 1, 1, 1)], dim=2)
                for heard, tail in zip((heard_keys, heard_values), added, strict=True)
            )
            x = layer(x, key, value, tau)
        return x


class DecoderLayer(nn.Module):
    """Self-attention, attention to what is heard, feed-forward; each modulated before it is
    added."""

    def __init__(self, width: int, heads: int, feedforward: int, rotary: Rotary) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.multihead_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.film1 = Film(width)
        self.film2 = Film(width)
        self.film3 = Film(width)
        self.rotary = rotary

    def forward(self, x: Tensor, key: Tensor, value: Tensor, tau: Tensor) -> Tensor:
        """(B, rows, width), projected memory (B, heads, others, width / heads), tau (B, width)
        → (B, rows, width)."""
        h = self.norm1(x)
        placed = self.rotary(h)
        x = x + modulate(self.self_attn(placed, placed, h), self.film1(tau))
        h = self.norm2(x)
        heard = self.multihead_attn.attend(self.rotary(h), key, value)
        x = x + modulate(heard, self.film2(tau))
        fed = self.linear2(F.gelu(self.linear1(self.norm3(x))))
        return x + modulate(fed, self.film3(tau))


class Film(nn.Module):
    """Scale and shift from tau (Perez et al. 2018): (B, width) → (B, 2 width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The activation in front of it is the same for all, and was applied once.
        self.block = nn.Sequential(nn.Identity(), nn.Linear(width, 2 * width))

    def forward(self, tau: Tensor) -> Tensor:
        """``tau`` after its Mish."""
        return self.block(tau)


def modulate(x: Tensor, film: Tensor) -> Tensor:
    """(B, rows, width) scaled by 1 + the first half of ``film``, shifted by the second."""
    scale, shift = film.unsqueeze(1).chunk(2, dim=-1)
    return x * (scale + 1) + shift
