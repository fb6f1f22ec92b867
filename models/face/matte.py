"""Person against background: a soft mask that follows the photo's edges."""

from __future__ import annotations

import functools
import threading

import cv2
import numpy as np

from models import assets
from models.face.network import Network

SIDE = 256
"""Side in pixels of the square the network sees."""
_WIDE = 12
"""Radius of the guided filter, pixels, from which it is worked out on half the size."""


class PersonMatting:
    """MediaPipe's selfie segmentation, refined on the photo itself. Thread-safe."""

    def __init__(self, threads: int = 1) -> None:
        """Load the network, fetching its file on first use (see ``models.assets``)."""
        (path,) = assets.ensure(assets.PERSON_MATTE)
        self._network = Network(path, threads)
        self._lock = threading.Lock()

    def __call__(self, rgb: np.ndarray, oval: np.ndarray) -> np.ndarray:
        """How much of each pixel is the person: float32 (height, width), 0 to 1.

        Args:
            rgb: uint8 (height, width, 3).
            oval: outline of the face in pixels, (points, 2). What is in it is person, and people
                who are not connected with it are background.
        """
        height, width = rgb.shape[:2]
        mask = self._look(rgb)
        # A second look at a square around the face settles most of what the first leaves open.
        side = min(height, width)
        corner = (oval.min(0) + oval.max(0) - side) / 2
        left, top = (round(x) for x in np.clip(corner, 0, (width - side, height - side)).tolist())
        near = (slice(top, top + side), slice(left, left + side))
        mask[near] += 0.5 * _taper(side) * (self._look(rgb[near]) - mask[near])
        mask = _one_person(np.clip((mask - 0.25) / 0.5, 0.0, 1.0), oval)
        # The network resolves 1/256 of the picture: let edges move by about three of its pixels.
        radius = max(2, round(3 * max(width, height) / SIDE))
        mask = guided_filter(rgb.astype(np.float32) / 255.0, mask, radius, 1e-4)
        # Steepen: the filter leaves a haze of a few per cent in flat regions.
        mask = np.clip((mask - 0.08) / 0.84, 0.0, 1.0)
        face = np.zeros((height, width), np.uint8)
        cv2.fillPoly(face, [np.round(oval).astype(np.int32)], 1)
        return np.maximum(mask, face).astype(np.float32)

    def _look(self, rgb: np.ndarray) -> np.ndarray:
        """The network's answer for a picture, at its size: float32 (height, width), 0 to 1."""
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        with self._lock:
            (answer,) = self._network((small.astype(np.float32) / 255.0)[None]).values()
        size = (rgb.shape[1], rgb.shape[0])
        return cv2.resize(answer[0, :, :, 0], size, interpolation=cv2.INTER_LINEAR)


@functools.cache
def default_matting() -> PersonMatting:
    """The one instance of this process."""
    return PersonMatting()


def _taper(side: int) -> np.ndarray:
    """1 inside a square, falling to 0 over the last eighth at its edges: float32 (side, side)."""
    edge = np.minimum(np.arange(side), np.arange(side)[::-1]) * (8.0 / side)
    edge = np.minimum(edge, 1.0).astype(np.float32)
    return edge[:, None] * edge[None]


def _one_person(mask: np.ndarray, oval: np.ndarray) -> np.ndarray:
    """Keep what is connected with the face, and close holes in it."""
    face = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(face, [np.round(oval).astype(np.int32)], 1)
    solid = ((mask > 0.5) | (face > 0)).astype(np.uint8)
    count, labels = cv2.connectedComponents(solid)
    inside = labels[face > 0]
    main = np.bincount(inside, minlength=count).argmax() if inside.size else 0
    own = (labels == main).astype(np.uint8)
    # Background that no edge of the picture reaches is a hole.
    padded = cv2.copyMakeBorder(1 - own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    padded[-1, 1:-1] = 0  # The lower edge is no way out: a body goes on below it.
    _, regions = cv2.connectedComponents(padded)
    outside = regions[0, 0]
    filled = (regions[1:-1, 1:-1] != outside) & (own == 0)
    near = cv2.dilate(own, np.ones((5, 5), np.uint8))
    return np.where(filled, 1.0, mask * near).astype(np.float32)


def guided_filter(guide: np.ndarray, mask: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Edge-preserving smoothing of ``mask`` along the edges of ``guide``.

    He, Sun and Tang, "Guided Image Filtering", 2013, with a colour guide (equations 19 to 21). Wide
    windows are worked out on half the picture's size, as in He and Sun, "Fast Guided Filter", 2015.

    Args:
        guide: float32 (height, width, 3), 0 to 1.
        mask: float32 (height, width).
        radius: of the square window, pixels.
        epsilon: variance of the guide below which a window counts as flat.

    Returns:
        float32 (height, width).
    """
    full = guide
    if radius >= _WIDE:
        half = (-(-guide.shape[1] // 2), -(-guide.shape[0] // 2))
        guide, mask = (cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (guide, mask))
        radius = round(radius / 2)

    def mean(image: np.ndarray) -> np.ndarray:
        size = (2 * radius + 1, 2 * radius + 1)
        return cv2.boxFilter(image, -1, size, borderType=cv2.BORDER_REFLECT)

    channels = cv2.split(guide)
    means = [mean(c) for c in channels]
    mean_mask = mean(mask)
    cross = [mean(c * mask) - m * mean_mask for c, m in zip(channels, means, strict=True)]
    var = {
        (i, j): mean(channels[i] * channels[j]) - means[i] * means[j] + (epsilon if i == j else 0.0)
        for i in range(3)
        for j in range(i, 3)
    }
    # Inverse of the symmetric 3 x 3 covariance by cofactors.
    c00 = var[1, 1] * var[2, 2] - var[1, 2] ** 2
    c01 = var[0, 2] * var[1, 2] - var[0, 1] * var[2, 2]
    c02 = var[0, 1] * var[1, 2] - var[0, 2] * var[1, 1]
    c11 = var[0, 0] * var[2, 2] - var[0, 2] ** 2
    c12 = var[0, 1] * var[0, 2] - var[0, 0] * var[1, 2]
    c22 = var[0, 0] * var[1, 1] - var[0, 1] ** 2
    det = var[0, 0] * c00 + var[0, 1] * c01 + var[0, 2] * c02
    a = [
        (c00 * cross[0] + c01 * cross[1] + c02 * cross[2]) / det,
        (c01 * cross[0] + c11 * cross[1] + c12 * cross[2]) / det,
        (c02 * cross[0] + c12 * cross[1] + c22 * cross[2]) / det,
    ]
    b = mean_mask - sum(x * m for x, m in zip(a, means, strict=True))

    def at_full_size(image: np.ndarray) -> np.ndarray:
        size = (full.shape[1], full.shape[0])
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)

    smooth = at_full_size(mean(b))
    for slope, channel in zip(a, cv2.split(full), strict=True):
        smooth += at_full_size(mean(slope)) * channel
    return smooth
