"""Makes the lips open as far as asked, as seen from outside.

How wide a gap a face mesh sees depends on the lips' shape, on teeth and on beards. The identity
carries a table from the aperture asked to the one drawn; it is measured once on rendered pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from models.face import topology
from models.i420 import i420_to_rgb
from models.warp.basis import APERTURE_STEP, MAX_APERTURE
from models.warp.identity import WarpIdentity
from models.warp.motion import INDEX, rest
from models.warp.renderer import render_identity

ASKED = (0.0, 0.08, 0.16, 0.26, 0.38)
"""Apertures that are rendered and measured."""
LIMITS = (0.75, 1.3)
"""How far the drawn aperture may depart from the asked one, as factors: a mesh can be wrong too."""


def calibrate(
    identity: WarpIdentity, landmarks_of: Callable[[np.ndarray], np.ndarray | None]
) -> WarpIdentity:
    """The identity with its aperture table set.

    Args:
        identity: freshly built.
        landmarks_of: face mesh (478, 3) of a picture (uint8 RGB (height, width, 3)), or None.
    """
    seen = []
    for aperture in ASKED:
        motion = rest()
        motion[INDEX["aperture"]] = aperture
        motion[INDEX["jaw"]] = min(1.0, 2.7 * aperture)
        (picture,) = render_identity(identity, motion[None]).cpu().numpy()
        landmarks = landmarks_of(i420_to_rgb(picture))
        if landmarks is None:
            return identity
        seen.append(measure_aperture(landmarks))
    table = aperture_table(np.array(ASKED), np.array(seen))
    return replace(identity, apertures=torch.from_numpy(table).to(identity.device, torch.float32))


def measure_aperture(landmarks: np.ndarray) -> float:
    """Gap of the inner lips over the distance of the pupils, both in the picture's plane."""
    points = landmarks[:, :2].astype(np.float64)
    right = points[list(topology.RIGHT_EYE_CORNERS)].mean(0)
    left = points[list(topology.LEFT_EYE_CORNERS)].mean(0)
    lips = points[topology.LIP_UPPER_INNER_MIDDLE] - points[topology.LIP_LOWER_INNER_MIDDLE]
    return float(np.hypot(*lips) / np.hypot(*(left - right)))


def aperture_table(drawn: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Aperture to draw for 0, APERTURE_STEP, ... up to MAX_APERTURE asked: float64.

    Args:
        drawn: apertures drawn, ascending from 0.
        seen: what was measured of each.
    """
    # A mesh sees a small gap between closed lips; that is not taken for an opening.
    ghost = seen[0] * np.clip(1 - drawn / 0.2, 0, 1)
    rising = np.maximum.accumulate(seen - ghost) + 1e-4 * np.arange(len(seen))
    asked = np.arange(0.0, MAX_APERTURE + APERTURE_STEP / 2, APERTURE_STEP)
    slope = (drawn[-1] - drawn[-2]) / max(rising[-1] - rising[-2], 1e-3)
    inside = np.interp(asked, rising, drawn)
    beyond = drawn[-1] + np.clip(slope, *LIMITS) * (asked - rising[-1])
    table = np.where(asked > rising[-1], beyond, inside)
    return np.clip(table, LIMITS[0] * asked, np.minimum(LIMITS[1] * asked, MAX_APERTURE * 1.1))
