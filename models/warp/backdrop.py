"""The person cut from the background: a soft layer that moves, and what shows behind it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.blur import wide_blur
from models.warp.anatomy import smoothstep

FRINGE = 0.20
"""How far outside its matte, in units, things may belong to the person: loose hair and shadows."""
CORE = 0.03
"""How far outside the matte everything does, in units: mattes are not precise."""
DIFFERENT = (4.0, 14.0)
"""Difference, of 255, from what the background goes on as: none of the person, and all of it."""
UNSEEN = 6.0
"""Difference, of 255, between the picture and its layers at rest that nobody sees."""
LEVEL = 2
"""How many times closer, to the mirror, what lies beside a place is than what lies above it."""
GROWN = 0.03
"""How much of its surroundings, in units, moves with what differs."""
STEADY = 0.03
"""Smoothing of the mirror that continues the background behind the person, in units."""
SOFT = 0.07
"""Structure finer than this, in units, is mirrored only as far as it is faint: as grain."""
GRAIN = 10.0
"""The most that mirrored grain differs from its surroundings, of 255."""
NEAR = 0.05
"""How far out, in units, the mirror takes colours from: lines along the outline do not repeat."""
BEHIND = (0.4, 0.8)
"""How far behind the person, in units, the mirror image begins and has ended to fade."""


@dataclass(frozen=True)
class Layers:
    """A picture taken apart."""

    alpha: np.ndarray
    """Opacity of the moving layer, the picture itself: float32 (height, width), 0 to 1."""
    plate: np.ndarray
    """What shows behind it: float32 (height, width, 3). The lower ``alpha``, the closer to the
    picture, so that at rest layer and plate blend to it."""


def split(rgb: np.ndarray, matte: np.ndarray, unit: float) -> Layers:
    """The person, and the background without them.

    Around the person only what differs from the background further out moves with them: hair does,
    a wall does not.

    Args:
        rgb: float32 (height, width, 3).
        matte: float32 (height, width), 0 to 1.
        unit: distance of the pupils in pixels.
    """
    outside = (matte < 0.5).astype(np.uint8)
    away = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5) / unit
    known = away > FRINGE
    if known.mean() < 0.01:
        return Layers(np.ones_like(matte), rgb.copy())
    behind = fill(*_mirrored(rgb, known, unit))
    differs = smoothstep(*DIFFERENT, np.abs(rgb - behind).max(2))
    # Grown, lest the ramp of the opacity cuts through what differs: it would leave a ghost behind.
    radius = max(1, round(GROWN * unit))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    differs = cv2.dilate(cv2.blur(differs, (radius, radius)), disc)
    loose = differs * smoothstep(FRINGE, 0.5 * FRINGE, away)
    alpha = np.maximum(smoothstep(2 * CORE, CORE, away), loose).astype(np.float32)
    alpha = wide_blur(alpha, GROWN * unit)
    # So that at rest, where the layer covers alpha, no pixel differs by more than UNSEEN.
    most = (UNSEEN * alpha / np.maximum(1.0 - alpha, 1e-3))[..., None]
    return Layers(alpha, rgb + np.clip(behind - rgb, -most, most))


def _mirrored(rgb: np.ndarray, known: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """What is known, and mirrored at its edge into what is not; and how far to trust it, 0 to 1.

    Float32 (height, width, 3) and (height, width).
    """
    # Of backgrounds, horizons and furniture run level: the mirror looks sideways rather than up.
    narrow = known[:, ::LEVEL]
    _, labels = cv2.distanceTransformWithLabels(
        (~narrow).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    edge = np.zeros((labels.max() + 1, 2), np.float32)
    rows, columns = np.nonzero(narrow)
    edge[labels[narrow]] = np.stack([LEVEL * columns, rows], -1)
    nearest = cv2.resize(edge[labels], known.shape[::-1], interpolation=cv2.INTER_NEAREST)
    here = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in known.shape[::-1])), -1)
    # The nearest pixel of the edge jumps: a little smoothing keeps the image whole.
    to_edge = np.where(known[..., None], 0.0, nearest - here)
    to_edge = wide_blur(to_edge.astype(np.float32), STEADY * unit)
    depth = np.hypot(to_edge[..., 0], to_edge[..., 1]) / unit
    # Mirrored lines kink, which is seen, where mirrored colours and grain are not.
    soft = wide_blur(fill(rgb, known.astype(np.float32)), SOFT * unit)

    def look_up(image: np.ndarray, beyond: np.ndarray | float) -> np.ndarray:
        at = here + to_edge * np.asarray(1.0 + beyond, np.float32)[..., None]
        return cv2.remap(
            image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    found = look_up(known.astype(np.float32), 1.0)
    far = np.maximum(depth / NEAR, 1e-3)
    mirrored = look_up(soft, (1.0 - np.exp(-far)) / far)
    mirrored += look_up(np.clip(rgb - soft, -GRAIN, GRAIN), 1.0)
    trust = np.where(found > 0.9, 1.0 - smoothstep(*BEHIND, depth), 0.0)
    return (
        np.where(known[..., None], rgb, mirrored),
        np.where(known, 1.0, trust).astype(np.float32),
    )


def fill(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill where ``weight`` is 0 from ever coarser averages of what is known.

    ``values`` is float32 (height, width, 3), ``weight`` float32 (height, width). The scheme of
    Gortler et al., "The Lumigraph", 1996, section 4.
    """
    colours, weights = [values * weight[..., None]], [weight]
    while min(weights[-1].shape) > 4:
        colours.append(cv2.pyrDown(colours[-1]))
        weights.append(cv2.pyrDown(weights[-1]))
    result = colours[-1] / np.maximum(weights[-1], 1e-4)[..., None]
    for colour, known in zip(colours[-2::-1], weights[-2::-1], strict=True):
        size = (known.shape[1], known.shape[0])
        coarse = cv2.resize(cv2.pyrUp(result), size, interpolation=cv2.INTER_LINEAR)
        here = colour / np.maximum(known, 1e-4)[..., None]
        trust = np.clip(known * 1.5, 0.0, 1.0)[..., None]
        result = here * trust + coarse * (1 - trust)
    return result
