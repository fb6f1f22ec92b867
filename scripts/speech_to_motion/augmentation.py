"""Makes synthesised speech sound like people in rooms: all on the log-mel, cheap and in batches."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.warp.log_mel import BANDS, HIGHEST_HZ, LOWEST_HZ, mel
from speech_to_motion.corpus import Corpus

_DECIBEL = math.log(10.0) / 10.0  # of power, in natural logarithm
_EDGES = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)[1:-1]
_CENTRES_HZ = torch.from_numpy(700.0 * (10.0 ** (_EDGES / 2595.0) - 1.0)).float()


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _chance(generator: torch.Generator, probability: float, batch: int) -> Tensor:
    """1 with ``probability``, else 0: (batch, 1, 1)."""
    return (torch.rand(batch, 1, 1, generator=generator) < probability).float()


def _smooth_curve(generator: torch.Generator, batch: int, knots: int, sigma: float) -> Tensor:
    """Random curves over the bands through ``knots`` normal values: (batch, 1, BANDS)."""
    values = sigma * torch.randn(batch, 1, knots, generator=generator)
    return F.interpolate(values, BANDS, mode="linear", align_corners=True)


def crop(
    corpus: Corpus, batch: int, rows: int, strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Random pieces of speech at random tempo (x 0.8 to 1.3 at full strength).

    Returns:
        mel (batch, 2 * rows, BANDS), motion (batch, rows, OUTPUTS), phone (batch, rows).
    """
    tempo = torch.exp(
        _uniform(generator, strength * math.log(0.8), strength * math.log(1.3), batch, 1)
    )
    last = len(corpus.phone) - int(rows * 1.4)
    start = torch.randint(0, last, (batch, 1), generator=generator)

    # The nearest frame, not a mixture of two: mixing would blur what it hears in training only.
    at = 2 * start + (torch.arange(2 * rows) + 0.5) * tempo - 0.5
    mels = corpus.mel[at.round().long().clamp_min(0)].float()

    at = (start + (torch.arange(rows) + 0.5) * tempo - 0.5).clamp_min(0.0)
    whole = at.long()
    part = (at - whole)[..., None]
    motion = corpus.motion[whole] * (1 - part) + corpus.motion[whole + 1] * part
    return mels, motion, corpus.phone[(at + 0.5).long()]


def _warp_frequency(mels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Other vocal tracts and pitches: the frequency axis stretched by up to 20 %."""
    stretch = torch.exp(strength * _uniform(generator, -0.18, 0.18, len(mels), 1))
    hz = (_CENTRES_HZ * stretch).clamp(_CENTRES_HZ[0], _CENTRES_HZ[-1])
    step = float(_EDGES[1] - _EDGES[0])
    at = (2595.0 * torch.log10(1.0 + hz / 700.0) - float(_EDGES[0])) / step
    whole = at.long().clamp(0, BANDS - 2)
    part = (at - whole)[:, None]
    index = whole[:, None].expand(-1, mels.shape[1], -1)
    return mels.gather(2, index) * (1 - part) + mels.gather(2, index + 1) * part


def _reverberate(power: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rooms: the power's decaying echo, T60 0.12 to 0.72 s, for 60 %."""
    batch, frames = power.shape[:2]
    echo = 80
    t60 = _uniform(generator, 0.12, 0.72, batch, 1)
    decay = torch.exp(-13.8 * 0.01 * torch.arange(1, echo + 1) / t60)
    gain = 10.0 ** (_uniform(generator, -15.0, -1.0, batch, 1) / 10.0)
    decay = decay / decay.sum(1, keepdim=True) * gain * strength
    decay = decay * _chance(generator, 0.6, batch)[:, 0]
    size = frames + echo
    heard = torch.fft.rfft(power, size, dim=1)
    room = torch.fft.rfft(F.pad(decay, (1, 0)), size, dim=1)[..., None]
    return power + torch.fft.irfft(heard * room, size, dim=1)[:, :frames].clamp_min(0.0)


def augment(mels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Voices, microphones, rooms and noise of random kinds.

    Args:
        mels: (batch, frames, BANDS) log-mel.
        strength: 0 leaves the voice as it is, 1 is full.
        generator: source of all randomness.

    Returns:
        The log-mel as it might have been heard, the same shape.
    """
    if strength <= 0:
        return mels
    batch, frames, _ = mels.shape
    mels = _warp_frequency(mels, strength, generator)

    blurred = F.avg_pool1d(F.pad(mels, (2, 2), mode="replicate"), 5, stride=1)
    smear = _chance(generator, 0.4 * strength, batch)
    logp = 4.0 * (mels * (1 - smear) + blurred * smear) - 9.0

    tilt = torch.linspace(-0.5, 0.5, BANDS) * 12.0 * torch.randn(batch, 1, 1, generator=generator)
    colour = (tilt * 0.6 + _smooth_curve(generator, batch, 7, 4.0)) * _DECIBEL
    cut = _uniform(generator, math.log(2500), math.log(7000), batch, 1, 1).exp()
    slope = _uniform(generator, 20.0, 80.0, batch, 1, 1) * _DECIBEL
    octaves_above = torch.log2(_CENTRES_HZ / cut).clamp_min(0.0)
    low_pass = slope * octaves_above * _chance(generator, 0.35 * strength, batch)
    gain = 7.0 * torch.randn(batch, 1, 1, generator=generator) * _DECIBEL
    power = (logp + strength * (colour + gain) - low_pass).clamp(-16.1, 12.0).exp()

    power = _reverberate(power, strength, generator)

    level = power.mean(dim=(1, 2), keepdim=True)
    babble = torch.roll(power, 1, 0) * (level / torch.roll(level, 1, 0))
    ratio = 10.0 ** (-_uniform(generator, 6.0, 25.0, batch, 1, 1) / 10.0)
    babble = babble * ratio * _chance(generator, 0.25 * strength, batch)

    shape = torch.exp(
        (_smooth_curve(generator, batch, 6, 6.0) - torch.linspace(0, 12, BANDS)) * _DECIBEL
    )
    snr = _uniform(generator, 3.0, 43.0, batch, 1, 1) + (1.0 - strength) * 20.0
    hiss = level * 10.0 ** (-snr / 10.0) * shape / shape.mean(2, keepdim=True)
    jitter = torch.rand(batch, frames, BANDS, generator=generator).clamp_min(1e-4)
    power = power + babble + hiss * (-torch.log(jitter) * 0.6 + 0.4)

    mels = (power.clamp_min(1e-7).log() + 9.0) / 4.0
    band = torch.arange(BANDS)
    width = torch.randint(1, 10, (batch, 1, 1), generator=generator)
    first = torch.randint(0, BANDS - 10, (batch, 1, 1), generator=generator)
    masked = (band >= first) & (band < first + width)
    masked = masked & (_chance(generator, 0.3 * strength, batch) > 0)
    return torch.where(masked, mels.mean(dim=2, keepdim=True), mels)
