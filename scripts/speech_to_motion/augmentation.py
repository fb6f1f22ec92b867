"""Makes synthesised speech sound like people: adults, children and singers, in rooms, over phones
and codecs, in noise. All on the log-mel, cheap and in batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.warp.speech.log_mel import BANDS, HIGHEST_HZ, LOWEST_HZ, mel
from speech_to_motion.corpus import Corpus

_DECIBEL = math.log(10.0) / 10.0  # of power, in natural logarithm
_EDGES = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)[1:-1]
_CENTRES_HZ = torch.from_numpy(700.0 * (10.0 ** (_EDGES / 2595.0) - 1.0)).float()
_BANDWIDTHS_HZ = (700.0 + _CENTRES_HZ) * (math.log(10.0) / 2595.0) * float(_EDGES[1] - _EDGES[0])

_CHILDREN, _SINGERS, _DRAWN_OUT = 0.25, 0.12, 0.08
_NARROW_BAND, _CODED, _LOSSY = 0.20, 0.20, 0.08
_SMEARED, _LOW_PASSED, _IN_ROOMS, _IN_BABBLE, _MASKED = 0.4, 0.35, 0.6, 0.25, 0.3
"""Shares of the pieces at full strength."""


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _chosen(generator: torch.Generator, share: float, strength: Tensor) -> Tensor:
    """Which pieces of the batch something happens to: bool, (batch,)."""
    return torch.rand(len(strength), generator=generator) < share * strength


def _change(where: Tensor, values: Tensor, how: Callable[[Tensor], Tensor]) -> Tensor:
    """``values`` with the pieces at ``where`` (bool, (batch,)) put through ``how``."""
    index = where.nonzero()[:, 0]
    return values.index_copy(0, index, how(values[index])) if len(index) else values


def _smooth_curve(generator: torch.Generator, batch: int, knots: int, sigma: float) -> Tensor:
    """Random curves over the bands through ``knots`` normal values: (batch, 1, BANDS)."""
    values = sigma * torch.randn(batch, 1, knots, generator=generator)
    return F.interpolate(values, BANDS, mode="linear", align_corners=True)


def _smeared(logp: Tensor) -> Tensor:
    """Mean over five bands: harmonics vanish."""
    padded = F.pad(logp, (2, 2), mode="replicate")
    return sum(padded[..., i : i + BANDS] for i in (1, 2, 3, 4, 0)) / 5.0


def crop(
    corpus: Corpus, rows: int, strength: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Random pieces of speech at random tempo (x 0.8 to 1.3 at full strength); some are drawn out
    to as little as half, as songs are.

    Args:
        corpus: where from.
        rows: length of each.
        strength: (batch,), of each piece.
        generator: source of all randomness.

    Returns:
        mel (batch, 2 * rows, BANDS), motion (batch, rows, OUTPUTS), phone (batch, rows).
    """
    batch = len(strength)
    tempo = (strength * _uniform(generator, math.log(0.8), math.log(1.3), batch)).exp()
    drawn_out = _uniform(generator, 0.5, 0.8, batch)
    tempo = torch.where(_chosen(generator, _DRAWN_OUT, strength), drawn_out, tempo)[:, None]
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


def stretch_frequency(mels: Tensor, stretch: Tensor) -> Tensor:
    """Other vocal tracts and pitches: what was at ``stretch`` (batch,) times a frequency is heard
    there. Below 1 the voice sounds higher and the tract shorter."""
    hz = (_CENTRES_HZ * stretch[:, None]).clamp(_CENTRES_HZ[0], _CENTRES_HZ[-1])
    step = float(_EDGES[1] - _EDGES[0])
    at = (2595.0 * torch.log10(1.0 + hz / 700.0) - float(_EDGES[0])) / step
    weights = (1.0 - (torch.arange(BANDS)[:, None] - at[:, None]).abs()).clamp_min(0.0)
    return mels @ weights


