"""How far the eyes are open and where they look, measured on a face mesh with irises.

Both are conditions of the motion model. The mesh is MediaPipe's of 478 points.
"""

from __future__ import annotations

import numpy as np

# Points of the mesh; first the eye on the picture's left, which is the person's right.
_CORNERS = ((33, 133), (263, 362))
"""Outer and inner corner."""
_LIDS = (((145, 159), (144, 160), (153, 158)), ((374, 386), (373, 387), (380, 385)))
"""Pairs of points above each other."""
_IRIS = (468, 473)
_TINY = 1e-8


def openness(mesh: np.ndarray) -> np.ndarray:
    """Opening of both eyes over their width, three lid distances added: (n, 2).

    Args:
        mesh: (n, 478, 3), normalised; depth in the unit of the width.
    """
    opened = []
    for (outer, inner), lids in zip(_CORNERS, _LIDS, strict=True):
        gap = sum(np.linalg.norm(mesh[:, low] - mesh[:, high], axis=1) for low, high in lids)
        opened.append(gap / (np.linalg.norm(mesh[:, outer] - mesh[:, inner], axis=1) + _TINY))
    return np.stack(opened, 1)


def gaze(mesh: np.ndarray) -> np.ndarray:
    """Where the irises are in the eyes: (n, 6), x of both eyes, then y, then z.

    Direction from the middle of the eye to the iris less that from the inner to the outer corner,
    times the distance of the iris from the middle.

    Args:
        mesh: (n, 478, 3), normalised.
    """
    looks = []
    for (outer, inner), iris in zip(_CORNERS, _IRIS, strict=True):
        away = mesh[:, iris] - (mesh[:, outer] + mesh[:, inner]) / 2
        across = mesh[:, outer] - mesh[:, inner]
        far = np.linalg.norm(away, axis=1, keepdims=True)
        width = np.linalg.norm(across, axis=1, keepdims=True)
        looks.append((away / (far + _TINY) - across / (width + _TINY)) * far)
    return np.stack(looks, 2).reshape(len(mesh), 6)
