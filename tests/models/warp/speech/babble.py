"""Sounds with the variety of speech, made from random numbers."""

from __future__ import annotations

import numpy as np

RATE = 16_000


def babble(seconds: float, chance: np.random.Generator) -> np.ndarray:
    """Syllables and pauses: int16, (samples,), 16 kHz.

    A syllable is a buzz of random pitch, hiss, or both, through three random formants, from a
    whisper near the last bit to clipping. A pause is digital silence or faint noise.
    """
    sound: list[np.ndarray] = []
    missing = round(seconds * RATE)
    while missing > 0:
        part = _pause(chance) if chance.random() < 0.15 else _syllable(chance)
        sound.append(part[:missing])
        missing -= len(sound[-1])
    pcm = np.concatenate(sound)
    return np.clip(np.round(32768.0 * pcm), -32768, 32767).astype(np.int16)


def _pause(chance: np.random.Generator) -> np.ndarray:
    level = chance.choice([0.0, 1e-4, 1e-3])
    return level * chance.standard_normal(int(chance.uniform(0.05, 0.8) * RATE))


def _syllable(chance: np.random.Generator) -> np.ndarray:
    length = int(chance.uniform(0.06, 0.35) * RATE)
    t = np.arange(length) / RATE
    pitch = chance.uniform(70.0, 350.0) * (1.0 + chance.uniform(-0.3, 0.3) * t / t[-1])
    buzz = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0) * 20.0
    mixture = chance.choice([0.0, 0.1, 1.0])
    source = np.fft.rfft((1.0 - mixture) * buzz + mixture * chance.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1.0 / RATE)
    formants = sum(
        gain / (1.0 + np.square((hz - chance.uniform(low, high)) / chance.uniform(40.0, 200.0)))
        for low, high, gain in ((200, 1000, 1.0), (700, 2800, 0.5), (2000, 7000, 0.3))
    )
    sound = np.fft.irfft(source * formants, length) * np.sin(np.pi * t / t[-1])
    peak = 10.0 ** chance.uniform(-4.0, 0.1)
    return sound * (peak / np.abs(sound).max())
