"""Everything of a person that depends on the photo alone, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch

from models.engine import Canvas
from models.i420 import rgb_to_i420, rgb_to_yuv
from models.warp.anatomy import FaceFrame, face_frame
from models.warp.backdrop import split
from models.warp.blink import EyeTensors
from models.warp.expression import ExpressionFields
from models.warp.eyeball import eyeball
from models.warp.eyes import EYEBALL, EyeChart, EyeShape, find_eyes, lash_colour
from models.warp.glasses import find_frames, without_frames
from models.warp.grid import CoarseGrid
from models.warp.head import head_fields, pushed_back
from models.warp.jaw import inside_jaw, jaw_sheet
from models.warp.layout import (
    below,
    border_blend,
    border_hold,
    face_grid_over,
    hole_grid_over,
    mouth_grid_over,
)
from models.warp.lids import lash_chart, shut_eye
from models.warp.lip_rim import mend_rims
from models.warp.lips import find_lip_lines, lip_masks
from models.warp.mouth import draw_mouth, rigid_layers
from models.warp.teeth import BEHIND_LIPS
from models.warp.texture import Window, plain_texture, texels_per_pixel, texture

REACH = 0.50
"""How far head motion may carry a picture part, in units: textures reach so far around it."""


class Framed(Protocol):
    """What an identity is made from; ``models.face.FramedPortrait`` is one."""

    @property
    def rgb(self) -> np.ndarray:
        """uint8 (height, width, 3)."""
        ...

    @property
    def landmarks(self) -> np.ndarray:
        """float32 (478, 3), pixels of ``rgb``."""
        ...

    @property
    def matte(self) -> np.ndarray:
        """float32 (height, width), 0 background to 1 person."""
        ...

    @property
    def scale(self) -> float:
        """Pixels of ``rgb`` per pixel of the photo it was made from."""
        ...

    def luma(self, scale: int) -> np.ndarray:
        """Y of ``rgb`` with the photo's own detail: float32 (scale * height, scale * width)."""
        ...


@dataclass(frozen=True)
class Field:
    """Displacement fields over a coarse grid, and how to show them."""

    grid: CoarseGrid
    fields: torch.Tensor
    """(layers, 2 * len(Basis) + head.FIELDS, nodes), units of the face frame."""
    to_grid: torch.Tensor
    """(2, 2): from the face frame to grid coordinates."""
    base: torch.Tensor
    """(1, 2, rows, columns): grid coordinates of the nodes."""


@dataclass(frozen=True)
class WarpIdentity:
    """A prepared avatar of the warp engine."""

    canvas: Canvas
    unit: float
    """Distance of the pupils in canvas pixels."""

    face: Field
    hold: torch.Tensor
    """(1, 2, rows, columns) of ``face``: how far its nodes may follow; see ``border_hold``."""
    to_canvas: torch.Tensor
    """(2, 1, 2, 1, 1): scale and offset from coordinates of ``face`` to the canvas's."""
    luma_shift: torch.Tensor
    """(1, 3, 1, 1): from canvas coordinates to those of ``luma``; 0 for the opacity."""
    lit: CoarseGrid
    """The part of ``face`` from the nose down, where folds and jaw throw shades."""
    luma: torch.Tensor
    """(1, 1, k height, k width): the photo's Y, k = ``texels_per_pixel``."""
    chroma: torch.Tensor
    """(1, 2, height / 2, width / 2)."""
    sheet: torch.Tensor
    """(1, 1 + jaw.SHEETS, rows, columns): at the nodes of ``face``, the person's opacity and what
    moves with the jaw."""
    plate_luma: torch.Tensor
    """(1, 1, height, width) of ``face``: the background without the person."""
    plate_chroma: torch.Tensor
    still: torch.Tensor
    """uint8 (height * 3 / 2, width) of the canvas: what nothing moves."""

    mouth: Field
    """Layers: upper lip, lower lip."""
    hole: Field
    """The part of ``mouth`` where its inside can show. Layers: skull, lower teeth, tongue."""
    mouth_to_lips: torch.Tensor
    """(2, 1, 2, 1, 1): scale and offset from coordinates of ``mouth`` to those of ``lips``."""
    tint_shift: torch.Tensor
    """(1, 2, 1, 1): from there to those of ``lip_tint``."""
    hole_to_inside: torch.Tensor
    """Scale and offset from coordinates of ``hole`` to those of ``inside``."""
    lips: torch.Tensor
    """(2, 2, k h, k w): Y and depth below the upper lip in pixels; Y and opacity ramp of the jaw
    side."""
    lip_tint: torch.Tensor
    """(1, 2, h, w): U and V of both, sample i the mean of pixels i and i + 1."""
    inside: torch.Tensor
    """(3, 4, h, w): upper teeth, lower teeth, tongue; Y, opacity, U, V."""
    cavity: torch.Tensor
    """(1, 3, 1, 1): Y, U, V."""
    black: torch.Tensor
    """(1, 3, 1, 1): Y, U, V of what the lips shade."""
    mouth_blend: torch.Tensor
    """(1, 1, h, w): opacity of the mouth's patch, 0 at its border."""

    eyes: EyeTensors
    eye_windows: tuple[tuple[int, int], tuple[int, int]]
    """Left and top of both eyes' patches inside ``face``, pixels, even."""
    eye_size: tuple[int, int]
    """Width and height of these patches, even."""

    @property
    def nbytes(self) -> int:
        """Memory the identity takes on its device, in bytes."""
        return _count(self)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.luma.device