def _any_tract(mels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """The frequency axis stretched by up to 20 %; for children, whose vocal tract is a quarter to a
    third shorter, upwards by as much as that."""
    adult = strength * _uniform(generator, -0.18, 0.18, len(mels))
    child = _uniform(generator, -0.40, -0.15, len(mels))
    is_child = _chosen(generator, _CHILDREN, strength)
    return stretch_frequency(mels, torch.where(is_child, child, adult).exp())


def sing(logp: Tensor, generator: torch.Generator) -> Tensor:
    """The harmonics of voiced sounds moved to another pitch, 130 to 700 Hz, gliding, with vibrato.

    At such pitches the harmonics lie apart, and a vowel shows only where they sample its formants.
    """
    batch, frames = logp.shape[:2]
    seconds = 0.01 * torch.arange(frames)
    knots = _uniform(generator, -0.25, 0.25, batch, 1, max(2, frames // 40))
    glide = F.interpolate(knots, frames, mode="linear")[:, 0]
    rate = _uniform(generator, 4.5, 6.5, batch, 1)
    depth = _uniform(generator, 0.0, 0.04, batch, 1)
    pitch = _uniform(generator, math.log(130.0), math.log(560.0), batch, 1)
    pitch = (pitch + glide + depth * torch.sin(2 * math.pi * rate * seconds)).exp()[..., None]
    # A band wider than the harmonics' distance sees none of them.
    resolved = torch.exp(-3.0 * (_BANDWIDTHS_HZ / pitch).square())
    comb = resolved * (torch.cos(2 * math.pi * _CENTRES_HZ / pitch) - 1.0)
    low, high = logp[..., :30].mean(2, keepdim=True), logp[..., -25:].mean(2, keepdim=True)
    voiced = torch.sigmoid((low - high) * 2.0 - 2.0)
    return logp + voiced * (_smeared(logp) - logp + 9.0 * _DECIBEL * comb)


def narrow_band(power: Tensor, low_hz: Tensor | float, high_hz: Tensor | float) -> Tensor:
    """A telephone's band: 60 dB an octave away outside of it."""
    octaves = torch.log2(low_hz / _CENTRES_HZ).clamp_min(0.0)
    octaves = octaves + torch.log2(_CENTRES_HZ / high_hz).clamp_min(0.0)
    return power * torch.exp(-60.0 * _DECIBEL * octaves)


def code(
    power: Tensor, noise_db: Tensor | float, mask_db: Tensor | float, generator: torch.Generator
) -> Tensor:
    """A codec: noise that follows the voice, bands left out where louder ones mask them."""
    jitter = -torch.log(torch.rand(power.shape, generator=generator).clamp_min(1e-4))
    near = F.max_pool1d(power, 9, stride=1, padding=4)
    masked = power < near * 10.0 ** (torch.as_tensor(mask_db) / 10.0)
    noise = power.mean(2, keepdim=True) * 10.0 ** (torch.as_tensor(noise_db) / 10.0)
    return torch.where(masked, 0.02 * power, power) + noise * jitter


def _lose_packets(power: Tensor, generator: torch.Generator) -> Tensor:
    """4 % of the packets of 40 ms lost, and bridged by the sound before."""
    batch, frames = power.shape[:2]
    lost = torch.rand(batch, frames // 4 + 1, generator=generator) < 0.04
    lost = lost.repeat_interleave(4, dim=1)[:, :frames]
    heard = torch.where(lost, 0, torch.arange(frames)).cummax(dim=1).values
    return power.gather(1, heard[..., None].expand_as(power))


def _transmit(power: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Telephones, codecs, lost packets."""
    low = _uniform(generator, 230.0, 420.0, len(power), 1, 1)
    high = _uniform(generator, 3200.0, 3800.0, len(power), 1, 1)
    chosen = _chosen(generator, _NARROW_BAND, strength)
    power = _change(chosen, power, lambda p: narrow_band(p, low[chosen], high[chosen]))
    noise = _uniform(generator, -38.0, -18.0, len(power), 1, 1)
    mask = _uniform(generator, -26.0, -14.0, len(power), 1, 1)
    coded = _chosen(generator, _CODED, strength)
    power = _change(coded, power, lambda p: code(p, noise[coded], mask[coded], generator))
    lossy = _chosen(generator, _LOSSY, strength)
    return _change(lossy, power, lambda p: _lose_packets(p, generator))


def _reverberate(power: Tensor, gain: Tensor, generator: torch.Generator) -> Tensor:
    """Rooms: the power's decaying echo, T60 0.12 to 0.72 s; ``gain`` (batch, 1, 1) is its share."""
    decay = torch.exp(-0.138 / _uniform(generator, 0.12, 0.72, len(power), 1, 1))  # in 10 ms
    echo = power.clone()
    for reach in (1, 2, 4, 8, 16, 32, 64):  # each pass doubles how far back it hears
        echo[:, reach:] = echo[:, reach:] + decay**reach * echo[:, :-reach]
    late = F.pad(echo, (0, 0, 1, 0))[:, :-1] * (1.0 - decay)
    return power + gain * late


def hiss(
    power: Tensor, snr_db: Tensor | float, shape: Tensor | float, generator: torch.Generator
) -> Tensor:
    """Noise of a spectrum ``shape`` (mean 1) as the bands of a spectrogram hear it."""
    level = power.mean(dim=(1, 2), keepdim=True) * 10.0 ** (-torch.as_tensor(snr_db) / 10.0)
    jitter = torch.rand(power.shape, generator=generator).clamp_min_(1e-4).log_()
    return level * shape * jitter.mul_(-0.6).add_(0.4)


def augment(mels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Voices, microphones, rooms, noise and lines of random kinds.

    Args:
        mels: (batch, frames, BANDS) log-mel.
        strength: (batch,), for each piece: 0 leaves it with a little hiss, 1 is full.
        generator: source of all randomness.

    Returns:
        The log-mel as it might have been heard, the same shape.
    """
    batch = len(mels)
    much = strength[:, None, None]
    logp = 4.0 * _any_tract(mels, strength, generator) - 9.0
    logp = _change(_chosen(generator, _SMEARED, strength), logp, _smeared)
    logp = _change(_chosen(generator, _SINGERS, strength), logp, lambda p: sing(p, generator))

    tilt = torch.linspace(-0.5, 0.5, BANDS) * 12.0 * torch.randn(batch, 1, 1, generator=generator)
    colour = (tilt * 0.6 + _smooth_curve(generator, batch, 7, 4.0)) * _DECIBEL
    cut = _uniform(generator, math.log(2500), math.log(7000), batch, 1, 1).exp()
    slope = _uniform(generator, 20.0, 80.0, batch, 1, 1) * _DECIBEL
    octaves_above = torch.log2(_CENTRES_HZ / cut).clamp_min(0.0)
    low_pass = slope * octaves_above * _chosen(generator, _LOW_PASSED, strength)[:, None, None]
    gain = 7.0 * torch.randn(batch, 1, 1, generator=generator) * _DECIBEL
    power = (logp + (much * (colour + gain) - low_pass)).clamp_(-16.1, 12.0).exp_()

    room = much * 10.0 ** (_uniform(generator, -15.0, -1.0, batch, 1, 1) / 10.0)
    rooms = _chosen(generator, _IN_ROOMS, strength.sign())
    power = _change(rooms, power, lambda p: _reverberate(p, room[rooms], generator))

    level = power.mean(dim=(1, 2), keepdim=True)
    ratio = 10.0 ** (-_uniform(generator, 6.0, 25.0, batch, 1, 1) / 10.0)
    ratio = (
        ratio * (level / level.roll(1, 0)) * _chosen(generator, _IN_BABBLE, strength)[:, None, None]
    )
    fall = torch.linspace(0, 1, BANDS) * _uniform(generator, 0.0, 16.0, batch, 1, 1)
    shape = ((_smooth_curve(generator, batch, 6, 5.0) - fall) * _DECIBEL).exp()
    shape = shape / shape.mean(2, keepdim=True)
    snr = _uniform(generator, 3.0, 33.0, batch, 1, 1) + (1.0 - much) * 20.0
    power = power + power.roll(1, 0) * ratio + hiss(power, snr, shape, generator)

    power = _transmit(power, strength, generator)
    mels = (power.clamp_min(1e-7).log() + 9.0) / 4.0
    band = torch.arange(BANDS)
    width = torch.randint(1, 10, (batch, 1, 1), generator=generator)
    first = torch.randint(0, BANDS - 10, (batch, 1, 1), generator=generator)
    masked = (band >= first) & (band < first + width)
    masked = masked & _chosen(generator, _MASKED, strength)[:, None, None]
    return torch.where(masked, mels.mean(dim=2, keepdim=True), mels)
