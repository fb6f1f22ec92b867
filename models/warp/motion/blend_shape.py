"""The blend shapes an expression is a sum of, and the weight of each for a motion vector."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from models.warp.motion.motion_vector import INDEX


class BlendShape(IntEnum):
    """The displacement fields an expression is a weighted sum of."""

    CLOSE = 0
    """Brings parted lips of the photo together; always 1."""
    OPEN = 1
    """Opens the lips; the coefficient is the gap in units."""
    JAW = 2
    SPREAD = 3
    ROUND = 4
    PRESS = 5
    TUCK = 6
    """The lower lip rolls in under the upper teeth."""
    SMILE = 7
    FROWN = 8
    BROW_UP = 9
    BROW_DOWN = 10
    TONGUE = 11
    """Lifts the tongue, and nothing else."""
    WIDE = 12
    """What a wide opening has beyond OPEN's shape: round corners, thinner lips. The coefficient
    grows with the square of the gap and equals it at WIDE_APERTURE."""
    ROUND_OPEN = 13
    """What an opening has beyond OPEN's shape when the lips are rounded; the gap times ROUND."""


MAX_APERTURE = 0.5
WIDE_APERTURE = 0.36
TUCK_APERTURE = 0.042
"""Gap that stays between the lips while the lower one touches the teeth."""
CHIN_SHARE = 0.36
"""How far the chin follows an opening of 1 by itself."""
JAW_DROP = 0.17
"""How far the jaw channel lowers the chin, in units."""
TEETH_SHARE, TEETH_JAW = 0.57, 0.05
"""How far the lower teeth follow an opening of 1, and the jaw channel."""
TONGUE_SHARE, TONGUE_JAW = 0.34, 0.03
TONGUE_TIP = 0.05
"""How much higher than in a closed mouth a raised tongue goes, in units: what shows then between
the teeth is its tip."""


def coefficients(motion: np.ndarray) -> np.ndarray:
    """Weights of the blend shapes for a motion vector (channels,): float32 (len(BlendShape),)."""

    def channel(name: str, low: float, high: float) -> float:
        return min(max(float(motion[INDEX[name]]), low), high)

    tuck = channel("labiodental", 0.0, 1.0)
    press = channel("closure", 0.0, 1.0)
    jaw = channel("jaw", 0.0, 1.2)
    aperture = channel("aperture", 0.0, MAX_APERTURE)
    aperture = (aperture + (TUCK_APERTURE - aperture) * tuck) * (1 - press)
    width = channel("width", -1.2, 1.2)
    smile = channel("smile", -1.0, 1.2)
    brow = channel("brow", -1.2, 1.2)
    out = np.zeros(len(BlendShape), np.float32)
    out[BlendShape.CLOSE] = 1.0
    out[BlendShape.OPEN] = aperture
    out[BlendShape.JAW] = jaw
    out[BlendShape.SPREAD] = max(width, 0.0)
    out[BlendShape.ROUND] = max(-width, 0.0)
    out[BlendShape.PRESS] = press
    out[BlendShape.TUCK] = tuck * (1 - press)
    out[BlendShape.SMILE] = max(smile, 0.0)
    out[BlendShape.FROWN] = max(-smile, 0.0)
    out[BlendShape.BROW_UP] = max(brow, 0.0)
    out[BlendShape.BROW_DOWN] = max(-brow, 0.0)
    lift = TONGUE_TIP + TONGUE_SHARE * aperture + TONGUE_JAW * jaw
    out[BlendShape.TONGUE] = channel("tongue", 0.0, 1.0) * lift
    out[BlendShape.WIDE] = aperture**2 / WIDE_APERTURE
    out[BlendShape.ROUND_OPEN] = aperture * min(max(-width, 0.0), 1.0)
    return out
