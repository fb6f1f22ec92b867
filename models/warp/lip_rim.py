"""Lips of a photo with a parted mouth, made fit to close: teeth and dark cut off their rims."""

from __future__ import annotations

import cv2
import numpy as np

from models.warp.anatomy import FaceFrame, smoothstep
from models.warp.lips import LipLines
from models.warp.texture import Window

RIM = 0.022
"""Height of the strip along a lip's inner edge, in units, that may show more than lip."""
SEAM = 0.013
"""Height of the shade along the line where lips meet."""
SEAM_DEPTH = 0.35
"""How dark it is."""
PIT = 0.66
"""Brightness of the deepest place in the corner of a shut mouth, over that of the lips."""
_CORNER = 0.09
"""Reach of the dark that a parted mouth has in its corners, up and down."""


def mend_rims(texture: np.ndarray, window: Window, frame: FaceFrame, lips: LipLines) -> np.ndarray:
    """The lips with clean edges; unchanged where the photo's lips are closed.

    Args:
        texture: Y, U, V over the window, float32 (window.scale * h, window.scale * w, 3).
        window: of the canvas.
        frame: of the face.
        lips: inner edges of its lips.
    """
    if lips.gap == 0:
        return texture
    at = frame.to_frame(window.positions())
    x, y = at[..., 0], at[..., 1]
    upper, lower = lips.upper_at(x), lips.lower_at(x)
    on_upper = y < lips.closed_at(x)
    depth = np.where(on_upper, upper - y, y - lower)
    # The strip repeats the lip beside it, mirrored; so does the lip's continuation into the mouth.
    into = np.maximum(depth, 2 * RIM - depth) - depth
    between = np.abs(frame.across(x)) < 1.0
    moved = np.where(between, np.where(on_upper, -into, into), 0.0)
    out = _shifted(texture, window.scale, frame, moved)
    # Lips that meet throw a fine shade on each other.
    near = 1 - smoothstep(0.98, 1.1, np.abs(frame.across(x)))
    shade = SEAM_DEPTH * near * np.exp(-np.square(np.maximum(depth, 0) / SEAM))
    out[..., 0] = 16 + (out[..., 0] - 16) * (1 - shade)
    return _without_pits(out, frame, lips, x, y)


def _shifted(texture: np.ndarray, scale: int, frame: FaceFrame, down: np.ndarray) -> np.ndarray:
    """``texture`` with every sample taken from ``down`` units further down the face."""
    rows, columns = np.mgrid[0 : texture.shape[0], 0 : texture.shape[1]].astype(np.float32)
    step = scale * frame.unit * frame.down
    return cv2.remap(
        texture,
        columns + (down * step[0]).astype(np.float32),
        rows + (down * step[1]).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _without_pits(
    texture: np.ndarray, frame: FaceFrame, lips: LipLines, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Lift the dark that a parted mouth has in its corners to that of a fold between lips."""
    across = np.abs(frame.across(x))
    away = np.abs(y - lips.closed_at(x))
    lip = float(np.median(texture[(across < 0.6) & (away < 0.10)][:, 0])) - 16
    limit = 16 + PIT * lip
    here = smoothstep(0.70, 0.90, across) * (1 - smoothstep(1.2, 1.5, across))
    here = here * (1 - smoothstep(0.7 * _CORNER, _CORNER, away))
    missing = np.maximum(limit - texture[..., 0], 0.0)
    texture[..., 0] += (0.8 * here * missing).astype(np.float32)
    return texture
