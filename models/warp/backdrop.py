"""The person cut from the background: a soft layer that moves, and what shows behind it."""

from __future__ import annotations

import cv2
import numpy as np

from models.warp.anatomy import smoothstep

FRINGE = 0.07
"""Width of the background's rim that moves with the person, in units: it keeps loose hair."""


def person_alpha(matte: np.ndarray, unit: float) -> np.ndarray:
    """Opacity of the moving layer: 1 on the person and its hair's rim, ramping down beyond.

    Args:
        matte: float32 (height, width), 0 to 1.
        unit: distance of the pupils in pixels.
    """
    radius = max(1, round(FRINGE * unit))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    person = (matte > 0.15).astype(np.float32)
    grown = cv2.dilate(person, disc)
    border = 4 * radius
    # A person cut off by the picture's edge goes on beyond it.
    padded = cv2.copyMakeBorder(grown, border, border, border, border, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(padded, (0, 0), 0.6 * radius)[border:-border, border:-border]
    return np.clip(soft * 1.7 - 0.1, 0.0, 1.0).astype(np.float32)


def background_plate(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The picture with the inside of the person filled from the background around it.

    Where ``alpha`` is well below 1 the photo itself stays, so that at rest layer and plate blend to
    the photo.

    Args:
        rgb: float32 (height, width, 3).
        alpha: float32 (height, width) of :func:`person_alpha`.
    """
    known = (alpha < 0.5).astype(np.float32)
    if known.mean() < 0.01:
        return rgb.copy()
    filled = fill(rgb, known)
    # Softly, lest the rim of the filling shows as a line when the person moves off it; at rest the
    # layer above hides all but a few per cent of what the filling changes.
    inside = smoothstep(0.7, 1.0, alpha).astype(np.float32)[..., None]
    return filled * inside + rgb * (1 - inside)


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
