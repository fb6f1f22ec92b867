"""What the warp engine's actor hands to its renderer for one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.warp.identity import WarpIdentity


@dataclass(frozen=True)
class WarpPose:
    """One frame of one session: whose face, and its motion vector (float32, (channels,))."""

    identity: WarpIdentity
    motion: np.ndarray