def _count(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if is_dataclass(value):
        return sum(_count(getattr(value, field.name)) for field in fields(value))
    return 0


def build_identity(framed: Framed, device: str | torch.device = "cpu") -> WarpIdentity:
    """Prepare the person of a framed portrait.

    Args:
        framed: picture, landmarks and matte at the canvas's size, even sides.
        device: where rendering will happen.
    """
    rgb, landmarks = framed.rgb, framed.landmarks
    height, width = rgb.shape[:2]
    yuv = rgb_to_yuv(rgb)
    frame = face_frame(landmarks)
    lips = find_lip_lines(landmarks, frame, yuv)
    inside = draw_mouth(rgb, landmarks, frame, lips, 0.6 * max(1.0, framed.scale))
    expression = ExpressionFields(landmarks, frame, lips, inside.bite)
    layers = split(rgb.astype(np.float32), framed.matte, frame.unit)
    texels = texels_per_pixel(width, height)
    luma = texture(framed.luma(texels), texels)
    detail = np.dstack([luma, plain_texture(yuv[:, :, 1:], texels)])
    cell = 8 if min(width, height) >= 900 else 4 if min(width, height) >= 300 else 2

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)

    def field(grid: CoarseGrid, skin: list[np.ndarray], inside: list[np.ndarray]) -> Field:
        head = head_fields(landmarks, frame, frame.to_frame(grid.nodes().reshape(-1, 2)))
        behind = pushed_back(head, BEHIND_LIPS)
        rows = [np.concatenate([e[:, 0], e[:, 1], head]) for e in skin]
        rows += [np.concatenate([e[:, 0], e[:, 1], behind]) for e in inside]
        axes = np.stack([frame.right, frame.down], 1) * frame.unit
        base = grid.coordinates(grid.nodes()).transpose(2, 0, 1)
        return Field(
            grid,
            tensor(np.stack(rows)),
            tensor(grid.per_pixel[:, None] * axes),
            tensor(base[None]),
        )

    face_grid = face_grid_over(layers.alpha, cell)
    nodes = frame.to_frame(face_grid.nodes().reshape(-1, 2))
    face = field(face_grid, [expression.whole(nodes)], [])
    canvas_scale = 2.0 / np.array([width, height])
    face_to_canvas = _chain(face_grid, canvas_scale, 1.0 / np.array([width, height]) - 1.0)
    node_alpha = _at_nodes(layers.alpha, face_grid)
    on_jaw = jaw_sheet(yuv[..., 0], landmarks, frame, nodes).reshape(-1, *node_alpha.shape)
    sheet = np.concatenate([node_alpha[None], on_jaw])
    plate_yuv = rgb_to_yuv(layers.plate)
    part = (
        slice(face_grid.top, face_grid.top + face_grid.height),
        slice(face_grid.left, face_grid.left + face_grid.width),
    )

    mouth_grid = mouth_grid_over(frame, max(2, cell // 2), face_grid)
    mouth_nodes = frame.to_frame(mouth_grid.nodes().reshape(-1, 2))
    mouth = field(mouth_grid, [expression.upper(mouth_nodes), expression.lower(mouth_nodes)], [])
    hole_grid = hole_grid_over(frame, mouth_grid)
    hole = field(hole_grid, [], rigid_layers(hole_grid.nodes().size // 2))
    mouth_blend = border_blend(mouth_grid)
    mouth_blend *= inside_jaw(landmarks, frame, frame.to_frame(mouth_grid.pixels())).reshape(
        mouth_blend.shape
    )
    lip_window = Window(
        mouth_grid.left, mouth_grid.top, mouth_grid.width, mouth_grid.height, texels
    ).grown(round(REACH * frame.unit))
    lip_texture = mend_rims(lip_window.cut_texture(detail), lip_window, frame, lips)
    lip_layers = [[lip_texture[..., 0], mask] for mask in lip_masks(lip_window, frame, lips)]
    lip_tint = texture(np.ascontiguousarray(lip_texture[::texels, ::texels, 1:]), 2)

    eyes, eye_windows, eye_size = _eyes(rgb, yuv, detail, landmarks, frame, face_grid, tensor)

    plate_chroma = plate_yuv[part][:, :, 1:]
    plate_chroma = plate_chroma.reshape(face_grid.height // 2, 2, face_grid.width // 2, 2, 2).mean(
        (1, 3)
    )
    lips_scale, lips_start = lip_window.affine()
    inside_scale, inside_start = inside.window.affine()
    return WarpIdentity(
        canvas=Canvas(width, height),
        unit=frame.unit,
        face=face,
        hold=tensor(border_hold(layers.alpha, landmarks, frame.unit, face_grid)[None]),
        to_canvas=tensor(face_to_canvas),
        luma_shift=tensor(_shift(0.5 / texels - 0.5, width, height)),
        lit=below(face_grid, frame.origin[1] - 0.6 * frame.unit),
        luma=tensor(luma[None, None]),
        chroma=tensor(texture(yuv[:, :, 1:], 2)[::2, ::2].transpose(2, 0, 1)[None]),
        sheet=tensor(sheet[None]),
        plate_luma=tensor(plate_yuv[part][:, :, 0][None, None]),
        plate_chroma=tensor(plate_chroma.transpose(2, 0, 1)[None]),
        still=torch.from_numpy(rgb_to_i420(rgb)).to(device),
        mouth=mouth,
        hole=hole,
        mouth_to_lips=tensor(_chain(mouth_grid, lips_scale, lips_start)),
        tint_shift=tensor(_shift(-0.5 / texels, lip_window.width, lip_window.height)[:, :2]),
        hole_to_inside=tensor(_chain(hole_grid, inside_scale, inside_start)),
        lips=tensor(np.stack(lip_layers)),
        lip_tint=tensor(lip_tint.transpose(2, 0, 1)[None]),
        inside=tensor(inside.layers[:, [0, 3, 1, 2]]),
        cavity=tensor(inside.cavity.reshape(1, 3, 1, 1)),
        black=tensor(inside.shade.reshape(1, 3, 1, 1)),
        mouth_blend=tensor(mouth_blend[None, None]),
        eyes=eyes,
        eye_windows=eye_windows,
        eye_size=eye_size,
    )


def _eyes(
    rgb: np.ndarray,
    yuv: np.ndarray,
    detail: np.ndarray,
    landmarks: np.ndarray,
    frame: FaceFrame,
    grid: CoarseGrid,
    tensor: Callable[[np.ndarray], torch.Tensor],
) -> tuple[EyeTensors, tuple[tuple[int, int], tuple[int, int]], tuple[int, int]]:
    """Both eyes for rendering, and their patches' places inside ``grid`` and size."""
    height, width = rgb.shape[:2]
    texels = len(detail) // height
    frames = find_frames(yuv, landmarks, frame)
    if frames is not None:
        # Under the frames of glasses lids move as if there were none; the frames lie over them.
        yuv = without_frames(yuv, frames)
        hidden = plain_texture(frames, texels)[..., None]
        detail = detail + hidden * (plain_texture(yuv, texels) - detail)
    shapes = find_eyes(landmarks, yuv)
    longest = max(_length(shape, frame) for shape in shapes)
    size = (
        _even(frame.unit * max(0.86, 3.1 * longest)),
        _even(frame.unit * max(0.80, 2.9 * longest)),
    )
    # Coordinates of the luma plane: g = (2 x + 1 / texels) / size - 1.
    plane = np.array([width, height]) / 2.0
    first = 0.5 / texels
    density = texels * frame.unit * longest
    windows, textures, to_own, to_texture, numbers, colours = [], [], [], [], [], []
    shut, balls, lashes, over = [], [], [], []
    for shape in shapes:
        patch = replace(shape.patch(size), scale=texels)
        x = int(np.clip(patch.left - grid.left, 0, grid.width - size[0]))
        y = int(np.clip(patch.top - grid.top, 0, grid.height - size[1]))
        windows.append((x // 2 * 2, y // 2 * 2))
        window = patch.grown(round(REACH * frame.unit))
        around = window.cut_texture(detail)
        textures.append(around.transpose(2, 0, 1))
        chart = EyeChart(shape, density)
        photo = chart.cut(around, window)
        colour = rgb_to_yuv(lash_colour(rgb, shape))
        skin = shut_eye(chart, photo)
        ball, lights = eyeball(chart, photo)
        shut.append(np.dstack([skin[..., 0], lights, skin[..., 1:]]).transpose(2, 0, 1))
        balls.append(ball.transpose(2, 0, 1))
        lashes.append(lash_chart(chart, photo, skin, colour)[None])
        colours.append(colour)
        if frames is not None:
            over.append(chart.cut(window.cut(frames), replace(window, scale=1))[None])
        inverse = np.stack([shape.along, shape.down]) / (shape.along @ shape.along)
        to_own.append(np.column_stack([inverse * plane, inverse @ (plane - first - shape.centre)]))
        scale, start = window.affine()
        forward = np.stack([shape.along, shape.down], 1) * scale[:, None]
        to_texture.append(np.column_stack([forward, shape.centre * scale + start]))
        numbers.append([*shape.upper, *shape.lower, shape.room, EYEBALL / _length(shape, frame)])
    eyes = EyeTensors(
        tensor(np.stack(textures)),
        tensor(np.stack(shut)),
        tensor(np.stack(balls)),
        tensor(np.stack(lashes)),
        tensor(np.stack(over)) if over else None,
        tensor(np.stack(to_own)),
        tensor(np.stack(to_texture)),
        tensor(np.array(numbers)),
        tensor(np.array([[_length(shape, frame) * frame.unit] for shape in shapes])),
        tensor(np.stack(colours).reshape(1, 2, 3, 1)),
    )
    return eyes, (windows[0], windows[1]), size


def _shift(pixels: float, width: int, height: int) -> np.ndarray:
    """``pixels`` in coordinates of the canvas for x and y, and 0 for an opacity: (1, 3, 1, 1)."""
    return np.array([2 * pixels / width, 2 * pixels / height, 0.0]).reshape(1, 3, 1, 1)


def _length(shape: EyeShape, frame: FaceFrame) -> float:
    """Half the width of an eye in distances of the pupils."""
    return float(np.hypot(*shape.along)) / frame.unit


def _even(length: float) -> int:
    return 2 * round(length / 2)


def _chain(grid: CoarseGrid, scale: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Scale and offset from grid coordinates to ``pixel * scale + start``: (2, 1, 2, 1, 1)."""
    # pixel = (g + 1) / per_pixel + origin
    factor = scale / grid.per_pixel
    offset = (1.0 / grid.per_pixel + grid.origin) * scale + start
    return np.stack([factor, offset]).reshape(2, 1, 2, 1, 1)


def _at_nodes(values: np.ndarray, grid: CoarseGrid) -> np.ndarray:
    """Averages of ``values`` over the cells: float32 (rows, columns), margin included."""
    at = grid.nodes().astype(np.float32)
    soft = cv2.blur(values, (grid.cell, grid.cell))
    return cv2.remap(
        soft, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
