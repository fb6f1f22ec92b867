"""From phone timings to what the network learns to say: rows of motion with co-articulation."""

from __future__ import annotations

import numpy as np

from models.warp.speech.rows import COLUMN, OUTPUTS
from speech_to_motion.phones import CLASSES, INDEX, SHAPES

BEFORE_S, AFTER_S = 0.045, 0.040
"""Decay of a phone's influence before its core (anticipation) and after it (carry-over)."""
_CORE = 0.4  # a phone insists on its shape in this central part of its time
_SILENCE_LATE_S, _SILENCE_EARLY_S, _SILENCE_FULL_S = 0.120, 0.060, 0.150
_RAMP_S, _RELEASE_S = 0.040, 0.020
_LABIODENTAL_APERTURE = SHAPES["f v"].aperture
_TONGUE = {"l": 1.0, "th": 1.0, "t d n": 0.8}

_TABLE = np.array([(s.aperture, s.width, s.jaw, s.dominance) for s in SHAPES.values()])


def _influence(
    times: np.ndarray, classes: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """How strongly each phone shapes the lips at each time, (times, phones).

    One in the phone's core, decaying exponentially on both sides (after Cohen and Massaro, 1993),
    times the phone's dominance. A silence begins late and ends early, as the mouth does not know
    of it at once and opens before the next word.
    """
    length = ends - starts
    from_, to = starts + (0.5 - _CORE / 2) * length, ends - (0.5 - _CORE / 2) * length
    silent = classes == INDEX["silence"]
    late, early = starts + _SILENCE_LATE_S, ends - _SILENCE_EARLY_S
    middle = np.where(late > early, (late + early) / 2, 0.0)
    from_ = np.where(silent, np.where(late > early, middle, late), from_)
    to = np.where(silent, np.where(late > early, middle, early), to)
    weight = _TABLE[classes, 3] * np.where(silent, np.minimum(1.0, length / _SILENCE_FULL_S), 1.0)
    before = np.maximum(0.0, from_ - times[:, None]) / BEFORE_S
    after = np.maximum(0.0, times[:, None] - to) / AFTER_S
    return weight * np.exp(-np.minimum(before + after, 60.0))


def _trapezoid(times: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """1 from each start to shortly before each end, with ramps of 40 ms; 0 elsewhere."""
    if len(starts) == 0:
        return np.zeros(len(times))
    rise = (times[:, None] - (starts - _RAMP_S)) / _RAMP_S
    fall = (ends + _RELEASE_S - times[:, None]) / _RAMP_S
    return np.clip(np.minimum(rise, fall), 0.0, 1.0).max(axis=1)


def targets(classes: np.ndarray, ends: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Target rows for phones that follow each other from time 0.

    Args:
        classes: int, (phones,), phone class of each.
        ends: float, (phones,), end of each in seconds.
        rows: how many rows of 20 ms.

    Returns:
        motion float32 (rows, len(OUTPUTS)), phone class int64 (rows,).
    """
    starts = np.concatenate([[0.0], ends[:-1]])
    times = np.arange(rows) * 0.02 + 0.01
    current = np.minimum(np.searchsorted(ends, times, side="right"), len(classes) - 1)
    phone = classes[current]

    motion = np.zeros((rows, len(OUTPUTS)))
    for first in range(0, rows, 500):
        part = times[first : first + 500]
        near = (ends > part[0] - 0.7) & (starts < part[-1] + 0.7)
        force = _influence(part, classes[near], starts[near], ends[near])
        shape = force @ _TABLE[classes[near], :3] / np.maximum(force.sum(1, keepdims=True), 1e-9)
        motion[first : first + 500, [COLUMN["aperture"], COLUMN["width"], COLUMN["jaw"]]] = shape

    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)  # Gaussian, sigma 20 ms
    kernel /= kernel.sum()
    padded = np.pad(motion, ((3, 3), (0, 0)), mode="edge")
    motion = sum(k * padded[i : i + rows] for i, k in enumerate(kernel))

    def when(*names: str) -> np.ndarray:
        chosen = np.isin(classes, [INDEX[name] for name in names])
        return np.concatenate(
            [
                _trapezoid(times[i : i + 500], starts[chosen & near], ends[chosen & near])
                for i in range(0, rows, 500)
                for near in [(ends > times[i] - 0.1) & (starts < times[i] + 10.1)]
            ]
        )

    closure = when("p b m", "bilabial fricative")
    labiodental = when("f v")
    aperture = motion[:, COLUMN["aperture"]]
    aperture = np.minimum(aperture, 1.0 - labiodental * (1.0 - _LABIODENTAL_APERTURE))
    motion[:, COLUMN["aperture"]] = aperture * (1.0 - closure)
    motion[:, COLUMN["closure"]] = closure
    motion[:, COLUMN["labiodental"]] = labiodental
    motion[:, COLUMN["tongue"]] = np.max([v * when(k) for k, v in _TONGUE.items()], axis=0)
    motion[:, COLUMN["speech"]] = phone != INDEX["silence"]
    return motion.astype(np.float32), phone.astype(np.int64)


assert len(CLASSES) == 29
