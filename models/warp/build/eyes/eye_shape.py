"""Eyes: where their lids and irises are in the photo.

What lies under and over them is taken apart in ``models.warp.build.eyes.lids`` and
``models.warp.build.eyes.eyeball``; what is done with it each frame is in
``models/warp/render/kernels/eyes.c``.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.blur import wide_blur
from models.face import topology
from models.warp.build.texture import Window

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
    iris: np.ndarray
    """Its middle, u and v, and its radius, (3,)."""
    outer: float
    """u of the outer corner, 1 or -1."""

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


_INNER, _OUTER = (0.0, 0.06, 0.16, 0.28), (0.06, 0.16, 0.28, 0.40)
"""How far beyond the mesh's inner corner, and beyond the outer one or the end of the white, the
lids may meet, in half widths of the eye."""
_LARGE = 1.12
"""Size of the iris over the mesh's from which the whole eye is taken as larger."""


def bow(u: np.ndarray, form: np.ndarray) -> np.ndarray:
    """Height of a lid's edge at ``u``; 0 at the corners and beyond."""
    return np.clip(1 - u * u, 0, None) * (form[0] + form[1] * u + form[2] * u * u)


def find_eyes(landmarks: np.ndarray, yuv: np.ndarray) -> tuple[EyeShape, EyeShape]:
    """Find the lids and the iris of the person's right and left eye.

    The mesh gives them roughly and rather inside the eye; the upper lid is then drawn to the
    lashes, where bright skin ends above a dark line.

    Args:
        landmarks: (478, 3), pixels.
        yuv: float32 (height, width, 3).
    """
    points = landmarks[:, :2].astype(np.float64)
    meshes = [points[list(row)] for row in (topology.RIGHT_IRIS, topology.LEFT_IRIS)]
    irises, size = find_irises(yuv[:, :, 0], meshes)
    right, left = (
        _find_eye(points, yuv[:, :, 0], side, iris, size * _iris_radius(mesh), size)
        for side, iris, mesh in zip((False, True), irises, meshes, strict=True)
    )
    return right, left


def _find_eye(
    points: np.ndarray, luma: np.ndarray, left: bool, iris: np.ndarray, radius: float, size: float
) -> EyeShape:
    """One eye; ``size`` is that of its iris over that of the mesh's."""
    upper_row, lower_row, brow_row = (
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER, topology.LEFT_BROW_LOWER)
        if left
        else (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER, topology.RIGHT_BROW_LOWER)
    )
    # Eyes larger than the mesh knows, as drawn ones are, are so the more outwards.
    larger = size if size > _LARGE else 1.0
    outer, inner = points[upper_row[0]], points[upper_row[-1]]
    ends, sides = (inner, iris + larger * (outer - iris)), (_INNER, _OUTER)
    if outer[0] < inner[0]:
        ends, sides = ends[::-1], sides[::-1]
    half = (ends[1] - ends[0]) / 2
    luma = _softened(luma, np.stack(ends), 0.04 * float(np.hypot(*half)), 1.5)
    none = np.zeros(3)
    best, best_score = None, -np.inf
    # How far beyond the mesh's corners the lids meet differs, most of all in drawn faces.
    for before, after in itertools.product(*sides):
        first, last = ends[0] - before * half, ends[1] + after * half
        shape = EyeShape(
            (first + last) / 2, (last - first) / 2, none, none, 0.0, none, 1.0 if left else -1.0
        )
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
    return replace(
        best,
        room=float(np.clip(0.85 * (best.upper[0] - brow), 0.35, 1.4)),
        iris=np.array([*best.to_own(iris), radius / np.hypot(*best.along)]),
    )


