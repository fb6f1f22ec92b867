"""How well a face can be seen in a photo."""

from __future__ import annotations

import cv2
import numpy as np

from models.face.port import Face


def sharpness(rgb: np.ndarray, face: Face) -> float:
    """Fine against coarse detail of a face, at one size for all faces.

    The face is brought to 128 pixels height. There the strongest (98th percentile) response to
    detail of 1 to 2 pixels is divided by that to detail of 4 to 8 pixels, which light, contrast and
    skin tone leave alone.

    Returns:
        About 0.45 to 0.7 for photos and paintings in focus, 0.25 when blurred by a Gaussian of
        2 % of the face's height, 0.18 by one of 3 %.
    """
    left, top, right, _ = face.box
    scale = 128.0 / face.height
    grey: np.ndarray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if scale < 1.0:
        grey = cv2.GaussianBlur(grey, (0, 0), 0.45 / scale)
    matrix = np.array([[scale, 0.0, -left * scale], [0.0, scale, -top * scale]])
    crop = cv2.warpAffine(grey, matrix, (max(16, int((right - left) * scale)), 128))
    # Hair above and collar below are not the face.
    crop = crop[24:-8]
    one, two, four, eight = (cv2.GaussianBlur(crop, (0, 0), s) for s in (1.0, 2.0, 4.0, 8.0))
    fine, coarse = (float(np.percentile(np.abs(d), 98)) for d in (one - two, four - eight))
    return fine / max(coarse, 1e-3)
