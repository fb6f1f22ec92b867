"""From landmarks to the upright squares that the networks look at.

A square is found in the face's own axes: the vertical one points from the eyes to the mouth. Stage
A is what the landmark refinement saw in the released pipeline, stage B is what is rendered and
pasted back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Framing:
    """How a square lies around the landmarks."""

    side: int
    """Pixels of the crop."""
    scale: float
    """The square over the landmarks' box."""
    rise: float
    """Shift along the face's vertical axis, over the square's side; negative is up."""


STAGE_A = Framing(224, 1.5, -0.1)
STAGE_B = Framing(512, 2.3, -0.125)
NETWORK_SIDE = 256
"""Pixels of the picture that appearance and motion are extracted from."""

# Of each landmark layout: points of both eyes, and two points of the lips.
_LAYOUTS: dict[int, tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int]]] = {
    203: (((0, 6, 12, 18), (24, 30, 36, 42)), (48, 66)),
    106: (((33, 35, 40, 39), (87, 89, 94, 93)), (52, 61)),
}


@dataclass(frozen=True)
class Crop:
    """A square in a picture."""

    side: int
    """Pixels of the crop."""
    to_crop: np.ndarray
    """From picture to crop, float32 (3, 3)."""
    to_picture: np.ndarray
    """From crop to picture, float32 (3, 3)."""

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The square's pixels, black outside the picture: (side, side, 3), dtype as ``picture``."""
        return cv2.warpAffine(
            picture, self.to_crop[:2], (self.side, self.side), flags=cv2.INTER_LINEAR
        )


def eyes_and_mouth(points: np.ndarray) -> np.ndarray:
    """Middle of the eyes and of the mouth: float32 (2, 2), rows eyes and mouth.

    Args:
        points: landmarks in pixels, (203, 2) or (106, 2).

    Raises:
        ValueError: another number of landmarks.
    """
    if len(points) not in _LAYOUTS:
        raise ValueError(f"landmarks come as 203 or 106 points, not {len(points)}")
    eyes, lips = _LAYOUTS[len(points)]
    middle = np.stack([points[list(eye)].mean(0) for eye in eyes]).mean(0)
    return np.stack([middle, points[list(lips)].mean(0)])


def crop_square(points: np.ndarray, framing: Framing, axis: np.ndarray | None = None) -> Crop:
    """The square around landmarks.

    Args:
        points: landmarks in pixels, float32 (n, 2): those that the square must hold.
        framing: how tightly.
        axis: middle of the eyes and of the mouth, (2, 2); default: from 203 or 106 ``points``.

    Raises:
        ValueError: neither ``axis`` nor a known number of landmarks.
    """
    points = np.asarray(points, np.float32)
    eyes, mouth = eyes_and_mouth(points) if axis is None else np.asarray(axis, np.float32)
    down = mouth - eyes
    length = np.linalg.norm(down)
    down = np.array([0, 1], np.float32) if length <= 1e-3 else down / length
    right = np.array([down[1], -down[0]], np.float32)
    angle = math.acos(right[0])
    if right[1] < 0:
        angle = -angle

    # The order of operations below is that of the reference, to the last bit of float32.
    origin = points.mean(0)
    placed = np.stack([_along(points - origin, way) for way in (right, down)], 1)
    low, high = placed.min(0), placed.max(0)
    side = max(high - low) * np.float32(framing.scale)
    middle = (low + high) / 2
    centre = origin + middle[0] * right + middle[1] * down
    centre = centre + down * (np.float32(framing.rise) * side)

    zoom, cos, sin = framing.side / side, math.cos(angle), math.sin(angle)
    half = framing.side / 2
    x, y = centre
    to_crop = np.array(
        [
            [zoom * cos, zoom * sin, half - zoom * (cos * x + sin * y)],
            [-zoom * sin, zoom * cos, half - zoom * (-sin * x + cos * y)],
            [0, 0, 1],
        ],
        np.float32,
    )
    return Crop(framing.side, to_crop, np.linalg.inv(to_crop))


def _along(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Points on an axis, float32 (n,), rounded as fused multiply-adds round: a matrix product's
    last bit would depend on the machine."""
    x = points[:, 0] * axis[0]
    y = points[:, 1].astype(np.float64) * np.float64(axis[1])
    return (x.astype(np.float64) + y).astype(np.float32)


def network_picture(crop: np.ndarray, side: int = NETWORK_SIDE) -> np.ndarray:
    """A crop as appearance and motion extractor take it: float32 (1, 3, side, side), 0 to 1.

    Args:
        crop: uint8 (512, 512, 3), RGB.
        side: 256 for the released networks.
    """
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray((small.astype(np.float32) / 255).transpose(2, 0, 1)[None])
