"""Eyes: lids that slide over an eyeball which stays round, and an iris that turns.

What is found in the photo here; what is done with it each frame is in ``models.warp.blink``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.face import topology
from models.warp.backdrop import fill
from models.warp.texture import Window

EYEBALL = 0.19
"""Radius of the eyeball in distances of the pupils (12 of 63 mm)."""


@dataclass(frozen=True)
class EyeShape:
    """One eye in its own coordinates: u from -1 to 1 between the corners, v down, same unit."""

    centre: np.ndarray
    """Pixels, (2,)."""
    along: np.ndarray
    """Vector of u = 1 in pixels, (2,)."""
    upper: np.ndarray
    """Lash line: v = (1 - u^2) (a + b u + c u^2), (3,)."""
    lower: np.ndarray
    """Edge of the lower lid, likewise."""
    room: float
    """Height of the skin above the lash line that takes part in a blink."""

    @property
    def down(self) -> np.ndarray:
        """Vector of v = 1 in pixels, (2,)."""
        return np.array([-self.along[1], self.along[0]])

    def to_own(self, pixels: np.ndarray) -> np.ndarray:
        """Eye coordinates of pixel positions (..., 2)."""
        offset = pixels - self.centre
        return np.stack([offset @ self.along, offset @ self.down], -1) / (self.along @ self.along)

    def to_pixels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Pixel positions (..., 2) of eye coordinates."""
        return self.centre + u[..., None] * self.along + v[..., None] * self.down

    def patch(self, size: tuple[int, int]) -> Window:
        """Window of ``size`` (width, height; even) around the eye, on even pixels."""
        middle = self.centre - 0.12 * self.down
        left, top = (np.round((middle - np.array(size) / 2) / 2) * 2).astype(int)
        return Window(int(left), int(top), *size)


def bow(u: np.ndarray, form: np.ndarray) -> np.ndarray:
    """Height of a lid's edge at ``u``; 0 at the corners and beyond."""
    return np.clip(1 - u * u, 0, None) * (form[0] + form[1] * u + form[2] * u * u)


def find_eye(landmarks: np.ndarray, luma: np.ndarray, left: bool) -> EyeShape:
    """Find the lids of the person's left or right eye.

    The mesh gives them roughly and rather inside the eye; the upper lid is then drawn to the
    lashes, where bright skin ends above a dark line.

    Args:
        landmarks: (478, 3), pixels.
        luma: float32 (height, width).
        left: which eye.
    """
    points = landmarks[:, :2].astype(np.float64)
    upper_row, lower_row, brow_row = (
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER, topology.LEFT_BROW_LOWER)
        if left
        else (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER, topology.RIGHT_BROW_LOWER)
    )
    ends = points[[upper_row[0], upper_row[-1]]]
    ends = ends[np.argsort(ends[:, 0])]
    width = float(np.hypot(*(ends[1] - ends[0])))
    luma = cv2.GaussianBlur(luma, (0, 0), max(0.5, 0.02 * width))
    best, best_score = None, -np.inf
    # How far beyond the mesh's corners the lids meet differs, most of all in drawn faces.
    for before, after in itertools.product((0.06, 0.16, 0.28, 0.40), repeat=2):
        half = (ends[1] - ends[0]) / 2
        first, last = ends[0] - before * half, ends[1] + after * half
        shape = EyeShape((first + last) / 2, (last - first) / 2, np.zeros(3), np.zeros(3), 0.0)
        upper, upper_score = _to_edge(
            shape, _fit(shape.to_own(points[list(upper_row)])), luma, True
        )
        lower, lower_score = _to_edge(
            shape, _fit(shape.to_own(points[list(lower_row)])), luma, False
        )
        score = upper_score + lower_score - 1.0 * ((before - 0.1) ** 2 + (after - 0.1) ** 2)
        if score > best_score:
            best, best_score = replace(shape, upper=upper, lower=lower), score
    assert best is not None
    brow = float(np.median(best.to_own(points[list(brow_row)])[:, 1]))
    return replace(best, room=float(np.clip(0.85 * (best.upper[0] - brow), 0.35, 1.4)))


def _fit(points: np.ndarray) -> np.ndarray:
    """Least squares of (1 - u^2) (a + b u + c u^2)."""
    u, v = points.T
    arch = 1 - u * u
    basis = np.stack([arch, arch * u, arch * u * u], -1)
    # A little regularisation: half-shut eyes give few reliable points.
    system = np.concatenate([basis, np.diag([0.0, 0.05, 0.10])])
    return np.linalg.lstsq(system, np.concatenate([v, np.zeros(3)]), rcond=None)[0]