def find_irises(luma: np.ndarray, meshes: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Middles of the irises, pixels, and how much larger they are than the mesh's.

    Circles across which it gets brightest: the integro-differential operator of Daugman, "High
    confidence visual recognition of persons by a test of statistical independence", 1993, over the
    arcs left and right that lids rarely cover. Both irises are of one size.

    Args:
        luma: float32 (height, width).
        meshes: of each eye the mesh's middle and four points of the edge, (5, 2), pixels.
    """
    angles = np.deg2rad(np.arange(-30, 46, 5))
    rays = np.stack([np.stack([side * np.cos(angles), np.sin(angles)], -1) for side in (1, -1)])
    sizes = np.arange(0.80, 1.56, 0.05)
    moves = np.array(list(itertools.product((-0.16, -0.08, 0.0, 0.08, 0.16), repeat=2)))
    # Moves, both arcs, sizes, angles.
    circles = moves[:, None, None, None] + sizes[:, None, None] * rays[:, None]
    scores = []
    for points in meshes:
        radius = _iris_radius(points)
        soft = _softened(luma, points, 0.10 * radius, 1.5)
        at = (points[0] + radius * circles).astype(np.float32)
        flat = at.reshape(len(moves), -1, 2)
        ring = cv2.remap(
            soft, flat[..., 0], flat[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).reshape(at.shape[:4])
        edge = np.median(ring[:, :, 3:] - ring[:, :, :-3], axis=-1)
        scores.append(edge.min(1) + 0.3 * edge.mean(1) - 400.0 * (moves**2).sum(1)[:, None])
    middles = sizes[1:-2] + 0.025
    best = int((sum(score.max(0) for score in scores) - 15.0 * np.abs(middles - 1)).argmax())
    found = [
        points[0] + _iris_radius(points) * moves[score[:, best].argmax()]
        for points, score in zip(meshes, scores, strict=True)
    ]
    return found, float(middles[best])


def _softened(luma: np.ndarray, points: np.ndarray, sigma: float, reach: float) -> np.ndarray:
    """``luma`` blurred around ``points`` (n, 2), as far out as ``reach`` of their extent."""
    sigma = max(0.5, sigma)
    low, high = points.min(0), points.max(0)
    margin = reach * float((high - low).max()) + 4 * sigma
    left, top = np.maximum((low - margin).astype(int), 0)
    right, bottom = np.maximum((high + margin).astype(int) + 1, 0)
    part = slice(top, bottom), slice(left, right)
    out = luma.copy()
    if out[part].size:
        out[part] = cv2.GaussianBlur(luma[part], (0, 0), sigma)
    return out


def _iris_radius(points: np.ndarray) -> float:
    """Mean distance of the mesh's points on the edge from their middle, pixels."""
    return float(np.hypot(*(points[1:] - points[0]).T).mean())


def _fit(points: np.ndarray) -> np.ndarray:
    """Least squares of (1 - u^2) (a + b u + c u^2)."""
    u, v = points.T
    arch = 1 - u * u
    basis = np.stack([arch, arch * u, arch * u * u], -1)
    # A little regularisation: half-shut eyes give few reliable points.
    system = np.concatenate([basis, np.diag([0.0, 0.15, 0.40])])
    return np.linalg.lstsq(system, np.concatenate([v, np.zeros(3)]), rcond=None)[0]


@functools.cache
def _lid_changes(is_upper: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Curves to try for a lid, around the mesh's.

    Returns:
        Places across (places,); heights of a strip's rows (rows,); changes of the form (n, 3); and
        the row that each change puts the lid's edge in, (places, n).
    """
    u = np.linspace(-0.94, 0.94, 39)
    spacing = 0.02
    rows = np.arange(-0.44, 0.44, spacing)
    lifts = np.arange(-0.26, 0.05, 0.02) if is_upper else np.arange(-0.02, 0.27, 0.02)
    changes = np.array(
        [
            (lift, tilt, -flat if is_upper else flat)
            for lift in lifts
            for tilt in np.arange(-0.12, 0.13, 0.04)
            for flat in (-0.08, 0.0, 0.08, 0.16)
        ]
    )
    index = np.round((bow(u[:, None], changes.T[:, None]) - rows[0]) / spacing).astype(int)
    return u, rows, changes, np.clip(index, 0, len(rows) - 1)


def _to_edge(
    shape: EyeShape, form: np.ndarray, luma: np.ndarray, is_upper: bool
) -> tuple[np.ndarray, float]:
    """Draw a lid's curve to what the picture shows: the best of many curves near the mesh's.

    Returns:
        The curve, and how well it follows an edge (about 0 to 1).
    """
    u, rows, changes, index = _lid_changes(is_upper)
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
        shift = 0.035
    else:
        # The white of the eye ends, or the dark of the iris.
        edge[2:-2] = 0.8 * np.abs(strip[4:] - strip[:-4])
        shift = 0.02
    edge /= max(float(np.percentile(edge, 97)), 4.0)
    edge = np.clip(edge, -0.3, 1.0)
    scores = edge[index, np.arange(u.size)[:, None]].mean(0)
    scores -= changes**2 @ (2.0, 2.5, 1.5)
    best, best_score = changes[scores.argmax()], float(scores.max())
    # The lid ends a little below the steepest place, at the roots of the lashes.
    return form + best + np.array([shift, 0.0, 0.0]), best_score


CHART = (-1.75, -2.0, 1.75, 1.4)
"""What a chart covers: least u and v, largest u and v."""


class EyeChart:
    """The neighbourhood of an eye in its own coordinates, as an upright picture.

    Args:
        shape: of the eye.
        density: texels per eye unit.
    """

    def __init__(self, shape: EyeShape, density: float) -> None:
        self.shape = shape
        self.density = density
        columns = round((CHART[2] - CHART[0]) * density)
        rows = round((CHART[3] - CHART[1]) * density)
        self.u, self.v = np.meshgrid(
            CHART[0] + (np.arange(columns) + 0.5) / density,
            CHART[1] + (np.arange(rows) + 0.5) / density,
        )

    def row(self, v: np.ndarray) -> np.ndarray:
        """Index of the row at height ``v``, fractional."""
        return (v - CHART[1]) * self.density - 0.5

    def cut(self, texture: np.ndarray, window: Window) -> np.ndarray:
        """The chart of a texture (``models.warp.build.texture``) that covers ``window``."""
        at = (self.shape.to_pixels(self.u, self.v) - (window.left, window.top)) * window.scale
        return cv2.remap(
            texture,
            at[..., 0].astype(np.float32),
            at[..., 1].astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def blurred(self, values: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur, ``sigma`` in eye units."""
        return wide_blur(values, max(0.3, sigma * self.density))

    def disc(self, radius: float) -> np.ndarray:
        """Structuring element, ``radius`` in eye units."""
        r = max(1, round(radius * self.density))
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))


def lash_colour(rgb: np.ndarray, shape: EyeShape) -> np.ndarray:
    """Colour of the lash line: float64 (3,). Never bluer than red: that is the iris's edge."""
    u = np.linspace(-0.7, 0.7, 40)
    v = bow(u, shape.upper)[None] + np.linspace(-0.08, 0.0, 5)[:, None]
    at = np.round(shape.to_pixels(*np.broadcast_arrays(u[None], v))).astype(int)
    height, width = rgb.shape[:2]
    colours = rgb[np.clip(at[..., 1], 0, height - 1), np.clip(at[..., 0], 0, width - 1)]
    flat = colours.reshape(-1, 3).astype(np.float64)
    red, green, blue = flat[flat.sum(1).argsort()[: len(flat) // 5]].mean(0)
    return np.array([red, min(green, red), min(blue, red)])
