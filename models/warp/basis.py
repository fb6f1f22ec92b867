"""The fields a face's expression is a sum of, and how much of each a motion vector asks for."""

from __future__ import annotations

from enum import IntEnum

import torch

from models.warp.motion import INDEX


class Basis(IntEnum):
    """The fields a face's expression is a weighted sum of."""

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


def coefficients(motion: torch.Tensor) -> torch.Tensor:
    """Weights of the basis fields for motion vectors (n, channels): (n, len(Basis))."""

    def channel(name: str) -> torch.Tensor:
        return motion[:, INDEX[name]]

    tuck = channel("labiodental").clamp(0, 1)
    press = channel("closure").clamp(0, 1)
    jaw = channel("jaw").clamp(0, 1.2)
    aperture = channel("aperture").clamp(0, MAX_APERTURE)
    aperture = torch.lerp(aperture, torch.full_like(aperture, TUCK_APERTURE), tuck)
    aperture = aperture * (1 - press)
    width = channel("width").clamp(-1.2, 1.2)
    smile = channel("smile").clamp(-1, 1.2)
    brow = channel("brow").clamp(-1.2, 1.2)
    lift = channel("tongue").clamp(0, 1) * (TONGUE_TIP + TONGUE_SHARE * aperture + TONGUE_JAW * jaw)
    return torch.stack(
        [
            torch.ones_like(aperture),
            aperture,
            jaw,
            width.clamp(min=0),
            (-width).clamp(min=0),
            press,
            tuck * (1 - press),
            smile.clamp(min=0),
            (-smile).clamp(min=0),
            brow.clamp(min=0),
            (-brow).clamp(min=0),
            lift,
            aperture.square() / WIDE_APERTURE,
            aperture * (-width).clamp(0, 1),
        ],
        1,
    )