def _to_edge(
    shape: EyeShape, form: np.ndarray, luma: np.ndarray, is_upper: bool
) -> tuple[np.ndarray, float]:
    """Draw a lid's curve to what the picture shows: the best of many curves near the mesh's.

    Returns:
        The curve, and how well it follows an edge (about 0 to 1).
    """
    u = np.linspace(-0.94, 0.94, 39)
    spacing = 0.02
    rows = np.arange(-0.44, 0.44, spacing)
    at = shape.to_pixels(*np.broadcast_arrays(u[None], bow(u, form)[None] + rows[:, None]))
    strip = cv2.remap(
        luma,
        at[..., 0].astype(np.float32),
        at[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    edge = np.zeros(strip.shape, np.float64)
    if is_upper:
        # Dark lashes here, bright skin a little above.
        edge[6:] = strip[:-6] - strip[6:]
        lifts, shift = np.arange(-0.26, 0.05, 0.02), 0.035
    else:
        # The white of the eye ends, or the dark of the iris.
        edge[2:-2] = 0.8 * np.abs(strip[4:] - strip[:-4])
        lifts, shift = np.arange(-0.02, 0.27, 0.02), 0.02
    edge /= max(float(np.percentile(edge, 97)), 4.0)
    edge = np.clip(edge, -0.3, 1.0)
    changes = np.array(
        [
            (lift, tilt, -flat if is_upper else flat)
            for lift in lifts
            for tilt in np.arange(-0.12, 0.13, 0.04)
            for flat in (-0.08, 0.0, 0.08, 0.16)
        ]
    )
    index = np.round((bow(u[:, None], changes.T[:, None]) - rows[0]) / spacing).astype(int)
    scores = edge[np.clip(index, 0, len(rows) - 1), np.arange(u.size)[:, None]].mean(0)
    scores -= changes**2 @ (2.0, 2.5, 1.5)
    best, best_score = changes[scores.argmax()], float(scores.max())
    # The lid ends a little below the steepest place, at the roots of the lashes.
    return form + best + np.array([shift, 0.0, 0.0]), best_score


def lid_skin(rgb: np.ndarray, shape: EyeShape, window: Window) -> np.ndarray:
    """What the skin over the eyeball looks like when it is unfolded: smooth, from around the eye.

    Args:
        rgb: float32 (height, width, 3).
        shape: of the eye.
        window: the part of the canvas wanted.

    Returns:
        float32 (window height, window width, 3).
    """
    patch = window.cut(rgb)
    y, x = np.mgrid[0 : window.height, 0 : window.width]
    own = shape.to_own(np.stack([x + window.left, y + window.top], -1).astype(np.float64))
    u, v = own[..., 0], own[..., 1]
    top, bottom = bow(u, shape.upper), bow(u, shape.lower)
    brow = shape.upper[0] - shape.room / 0.85
    below = (v > bottom + 0.40) & (v < bottom + 1.05) & (np.abs(u) < 1.1)
    middle = (v < top - 0.55 * shape.room) & (v > brow + 0.12) & (np.abs(u) < 0.9)
    known = (below | middle).astype(np.float32)
    skin = fill(patch, known)
    if below.any():
        # The ball of a shut eye comes forward into the light, out of the shadow of the brow.
        skin = skin * 0.5 + np.median(patch[below], axis=0) * 0.5
    blur = 0.18 * float(np.hypot(*shape.along))
    return cv2.GaussianBlur(skin, (0, 0), blur)


def lash_colour(rgb: np.ndarray, shape: EyeShape) -> np.ndarray:
    """Colour of the lash line: float64 (3,)."""
    u = np.linspace(-0.7, 0.7, 40)
    v = bow(u, shape.upper)[None] + np.linspace(-0.08, 0.0, 5)[:, None]
    at = np.round(shape.to_pixels(*np.broadcast_arrays(u[None], v))).astype(int)
    height, width = rgb.shape[:2]
    colours = rgb[np.clip(at[..., 1], 0, height - 1), np.clip(at[..., 0], 0, width - 1)]
    flat = colours.reshape(-1, 3).astype(np.float64)
    return flat[flat.sum(1).argsort()[: len(flat) // 5]].mean(0)
