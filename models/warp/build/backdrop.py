"""The person cut from the background: a soft layer that moves, and what shows behind it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.blur import wide_blur
from models.warp.build.anatomy import smoothstep

FRINGE = 0.20
"""How far outside its matte, in units, things may belong to the person: loose hair and shadows."""
BUSY, BUSY_AROUND = (8.0, 24.0), 0.35
"""Standard deviation of the background's light, of 255, from which it is no longer a plain wall,
and from which it is nothing like one; and over which distance, in units."""
BUSY_FRINGE = 0.4
"""How much of ``FRINGE`` is left there."""
FOREIGN, FOREIGN_LEAST = (1.5, 2.3), 6.0
"""Distance from the background's mean colour, in standard deviations of it and as much as this in
steps of 255, from which a colour is hardly, and from which it is not of the background."""
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
    # A wall goes on as it is further out, furniture does not: there only what is of no colour of
    # the background around counts as the person's.
    busy, foreign = _surroundings(rgb, known, unit)
    reach = FRINGE * (1 - (1 - BUSY_FRINGE) * busy)
    known |= (away > reach) & (foreign < 0.5)
    behind = fill(*_mirrored(rgb, known, unit))
    differs = smoothstep(*DIFFERENT, _largest(cv2.absdiff(rgb, behind)))
    # Grown, lest the ramp of the opacity cuts through what differs: it would leave a ghost behind.
    radius = max(1, round(GROWN * unit))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    differs = cv2.dilate(cv2.blur(differs, (radius, radius)), disc)
    loose = np.maximum(
        smoothstep(reach, 0.5 * reach, away), foreign * smoothstep(FRINGE, 0.5 * FRINGE, away)
    )
    loose *= differs
    alpha = np.maximum(smoothstep(2 * CORE, CORE, away), loose).astype(np.float32)
    alpha = wide_blur(alpha, GROWN * unit)
    # So that at rest, where the layer covers alpha, no pixel differs by more than UNSEEN.
    most = _for_each(UNSEEN * alpha / np.maximum(1.0 - alpha, 1e-3), 3)
    plate = np.subtract(behind, rgb, out=behind)
    np.minimum(plate, most, out=plate)
    np.maximum(plate, np.negative(most, out=most), out=plate)
    plate += rgb
    return Layers(alpha, plate)


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest of three channels: (height, width)."""
    first, second, third = cv2.split(values)
    return np.maximum(np.maximum(first, second, out=first), third, out=first)


def _for_each(weight: np.ndarray, channels: int) -> np.ndarray:
    """``weight`` (height, width) once for each channel: numpy is slow where axes are short."""
    return weight if channels == 1 else cv2.merge([weight] * channels)


def _surroundings(rgb: np.ndarray, known: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """How much the background around each place varies, 0 (a wall) to 1; and how much the place
    itself is of none of its colours, 0 to 1. Float32 (height, width) both.

    Args:
        rgb: float32 (height, width, 3).
        known: bool (height, width), what is background for certain.
        unit: distance of the pupils in pixels.
    """
    shape = known.shape[::-1]
    size = shape[0] // 8, shape[1] // 8
    colour = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weight = (weight > 0.99).astype(np.float32)[..., None]
    sums = np.dstack([weight, weight * colour, weight * colour * colour])
    sums = cv2.GaussianBlur(sums, (0, 0), BUSY_AROUND * unit / 8)
    total, mean, square = np.split(sums / np.maximum(sums[..., :1], 1e-3), (1, 4), axis=2)
    spread = np.sqrt(np.maximum(square - mean * mean, 0.0)) * np.minimum(total, 1.0)
    busy = smoothstep(*BUSY, spread.mean(2)).astype(np.float32)
    coarse = np.dstack([busy, mean, spread + FOREIGN_LEAST])
    fine = cv2.resize(coarse, shape, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    apart = (np.abs(rgb - fine[..., 1:4]) / fine[..., 4:]).max(2)
    return fine[..., 0], smoothstep(*FOREIGN, apart).astype(np.float32)


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
    edge_rows, edge_columns = np.nonzero(narrow)
    edge[labels[narrow]] = np.stack([LEVEL * edge_columns, edge_rows], -1)
    nearest = cv2.resize(edge[labels], known.shape[::-1], interpolation=cv2.INTER_NEAREST)
    columns = np.arange(known.shape[1], dtype=np.float32)
    rows = np.arange(known.shape[0], dtype=np.float32)[:, None]
    # The nearest pixel of the edge jumps: a little smoothing keeps the image whole.
    away_x, away_y = cv2.split(nearest)
    away_x -= columns
    away_y -= rows
    away_x[known] = away_y[known] = 0.0
    away_x, away_y = (wide_blur(away, STEADY * unit) for away in (away_x, away_y))
    depth = cv2.magnitude(away_x, away_y) / unit
    certain = known.astype(np.float32)
    # Mirrored lines kink, which is seen, where mirrored colours and grain are not.
    soft = wide_blur(fill(rgb, certain), SOFT * unit)

    def look_up(image: np.ndarray, beyond: np.ndarray | float) -> np.ndarray:
        share = np.asarray(1.0 + beyond, np.float32)
        x, y = away_x * share, away_y * share
        x += columns
        y += rows
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    found = look_up(certain, 1.0)
    far = np.maximum(depth / NEAR, 1e-3)
    mirrored = look_up(soft, (1.0 - np.exp(-far)) / far)
    grain = np.subtract(rgb, soft, out=soft)
    mirrored += look_up(np.clip(grain, -GRAIN, GRAIN, out=grain), 1.0)
    trust = np.where(found > 0.9, 1.0 - smoothstep(*BEHIND, depth), 0.0)
    cv2.copyTo(rgb, known.astype(np.uint8), mirrored)
    return mirrored, np.where(known, 1.0, trust).astype(np.float32)


def fill(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill where ``weight`` is 0 from ever coarser averages of what is known.

    ``values`` is float32 (height, width, 3), ``weight`` float32 (height, width). The scheme of
    Gortler et al., "The Lumigraph", 1996, section 4.
    """
    channels = values.shape[2]
    colours, weights = [values * _for_each(weight, channels)], [weight]
    while min(weights[-1].shape) > 4:
        colours.append(cv2.pyrDown(colours[-1]))
        weights.append(cv2.pyrDown(weights[-1]))
    result = colours[-1] / _for_each(np.maximum(weights[-1], 1e-4), channels)
    for colour, known in zip(colours[-2::-1], weights[-2::-1], strict=True):
        size = (known.shape[1], known.shape[0])
        coarse = cv2.resize(cv2.pyrUp(result), size, interpolation=cv2.INTER_LINEAR)
        colour /= _for_each(np.maximum(known, 1e-4), channels)
        colour -= coarse
        colour *= _for_each(np.minimum(1.5 * known, 1.0), channels)
        colour += coarse
        result = colour
    return result
