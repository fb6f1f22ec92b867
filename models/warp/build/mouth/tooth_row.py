"""One row of a person's own teeth: what a photo shows of it, and the picture made of that."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.warp.build.anatomy import FaceFrame, smoothstep

RIM = 0.012
"""Height of the strip at a lip's edge, in units, whose colour is a mixture of lip and tooth."""


@dataclass(frozen=True)
class ToothRow:
    """What a photo shows of one row, over ``x`` across the mouth: float64 (samples,), units."""

    x: np.ndarray
    start: np.ndarray
    """Height at which the visible part begins (top)."""
    end: np.ndarray
    """Height at which it ends (bottom)."""
    edge: np.ndarray
    """Height of the biting edge; lies in the hidden part where a lip covers it."""
    colour: np.ndarray
    """Y, U, V of the tooth at each place, (samples, 3)."""
    weight: np.ndarray
    """1 where the row is known, 0 where nothing is."""
    length: np.ndarray
    """Height of the teeth from edge to gum."""
    gum: np.ndarray | None
    """Y, U, V of the gums, where the photo shows them."""

    def at(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """``values`` over the row, (samples,) or (samples, k), at places ``x`` across."""
        if values.ndim == 1:
            return np.interp(x, self.x, values)
        return np.stack([np.interp(x, self.x, column) for column in values.T], -1)

    def mirrored(self) -> ToothRow:
        """The row that takes from its other side what the photo hides of one."""
        other = np.interp(-self.x, self.x, self.weight, left=0.0, right=0.0)
        borrow = (other > 0.5) & (self.weight < 0.5)
        colour = np.where(borrow[:, None], self.at(self.colour, -self.x), self.colour)
        # Nothing of it is seen here: all of it is made up.
        start, end = (np.where(borrow, self.edge, seen) for seen in (self.start, self.end))
        weight = np.maximum(self.weight, other)
        return replace(self, start=start, end=end, colour=colour, weight=weight)


def paint_row(
    row: ToothRow, yuv: np.ndarray, frame: FaceFrame, at: np.ndarray, is_upper: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Own teeth at frame positions ``at`` (..., 2) of the photo.

    Args:
        row: from :func:`find_own_teeth`.
        yuv: the photo, float32 (height, width, 3).
        frame: of the face.
        at: positions, units.
        is_upper: which row.

    Returns:
        Y, U, V (..., 3); opacity (...); and the weight of both: 1 where the row is known.
    """
    x, y = at[..., 0], at[..., 1]
    start, end, edge = (row.at(v, x) for v in (row.start, row.end, row.edge))
    painted = row.at(row.colour, x)
    above = (edge - y) if is_upper else (y - edge)
    # Hidden parts are darker towards the gum.
    made = 16 + (painted[..., 0] - 16) * (1 - 0.14 * np.clip(above / 0.16, 0, 1) ** 1.5)
    seen = smoothstep(start + 0.3 * RIM, start + 1.6 * RIM, y)
    seen = seen * (1 - smoothstep(end - 1.3 * RIM, end - 0.3 * RIM, y))
    pixels = frame.to_pixels(at).astype(np.float32)
    photo = cv2.remap(yuv[..., 0], pixels[..., 0], pixels[..., 1], cv2.INTER_CUBIC)
    painted[..., 0] = made + seen * (photo - made)
    length = row.at(row.length, x)
    gum = smoothstep(length - 0.010, length + 0.010, above)
    if row.gum is not None:
        painted += gum[..., None] * (row.gum - painted)
        gum = np.zeros_like(gum)
    weight = row.at(row.weight, x) * ((x > row.x[0]) & (x < row.x[-1]))
    return painted, smoothstep(-0.006, 0.006, above), (1 - gum) * weight
