"""Alive when idle: a head that never quite rests, a listener's attention, breath.

Everything is a function of the seed and the frame number, so a session can be repeated, and wound
back, exactly. Nothing is periodic: randomness comes from hashed positions on the time line, not
from a loop.
"""

from __future__ import annotations

import math

import numpy as np

from models.engine import FPS
from models.warp.motion.motion_vector import INDEX, rest

_Drift = tuple[tuple[float, float], ...]
_DRIFTS: dict[str, _Drift] = {
    "yaw": ((1.5, 2.9), (0.5, 1.2), (0.16, 0.52)),
    "pitch": ((1.0, 3.3), (0.4, 1.4), (0.12, 0.61)),
    "roll": ((0.9, 3.7), (0.3, 1.6), (0.10, 0.71)),
    "sway_x": ((0.020, 4.1), (0.006, 1.7), (0.0025, 0.57)),
    "sway_y": ((0.012, 4.7), (0.004, 1.9), (0.0020, 0.66)),
    "brow": ((0.10, 3.1),),
    "smile": ((0.08, 5.3),),
    "width": ((0.04, 2.3),),
}
"""Of each drifting channel: the largest amplitude and the time scale in seconds, for each speed.
The quickest is the tremor of a head that is held up: too small to see, but without it a picture now
and then repeats the one before, and that one sees."""

_LISTENS = {"roll": (1.1, 6.1), "yaw": (0.8, 7.3), "pitch": (0.5, 8.9), "brow": (0.12, 6.7)}
"""Slow turns of a listener, who tilts the head and attends, in the units of the channels."""
_NOD_EVERY_S, _NODS, _NOD_S, _NOD_DEGREES = 5.3, 0.45, (0.45, 0.7), 1.3
"""A listener's small nods: the share of stretches of time with one, its length and depth."""


def hashed(seed: int, stream: int, index: int) -> float:
    """A random number in [0, 1) that depends on its three arguments alone (splitmix64)."""
    mask = (1 << 64) - 1
    x = (
        seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + index * 0x8CB92BA72F3D8DD7
    ) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = ((x ^ (x >> shift)) * factor) & mask
    return x / 2.0**64


def smooth_noise(seed: int, stream: int, t: float) -> float:
    """Smooth random curve within (-1, 1): a uniform cubic B-spline over hashed knots at each whole
    ``t``, pushed outwards by tanh, as a spline stays close to its middle."""
    i = math.floor(t)
    u = t - i
    knots = [2.0 * hashed(seed, stream, i + k) - 1.0 for k in (-1, 0, 1, 2)]
    weights = (
        (1 - u) ** 3,
        3 * u**3 - 6 * u**2 + 4,
        -3 * u**3 + 3 * u**2 + 3 * u + 1,
        u**3,
    )
    return math.tanh(1.6 * sum(w * k for w, k in zip(weights, knots, strict=True)) / 6.0)


def smoothstep(x: float) -> float:
    """0 below 0, 1 above 1, smooth between: 3x² - 2x³."""
    x = min(1.0, max(0.0, x))
    return x * x * (3.0 - 2.0 * x)


class Idle:
    """The idle motion of one session.

    Args:
        seed: the same seed moves the same way.
        liveliness: 0 is a still picture, 1 natural, 1.5 restless. It scales the movements.
    """

    def __init__(self, seed: int = 0, liveliness: float = 1.0) -> None:
        if not 0.0 <= liveliness <= 1.5:
            raise ValueError(f"liveliness must lie between 0 (still) and 1.5, not {liveliness}")
        self._seed = seed
        self._liveliness = liveliness

    def motion(self, frame: int, listening: float = 1.0) -> np.ndarray:
        """Motion at frame ``frame`` of the session: float32, shape (len(CHANNELS),).

        ``listening``: 0 while this person speaks, 1 while it is the other's turn.
        """
        motion = rest()
        if self._liveliness == 0.0:
            return motion
        t = frame / FPS
        for stream, (channel, drift) in enumerate(_DRIFTS.items()):
            for speed, (amplitude, scale_s) in enumerate(drift):
                noise = smooth_noise(self._seed, 10 * stream + speed, t / scale_s)
                motion[INDEX[channel]] += self._liveliness * amplitude * noise
        attention = self._liveliness * listening
        for stream, (channel, (amplitude, scale_s)) in enumerate(_LISTENS.items(), 131):
            noise = smooth_noise(self._seed, stream, t / scale_s)
            motion[INDEX[channel]] += attention * amplitude * noise
        motion[INDEX["pitch"]] += attention * self._nod(t)
        breath = self._breath(t)
        motion[INDEX["breath"]] = min(1.0, self._liveliness) * breath
        motion[INDEX["sway_y"]] -= 0.004 * self._liveliness * breath
        return motion

    def _nod(self, t: float) -> float:
        """How far a listener's nod has lowered the head, in degrees."""
        slot = math.floor(t / _NOD_EVERY_S)
        lowered = 0.0
        for k in (slot - 1, slot):
            if hashed(self._seed, 141, k) >= _NODS:
                continue
            onset = (k + 0.8 * hashed(self._seed, 142, k)) * _NOD_EVERY_S
            length = _NOD_S[0] + hashed(self._seed, 143, k) * (_NOD_S[1] - _NOD_S[0])
            since = (t - onset) / length
            if 0.0 < since < 1.0:
                lowered += _NOD_DEGREES * math.sin(math.pi * since) ** 2
        return lowered

    def _breath(self, t: float) -> float:
        """0 breathed out to 1 in: about 15 breaths a minute, in quicker than out."""
        phase = t / 4.0 + 0.25 * smooth_noise(self._seed, 121, t / 6.0)
        phase += hashed(self._seed, 122, 0)
        phase -= math.floor(phase)
        inhale = 0.4
        return smoothstep(phase / inhale) * (1.0 - smoothstep((phase - inhale) / (1.0 - inhale)))
