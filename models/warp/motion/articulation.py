"""From what is heard to what lips and jaw do in one frame: quick lips on a jaw that has mass."""

from __future__ import annotations

import numpy as np

from models.warp.motion.motion_vector import INDEX, rest
from models.warp.speech.rows import COLUMN

_WIDEST = 0.45
"""No lip gap is wider, over the distance of the pupils."""

# A network trained on squared error is timid: it says less than it means. These stretch its words
# back: (what it says when the lips rest, factor).
_APERTURE_STRETCH = (0.16, 1.45)
_JAW_STRETCH = (0.10, 1.3)
_WIDTH_STRETCH = (0.0, 1.7)
_FIRES = (0.35, 0.60)
"""Probability at which a closure begins to show, and from which on it is complete."""
_HOLDS = 0.30
"""Lips once pressed together stay so down to this probability."""
_TONGUE_SHOWS = (0.30, 0.90)

BEFORE = 3
"""Rows before a frame's own two that its mouth depends on."""
_JAW_WEIGHTS = np.array([1, 1, 2, 2, 1, 1], np.float32) / 8
"""Of the rows around a frame's instant, 120 ms: the jaw passes over what is shorter. As they lie
evenly before and after, it sets off early instead of arriving late."""
_SETS_OFF = 0.10
"""The most the lips part in a frame where it is known what comes, over the pupils' distance: 0.16
m/s. What would be faster sets off earlier, by up to three frames."""
_FASTEST = 0.15
"""The most they part in any frame: 0.24 m/s, from a burst or where nothing was heard ahead.
Shutting is faster: lips meet before the jaw has arrived."""
_JAW_FASTEST = 0.22
"""The most the jaw moves in a frame, either way."""


def _ramp(x: float, limits: tuple[float, float]) -> float:
    return float(np.clip((x - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0))


def mouth(
    rows: np.ndarray, aperture_gain: float, part: float, before: np.ndarray | None = None
) -> np.ndarray:
    """Motion of the mouth in one frame.

    Args:
        rows: float32, (6 or more, len(ROW)): ``BEFORE`` rows from before the frame, its own two,
            and those ahead as far as heard. The frame's instant lies between the third and the
            fourth.
        aperture_gain: lip gap of aperture 1 over the distance of the pupils.
        part: how far the mouth takes part, 0 (lips rest) to 1. Lips may press together at 0, too:
            the first "p" after a silence must not wait.
        before: motion of the mouth in the frame before.

    Returns:
        float32, (len(CHANNELS),), zero but for the mouth. Shapes are averaged over the frame;
        a closure, often shorter than a frame, shows if it falls anywhere into it.
    """
    now = rows[BEFORE - 1 : BEFORE + 1]
    mean, most = now.mean(axis=0), now.max(axis=0)
    closure = _ramp(most[COLUMN["closure"]], _FIRES)
    if before is not None and before[INDEX["closure"]] > 0.99:
        closure = 1.0 if most[COLUMN["closure"]] > _HOLDS else closure
    labiodental = _ramp(most[COLUMN["labiodental"]], _FIRES) * (1.0 - closure)
    motion = rest()
    gap = part * _opening(rows, aperture_gain)
    motion[INDEX["aperture"]] = gap * (1.0 - closure) * (1.0 - 0.6 * labiodental)
    low, factor = _WIDTH_STRETCH
    motion[INDEX["width"]] = part * np.clip((mean[COLUMN["width"]] - low) * factor, -1.0, 1.0)
    around = rows[: len(_JAW_WEIGHTS), COLUMN["jaw"]]
    weights = _JAW_WEIGHTS[: len(around)]
    low, factor = _JAW_STRETCH
    jaw = (float(weights @ around) / float(weights.sum()) - low) * factor
    motion[INDEX["jaw"]] = part * np.clip(jaw, 0.0, 1.0)
    motion[INDEX["tongue"]] = part * _ramp(most[COLUMN["tongue"]], _TONGUE_SHOWS)
    motion[INDEX["labiodental"]] = part * labiodental
    motion[INDEX["closure"]] = closure
    return motion


def _opening(rows: np.ndarray, gain: float) -> float:
    """The gap of the lips but for closures: what is said now, or the way to what comes."""
    said = rows[BEFORE - 1 :, COLUMN["aperture"]]
    frames = said[: len(said) // 2 * 2].reshape(-1, 2).mean(axis=1)
    low, factor = _APERTURE_STRETCH
    gaps = np.minimum(_WIDEST, gain * np.clip((frames - low) * factor, 0.0, 1.1))
    return float((gaps - _SETS_OFF * np.arange(len(gaps))).max())


def limited(motion: np.ndarray, before: np.ndarray) -> np.ndarray:
    """``motion`` where lips and jaw move no faster than they can from ``before``."""
    motion = motion.copy()
    lips, jaw = INDEX["aperture"], INDEX["jaw"]
    motion[lips] = min(motion[lips], before[lips] + _FASTEST)
    motion[jaw] = np.clip(motion[jaw], before[jaw] - _JAW_FASTEST, before[jaw] + _JAW_FASTEST)
    return motion
