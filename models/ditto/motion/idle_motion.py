"""Idle motion of a face: drift of the head, breath, blinks and glances.

Everything random is a function of the seed and the frame number, so a session can be repeated, and
wound back, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.engine import FPS

# A blink: the lids shut in 120 ms, stay for 40, open in 160 to 240.
_SHUT_S, _STAY_S, _OPEN_S = 0.12, 0.04, (0.16, 0.24)
_DOUBLE_BLINKS, _DOUBLE_AFTER_S = 0.10, 0.44
_GLANCE_EVERY_S, _SACCADE_S = 1.9, 0.06
_GLANCE = ((7.0, 4.0), (1.2, 0.8))
"""Reach of a glance aside and of one at the viewer: x and y as ``key_points.look`` counts."""
_AT_THE_VIEWER = 0.7
_DRIFTS: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (
    ((0.9, 3.3), (0.3, 1.4)),  # pitch, degrees
    ((1.4, 2.9), (0.4, 1.2)),  # yaw
    ((0.8, 3.7), (0.2, 1.6)),  # roll
    ((0.006, 4.1), (0.002, 1.7)),  # shift to the side, in units of key points
    ((0.004, 4.7), (0.001, 1.9)),  # shift down
)
"""Idle motion: the largest amplitude and the time scale in seconds, for two speeds."""
_BREATH, _BREATH_S = 0.003, 4.0


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between: 3x² - 2x³."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def hashed(seed: int, stream: int, index: np.ndarray) -> np.ndarray:
    """Random numbers in [0, 1) that depend on seed, stream and index alone (splitmix64)."""
    word = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64
    x = index.astype(np.int64).astype(np.uint64) * np.uint64(0x8CB92BA72F3D8DD7) + np.uint64(word)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x / 2.0**64


def smooth_noise(seed: int, stream: int, t: np.ndarray) -> np.ndarray:
    """A smooth random curve within (-1, 1) over ascending ``t``: a cubic B-spline over random knots
    at whole ``t``, pushed outwards by tanh, as a spline stays close to its middle."""
    place = np.floor(t)
    u = t - place
    first = int(place[0]) - 1
    knots = 2 * hashed(seed, stream, np.arange(first, int(place[-1]) + 3)) - 1
    k = place.astype(np.int64) - 1 - first
    v = 1 - u
    curve = (
        v**3 * knots[k]
        + (3 * u**3 - 6 * u**2 + 4) * knots[k + 1]
        + (3 * v**3 - 6 * v**2 + 4) * knots[k + 2]
        + u**3 * knots[k + 3]
    )
    return np.tanh(1.6 / 6 * curve)


@dataclass(frozen=True)
class IdleFrames:
    """What idling does in n frames. float32, on the host: a few numbers a frame."""

    angles: np.ndarray
    """(n, 3) degrees of pitch, yaw and roll to add."""
    shift: np.ndarray
    """(n, 3) to add."""
    blink: np.ndarray
    """(n,): 0 open to 1 shut."""
    gaze: np.ndarray
    """(n, 2): x and y as ``key_points.look`` counts."""


class IdleMotion:
    """Idle motion of one session: a pure function of seed and frame.

    Args:
        seed: the same seed moves the same way.
        liveliness: 0 is a still picture, 1 natural, 1.5 restless. Blinks are whole at any but 0.
        blinks_per_minute: 10 to 20 is natural.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self, seed: int = 0, liveliness: float = 1.0, blinks_per_minute: float = 15.0
    ) -> None:
        if not 0 <= liveliness <= 1.5:
            raise ValueError(f"liveliness must lie between 0 (still) and 1.5, not {liveliness}")
        if not 0 < blinks_per_minute <= 30:
            raise ValueError(f"blinks_per_minute must lie within 0 to 30, not {blinks_per_minute}")
        self._seed = seed
        self._liveliness = liveliness
        # Each stretch of this length has one blink in it; a tenth of them are double.
        self._blink_every_s = 60 * (1 + _DOUBLE_BLINKS) / blinks_per_minute
        self._first = 0  # frame of the first row of what was worked out last
        self._rows = np.empty((0, 9), np.float32)

    def frames(self, first: int, count: int) -> IdleFrames:
        """Motion of ``count`` frames, at least one, from frame ``first`` of the session on."""
        at = first - self._first
        if at < 0 or at + count > len(self._rows):
            # Ahead at once: a frame alone costs as much as a second.
            ahead = self._work_out(first, count + FPS)
            self._first, at = first, 0
            self._rows = np.concatenate(
                [ahead.angles, ahead.shift, ahead.blink[:, None], ahead.gaze], 1
            )
        rows = self._rows[at : at + count]
        return IdleFrames(rows[:, :3], rows[:, 3:6], rows[:, 6], rows[:, 7:])

    def _work_out(self, first: int, count: int) -> IdleFrames:
        t = (first + np.arange(count)) / FPS
        drift = np.zeros((count, 6))
        for channel, speeds in enumerate(_DRIFTS):
            for fast, (amplitude, scale_s) in enumerate(speeds):
                noise = smooth_noise(self._seed, 10 * channel + fast, t / scale_s)
                drift[:, channel] += amplitude * noise
        drift[:, 4] -= _BREATH * self._breath(t)
        drift *= self._liveliness
        blink = self._blink(t) if self._liveliness else np.zeros(count)
        gaze = self._liveliness * self._gaze(t)
        single = [a.astype(np.float32) for a in (drift[:, :3], drift[:, 3:], blink, gaze)]
        return IdleFrames(*single)

    def _blink(self, t: np.ndarray) -> np.ndarray:
        slot = np.floor(t / self._blink_every_s)
        shut = np.zeros(len(t))
        for k in (slot - 1, slot):
            onset = (k + 0.8 * hashed(self._seed, 101, k)) * self._blink_every_s
            double = hashed(self._seed, 102, k) < _DOUBLE_BLINKS
            opening_s = _OPEN_S[0] + hashed(self._seed, 103, k) * (_OPEN_S[1] - _OPEN_S[0])
            for start, there in ((onset, True), (onset + _DOUBLE_AFTER_S, double)):
                since = t - start
                closing = smoothstep(since / _SHUT_S)
                opening = smoothstep((since - _SHUT_S - _STAY_S) / opening_s)
                shut = np.maximum(shut, (closing - opening) * there)
        return shut

    def _gaze(self, t: np.ndarray) -> np.ndarray:
        slot = np.floor(t / _GLANCE_EVERY_S)
        onset = (slot + 0.7 * hashed(self._seed, 114, slot)) * _GLANCE_EVERY_S
        moved = smoothstep((t - onset) / _SACCADE_S)[:, None]
        before, after = self._glance(slot - 1), self._glance(slot)
        return before + moved * (after - before)

    def _glance(self, slot: np.ndarray) -> np.ndarray:
        """Where the eyes look in a stretch of time, (n, 2): mostly at the viewer."""
        place = np.stack([hashed(self._seed, stream, slot) for stream in (111, 112)], 1)
        aside = hashed(self._seed, 113, slot) > _AT_THE_VIEWER
        return (2 * place - 1) * np.where(aside[:, None], *np.array(_GLANCE)[:, None])

    def _breath(self, t: np.ndarray) -> np.ndarray:
        """0 breathed out to 1 in, 15 breaths a minute, in quicker than out."""
        phase = (t / _BREATH_S + 0.25 * smooth_noise(self._seed, 121, t / 6.0)) % 1.0
        return smoothstep(phase / 0.4) * (1 - smoothstep((phase - 0.4) / 0.6))
