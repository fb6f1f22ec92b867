"""How far lips stand apart, as a face mesh sees it."""

from __future__ import annotations

import numpy as np

from models.face import topology


def measure_aperture(landmarks: np.ndarray) -> float:
    """Gap of the inner lips over the distance of the pupils, both in the picture's plane."""
    points = landmarks[:, :2].astype(np.float64)
    right = points[list(topology.RIGHT_EYE_CORNERS)].mean(0)
    left = points[list(topology.LEFT_EYE_CORNERS)].mean(0)
    lips = points[topology.LIP_UPPER_INNER_MIDDLE] - points[topology.LIP_LOWER_INNER_MIDDLE]
    return float(np.hypot(*lips) / np.hypot(*(left - right)))
