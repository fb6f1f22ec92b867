"""Everything of a person that depends on the photo alone: what the renderer reads each frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from models.engine import Canvas
from models.warp.grid import CoarseGrid


@dataclass(frozen=True)
class Field:
    """Displacement fields over a coarse grid."""

    grid: CoarseGrid
    layers: tuple[np.ndarray, ...]
    """Of each layer, float32 (fields, nodes), units of the face frame: x and y of the expression's
    (2 * len(BlendShape)), then the head's (head.FIELDS)."""
    to_nodes: np.ndarray
    """float32 (2, 2): from units of the face frame to nodes of the grid."""


@dataclass(frozen=True)
class MouthLayers:
    """The lips, and what is seen between them."""

    field: Field
    """Layers: upper lip, lower lip."""
    hole: Field
    """The part of ``field`` where the inside can show. Layers: skull, lower teeth, tongue."""
    luma: np.ndarray
    """uint8 (texels * h, texels * w): Y of the lips."""
    tint: np.ndarray
    """uint8 (h, w, 2): U and V, sample i the mean of pixels i and i + 1."""
    depth: np.ndarray
    """float32 (h, w): pixels below the upper lip's edge."""
    ramp: np.ndarray
    """float32 (h, w): opacity of the lower lip and jaw, not clamped to 0 to 1."""
    start: tuple[int, int]
    """Canvas pixel (x, y) of the first sample of these four."""
    texels: int
    inside: np.ndarray
    """uint8 (3, rows, columns, 4): upper teeth, lower teeth, tongue; Y, opacity, U, V."""
    inside_start: tuple[int, int]
    inside_texels: int
    cavity: np.ndarray
    """Y, U, V of the dark: float32 (3,)."""
    black: np.ndarray
    """Y, U, V of what the lips shade: float32 (3,)."""
    blend: np.ndarray
    """float32 (height, width) of the field's grid: the patch's opacity, 0 at its border."""


@dataclass(frozen=True)
class EyeLayers:
    """One eye: the skin around it, what it looks like shut, and what lies under the lids.

    Charts are in eye coordinates over ``models.warp.build.eyes.eye_shape.CHART``.
    """

    skin: np.ndarray
    """uint8 (rows, columns): Y of the photo around the eye."""
    skin_chroma: np.ndarray
    """uint8 (rows, columns, 2)."""
    shut: np.ndarray
    """uint8 (rows, columns, 2), chart: Y of the shut eye without lashes; what catch-lights add to
    the eyeball's Y."""
    shut_chroma: np.ndarray
    ball: np.ndarray
    """uint8 (rows, columns), chart: Y of the eyeball."""
    ball_chroma: np.ndarray
    lashes: np.ndarray
    """uint8 (rows, columns): opacity over ``models.warp.build.eyes.lids.LASH_RANGE``."""
    glasses: np.ndarray | None
    """uint8 (rows, columns), chart: opacity of the frames of glasses, if any."""
    to_own: np.ndarray
    """float32 (2, 3): affine map from canvas pixels to eye coordinates."""
    to_skin: np.ndarray
    """float32 (2, 3): from eye coordinates to samples of ``skin``."""
    upper: np.ndarray
    """Edge of the upper lid: v = (1 - u^2) (a + b u + c u^2), float32 (3,)."""
    lower: np.ndarray
    room: float
    """Height of the skin above the lash line that takes part in a blink, eye units."""
    ball_radius: float
    """Eye units."""
    pixels: float
    """Canvas pixels per eye unit."""
    lash: np.ndarray
    """Y, U, V of the lashes: float32 (3,)."""
    patch: tuple[int, int, int, int]
    """Left, top, width and height of the eye's patch, pixels inside the person's grid, even."""


@dataclass(frozen=True, eq=False)
class WarpIdentity:
    """A prepared avatar of the warp engine."""

    canvas: Canvas
    unit: float
    """Distance of the pupils in canvas pixels."""
    base: np.ndarray
    """uint8 I420 frame: the photo, and where the person can move, the background without them."""
    grid: CoarseGrid
    """The nodes of the whole person."""
    opacity: np.ndarray
    """float32 (rows, columns) of ``grid``: the person's opacity."""
    neck: Field
    """One layer, over cells of twice the size of ``grid``'s: how head, neck and shoulders move.
    float32 (2 + head.FIELDS, nodes): CLOSE of the expression, then the head's."""
    neck_hold: np.ndarray
    """float32 (2, nodes): how far the nodes of ``neck`` may follow; see ``border_hold``."""
    face: Field
    """One layer, over the part of ``grid`` that expressions move: the face on its head."""
    face_hold: np.ndarray
    jaw: np.ndarray
    """float32 (rows, columns, jaw.SHEETS) of ``face``: what moves with the jaw, and its shades."""
    lit_row: int
    """The first row of cells of ``grid`` in which folds and jaw throw shades."""
    luma: np.ndarray
    """uint8 (texels * height, texels * width): the photo's Y."""
    texels: int
    """Samples of ``luma`` per pixel and axis."""
    chroma: np.ndarray
    """uint8 (height / 2, width / 2, 2)."""
    mouth: MouthLayers
    eyes: tuple[EyeLayers, EyeLayers]
    """Of the person's right and left eye."""

    @property
    def nbytes(self) -> int:
        """Memory the identity takes, in bytes."""
        return _count(self)


def _count(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, tuple):
        return sum(_count(item) for item in value)
    if is_dataclass(value):
        return sum(_count(getattr(value, field.name)) for field in fields(value))
    return 0
