"""The jaw sliding over the neck, and the soft shades of folds that a moving face throws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from models.face import topology
from models.warp.anatomy import FaceFrame, smoothstep
from models.warp.basis import CHIN_SHARE, JAW_DROP, WIDE_APERTURE, Basis

OVER_NECK = (0.03, 0.12)
"""How far outside the mesh's outline, in units, what moves with the jaw begins and has ended to
give way to the neck: a mesh runs a little inside the visible edge of the chin."""
CONTACT = 0.36
"""How much darker the neck gets right under a jaw that is wide open."""
CONTACT_REACH = 0.13
"""How far down that shade reaches, units."""
FOLD = 0.10
"""How much darker the fold between nose and mouth gets in a full smile."""
_FOLDS = ((129, 203, 206, 216, 212), (358, 423, 426, 436, 432))
"""Points along the nasolabial folds, from the wings of the nose to beside the mouth."""

SHEETS = 3
"""Fields of :func:`jaw_sheet`."""


def jaw_sheet(landmarks: np.ndarray, frame: FaceFrame, at: np.ndarray) -> np.ndarray:
    """What the renderer has to know about places of the photo: float32 (SHEETS, m).

    Share that moves with the jaw (1) rather than with the neck (0); where a lowered jaw throws its
    shade; and the relief of the nasolabial folds, > 0 dark and < 0 light.

    Args:
        landmarks: (478, 3), pixels.
        frame: of the face.
        at: frame positions, (m, 2).
    """
    points = frame.to_frame(landmarks)
    outside = _outside_jaw(points, at)
    on_jaw = 1 - smoothstep(*OVER_NECK, outside)
    across = (at[:, 0] - points[topology.CHIN, 0]) / 0.55
    contact = np.exp(-np.maximum(outside - OVER_NECK[0], 0.0) / CONTACT_REACH)
    contact = contact * np.exp(-(across**2)) * smoothstep(0.0, OVER_NECK[1], outside)
    return np.stack([on_jaw, contact, _folds(points, at)]).astype(np.float32)


def inside_jaw(landmarks: np.ndarray, frame: FaceFrame, at: np.ndarray) -> np.ndarray:
    """1 well inside the jaw's outline, 0 at it: float32 (m,)."""
    outside = _outside_jaw(frame.to_frame(landmarks), at)
    return smoothstep(0.02, 0.10, -outside).astype(np.float32)


def shades(
    expression: torch.Tensor, on_jaw: torch.Tensor, contact: torch.Tensor, fold: torch.Tensor
) -> torch.Tensor:
    """How much light is left: (n, 1, rows, columns), about 1.

    Args:
        expression: weights of the basis, (n, len(Basis)).
        on_jaw, contact, fold: of :func:`jaw_sheet`, sampled, (n, 1, rows, columns).
    """
    drop = JAW_DROP * expression[:, Basis.JAW] + CHIN_SHARE * expression[:, Basis.OPEN]
    drop = (drop / (JAW_DROP + CHIN_SHARE * WIDE_APERTURE)).clamp(0, 1.2)
    folded = expression[:, Basis.SMILE] + 0.5 * expression[:, Basis.SPREAD]
    folded = (folded + expression[:, Basis.OPEN] / WIDE_APERTURE * 0.45).clamp(0, 1.2)
    under = (1 - on_jaw) * contact * (CONTACT * drop)[:, None, None, None]
    return 1 - under - fold * (FOLD * folded)[:, None, None, None]


def _outside_jaw(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance outside the line of the jaw, in units; negative inside the face and above it."""
    line = points[list(topology.JAW_LINE)]
    distance = _distance(line, at)
    order = np.argsort(line[:, 0])
    inside = at[:, 1] < np.interp(
        at[:, 0], line[order, 0], line[order, 1], left=-np.inf, right=-np.inf
    )
    # Beside the ears nothing slides over a neck.
    beside = smoothstep(-0.1, 0.25, at[:, 1])
    return np.where(inside, -distance, distance * beside)


def _folds(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Relief of both folds: a dark furrow, and the cheek's bulge in the light beside it."""
    relief = np.zeros(len(at))
    for row in _FOLDS:
        line = points[list(row)]
        away = _distance(line, at)
        # The cheek lies on the side away from the mouth.
        x = np.interp(at[:, 1], line[:, 1], line[:, 0])
        beyond = (np.abs(at[:, 0]) > np.abs(x)).astype(float)
        furrow = np.exp(-((away / 0.06) ** 2))
        bulge = 0.4 * beyond * np.exp(-(((away - 0.15) / 0.08) ** 2))
        ends = smoothstep(line[0, 1] - 0.05, line[0, 1] + 0.15, at[:, 1])
        ends = ends * (1 - smoothstep(line[-1, 1] - 0.15, line[-1, 1] + 0.10, at[:, 1]))
        relief += ends * (furrow - bulge)
    return relief


def _distance(line: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance of points (m, 2) from a line of corners (k, 2): (m,)."""
    nearest = np.full(len(at), np.inf)
    for start, end in pairwise(line):
        along = end - start
        share = np.clip((at - start) @ along / (along @ along), 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(*(at - start - share[:, None] * along).T))
    return nearest
