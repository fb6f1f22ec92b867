"""Lips of a photo with a parted mouth, made fit to close: teeth and dark cut off their rims."""

from __future__ import annotations

import cv2
import numpy as np

from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.mouth.lips import LipLines
from models.warp.build.texture import Window

RIM = 0.022
"""Height of the strip along a lip's inner edge, in units, that may show more than lip."""
SEAM = 0.013
"""Height of the shade along the line where lips meet."""
SEAM_DEPTH = 0.35
"""How dark it is."""
PIT = 0.72
"""What is darker beside a corner than this share of the lips and of the skin is no skin."""
_CORNER = 0.12
"""How far up and down the dark that a parted mouth has in its corners may reach, units."""
_SOFT = 0.018
"""Height over which it gives way to the skin."""


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
    # Of the head's whole range only the mouth is mended.
    x, y = 1.6 * lips.x[[0, -1]], (lips.upper.min() - 0.25, lips.lower.max() + 0.25)
    corners = frame.to_pixels(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    mouth = window.part(corners.min(0), corners.max(0))
    part = window.samples_of(mouth)
    out = texture.copy()
    out[part] = _mended(texture[part], mouth, frame, lips)
    return out


def _mended(texture: np.ndarray, window: Window, frame: FaceFrame, lips: LipLines) -> np.ndarray:
    texture = _without_pits(texture, window, frame, lips)
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
    return out


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
    texture: np.ndarray, window: Window, frame: FaceFrame, lips: LipLines
) -> np.ndarray:
    """Fill the dark that a parted mouth has in its corners with the skin around it."""
    at = frame.to_frame(window.positions())
    x, y = at[..., 0], at[..., 1]
    across = np.abs(frame.across(x))
    here = smoothstep(0.50, 0.68, across) * (1 - smoothstep(1.3, 1.5, across))
    places = np.linspace(1.5 * lips.x[0], 1.5 * lips.x[-1], 241)
    steps = np.linspace(0.0, _CORNER, 40)[:, None]
    on_upper = y < lips.closed_at(x)
    out = texture.copy()
    for mine, edge, down in (
        (on_upper, lips.upper_at, -1.0),
        (~on_upper, lips.lower_at, 1.0),
    ):
        outward = down * (y - edge(x))
        lip = (across < 0.6) & mine & (outward > RIM) & (outward < 0.08)
        rows = edge(places) + down * steps
        strip = _at(texture, window, frame, np.broadcast_to(places, rows.shape), rows)
        # Stubble beside a corner is darker than lips, and stays.
        around = _blurred(np.median(strip[20:, :, 0], axis=0))
        limit = np.minimum(float(np.percentile(texture[lip][:, 0], 25)), around)
        light = strip[..., 0] >= 16 + PIT * (limit - 16)
        found = light.any(0)
        depth = np.where(found, steps[light.argmax(0), 0], 0.0)
        depth = _blurred(cv2.dilate(depth[None], np.ones((1, 5)))[0])
        beyond = edge(places) + down * (depth + 2 * _SOFT)
        colour = _at(texture, window, frame, places[None], beyond[None])[0]
        colour = np.stack([_blurred(channel) for channel in colour.T], -1)
        outside = outward - np.interp(x, places, depth)
        weight = here * mine * (1 - smoothstep(_SOFT, 2 * _SOFT, outside))
        weight = weight * np.interp(x, places, _blurred((depth > 0).astype(float)))
        fill = np.stack([np.interp(x, places, channel) for channel in colour.T], -1)
        out += (weight[..., None] * (fill - texture)).astype(np.float32)
    return out


def _at(
    texture: np.ndarray, window: Window, frame: FaceFrame, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """``texture`` at frame positions: (..., 3)."""
    start = (window.left, window.top)
    at = (frame.to_pixels(np.stack([x, y], -1)) - start) * window.scale
    at = at.astype(np.float32)
    return cv2.remap(
        texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _blurred(values: np.ndarray) -> np.ndarray:
    """Values over places across the mouth, smoothed."""
    line = values.astype(np.float64)[None]
    return cv2.GaussianBlur(line, (0, 0), 3.0, borderType=cv2.BORDER_REPLICATE)[0]
