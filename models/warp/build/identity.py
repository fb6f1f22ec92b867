"""A framed photo made into an identity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from models.engine import Canvas
from models.i420 import rgb_to_i420, rgb_to_yuv
from models.warp.build.anatomy import FaceFrame, face_frame
from models.warp.build.backdrop import split
from models.warp.build.expression import ExpressionFields
from models.warp.build.eyes.eye_shape import EYEBALL, EyeChart, EyeShape, find_eyes, lash_colour
from models.warp.build.eyes.eyeball import eyeball
from models.warp.build.eyes.glasses import find_frames, without_frames
from models.warp.build.eyes.lids import lash_chart, shut_eye
from models.warp.build.head import HeadFields, pushed_back
from models.warp.build.jaw import inside_jaw, jaw_sheet
from models.warp.build.layout import (
    at_nodes,
    border_blend,
    border_hold,
    box_over,
    doubled,
    face_grid_over,
    hole_grid_over,
    mouth_grid_over,
    row_below,
)
from models.warp.build.mouth.lip_rim import mend_rims
from models.warp.build.mouth.lips import LipLines, find_lip_lines, lip_masks
from models.warp.build.mouth.mouth_textures import MouthTextures, draw_mouth, rigid_layers
from models.warp.build.mouth.teeth import BEHIND_LIPS
from models.warp.build.texture import (
    Window,
    plain_texture,
    texels_per_pixel,
    texture,
    window_texture,
)
from models.warp.grid import CoarseGrid
from models.warp.identity import EyeLayers, Field, MouthLayers, WarpIdentity
from models.warp.motion.blend_shape import BlendShape

STILL = 0.003
"""Displacement by all expressions together, in units, that nobody sees."""
REACH = 0.50
"""How far head motion may carry a part of the frame, in units: textures reach so far around it."""


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
class _Photo:
    """What the builders of all parts share."""

    rgb: np.ndarray
    yuv: np.ndarray
    """float32 (height, width, 3)."""
    landmarks: np.ndarray
    frame: FaceFrame
    head: HeadFields
    texels: int
    luma: np.ndarray
    """Y as a texture: float32 (texels * height, texels * width)."""

    def around(self, window: Window) -> np.ndarray:
        """Y, U, V of a window of the same texels: float32 (rows, columns, 3)."""
        return window_texture(self.luma, self.yuv, window)

    def field(self, grid: CoarseGrid, skin: list[np.ndarray], inside: list[np.ndarray]) -> Field:
        """Displacement fields of layers of skin and of what lies behind the lips, each given by
        its expression, (shapes, 2, nodes)."""
        nodes = self.frame.to_frame(grid.nodes().reshape(-1, 2))
        head = self.head(nodes)
        behind = pushed_back(head, BEHIND_LIPS)
        layers = [np.concatenate([e[:, 0], e[:, 1], head]) for e in skin]
        layers += [np.concatenate([e[:, 0], e[:, 1], behind]) for e in inside]
        axes = np.stack([self.frame.right, self.frame.down], 1) * self.frame.unit / grid.cell
        return Field(
            grid,
            tuple(np.ascontiguousarray(layer, np.float32) for layer in layers),
            axes.astype(np.float32),
        )


def build_identity(framed: Framed) -> WarpIdentity:
    """Prepare the person of a framed portrait: frame, landmarks and matte at the canvas's size,
    even sides."""
    rgb, landmarks = framed.rgb, framed.landmarks
    height, width = rgb.shape[:2]
    texels = texels_per_pixel(width, height)
    yuv = rgb_to_yuv(rgb)
    luma = texture(framed.luma(texels), texels)
    frame = face_frame(landmarks)
    photo = _Photo(rgb, yuv, landmarks, frame, HeadFields(landmarks, frame), texels, luma)
    lips = find_lip_lines(landmarks, frame, yuv)
    inside = draw_mouth(rgb, landmarks, frame, lips, 0.6 * max(1.0, framed.scale))
    expression = ExpressionFields(landmarks, frame, lips, inside.bite)
    layers = split(rgb.astype(np.float32), framed.matte, frame.unit)

    cell = 8 if min(width, height) >= 900 else 4 if min(width, height) >= 300 else 2
    grid = face_grid_over(layers.alpha, cell)
    neck, box, fields = _fields(photo, expression, grid)
    places = frame.to_frame(box.nodes().reshape(-1, 2))
    jaw = jaw_sheet(yuv[..., 0], landmarks, frame, places)

    def hold(of: CoarseGrid) -> np.ndarray:
        held = border_hold(layers.alpha, landmarks, frame.unit, of)
        return np.ascontiguousarray(held.reshape(2, -1), np.float32)

    return WarpIdentity(
        canvas=Canvas(width, height),
        unit=frame.unit,
        base=_base(rgb, layers.plate, grid),
        grid=grid,
        opacity=np.ascontiguousarray(at_nodes(layers.alpha, grid), np.float32),
        neck=neck,
        neck_hold=hold(neck.grid),
        face=photo.field(box, [fields], []),
        face_hold=hold(box),
        jaw=np.ascontiguousarray(jaw.T.reshape(*box.shape, -1), np.float32),
        lit_row=row_below(grid, frame.origin[1] - 0.6 * frame.unit),
        luma=_bytes(luma),
        texels=texels,
        chroma=_bytes(texture(yuv[:, :, 1:], 2)[::2, ::2]),
        mouth=_mouth(photo, expression, lips, inside, grid),
        eyes=_eyes(photo, grid),
    )


def _fields(
    photo: _Photo, expression: ExpressionFields, grid: CoarseGrid
) -> tuple[Field, CoarseGrid, np.ndarray]:
    """What moves head and neck; the part of ``grid`` that expressions move; and their fields
    there, float32 (shapes, 2, nodes)."""
    coarse = doubled(grid)
    whole = expression.whole(photo.frame.to_frame(coarse.nodes().reshape(-1, 2)))
    field = photo.field(coarse, [whole], [])
    rows = [BlendShape.CLOSE, len(BlendShape) + BlendShape.CLOSE]
    rows += range(2 * len(BlendShape), len(field.layers[0]))
    neck = replace(field, layers=(np.ascontiguousarray(field.layers[0][rows]),))
    most = np.hypot(whole[:, 0], whole[:, 1]).sum(0).reshape(coarse.shape)
    box = box_over(most > STILL, coarse, grid)
    return neck, box, expression.whole(photo.frame.to_frame(box.nodes().reshape(-1, 2)))


def _base(rgb: np.ndarray, plate: np.ndarray, grid: CoarseGrid) -> np.ndarray:
    """The photo as I420, and the background without the person where the person can move."""
    behind = rgb.astype(np.float32)
    area = (slice(grid.top, grid.top + grid.height), slice(grid.left, grid.left + grid.width))
    behind[area] = plate[area]
    return rgb_to_i420(behind)


def _mouth(
    photo: _Photo,
    expression: ExpressionFields,
    lips: LipLines,
    inside: MouthTextures,
    face_grid: CoarseGrid,
) -> MouthLayers:
    frame, texels = photo.frame, photo.texels
    grid = mouth_grid_over(frame, max(2, face_grid.cell // 2), face_grid)
    nodes = frame.to_frame(grid.nodes().reshape(-1, 2))
    hole = hole_grid_over(frame, grid)
    jaw = inside_jaw(photo.landmarks, frame, frame.to_frame(grid.pixels()))
    window = Window(grid.left, grid.top, grid.width, grid.height, texels)
    window = window.grown(round(REACH * frame.unit))
    skin = mend_rims(photo.around(window), window, frame, lips)
    depth, ramp = lip_masks(replace(window, scale=1), frame, lips)
    layers = inside.layers[:, [0, 3, 1, 2]].transpose(0, 2, 3, 1)
    return MouthLayers(
        field=photo.field(grid, [expression.upper(nodes), expression.lower(nodes)], []),
        hole=photo.field(hole, [], rigid_layers(hole.nodes().size // 2)),
        luma=_bytes(skin[..., 0]),
        tint=_bytes(texture(np.ascontiguousarray(skin[::texels, ::texels, 1:]), 2)),
        depth=np.ascontiguousarray(depth, np.float32),
        ramp=np.ascontiguousarray(ramp, np.float32),
        start=(window.left, window.top),
        texels=texels,
        inside=_bytes(layers * np.array([1.0, 255.0, 1.0, 1.0], np.float32)),
        inside_start=(inside.window.left, inside.window.top),
        inside_texels=inside.window.scale,
        cavity=inside.cavity.astype(np.float32),
        black=inside.shade.astype(np.float32),
        blend=border_blend(grid) * jaw.reshape(grid.height, grid.width),
    )


def _eyes(photo: _Photo, grid: CoarseGrid) -> tuple[EyeLayers, EyeLayers]:
    """Both eyes; their patches lie inside ``grid``."""
    frame, bare = photo.frame, photo
    glasses = find_frames(photo.yuv, photo.landmarks, frame)
    if glasses is not None:
        bare = _without_glasses(photo, glasses)
    shapes = find_eyes(photo.landmarks, bare.yuv)
    longest = max(_length(shape, frame) for shape in shapes)
    size = (
        min(_even(frame.unit * max(0.86, 3.1 * longest)), grid.width),
        min(_even(frame.unit * max(0.80, 2.9 * longest)), grid.height),
    )
    density = photo.texels * frame.unit * longest
    right, left = (
        _eye(bare, glasses, grid, shape, EyeChart(shape, density), size) for shape in shapes
    )
    return right, left


def _without_glasses(photo: _Photo, glasses: np.ndarray) -> _Photo:
    """The photo with skin in the place of the frames of glasses: lids move as if there were none,
    and the frames are laid over them again."""
    yuv = without_frames(photo.yuv, glasses)
    hidden = plain_texture(glasses, photo.texels)
    luma = photo.luma + hidden * (plain_texture(yuv[..., 0], photo.texels) - photo.luma)
    return replace(photo, yuv=yuv, luma=luma)


def _eye(
    photo: _Photo,
    glasses: np.ndarray | None,
    grid: CoarseGrid,
    shape: EyeShape,
    chart: EyeChart,
    size: tuple[int, int],
) -> EyeLayers:
    """One eye of a photo without glasses; ``glasses`` is the opacity of their frames."""
    frame, texels = photo.frame, photo.texels
    patch = replace(shape.patch(size), scale=texels)
    x = int(np.clip(patch.left - grid.left, 0, grid.width - size[0])) // 2 * 2
    y = int(np.clip(patch.top - grid.top, 0, grid.height - size[1])) // 2 * 2
    window = patch.grown(round(REACH * frame.unit))
    around = photo.around(window)
    seen = chart.cut(around, window)
    colour = rgb_to_yuv(lash_colour(photo.rgb, shape))
    shut = shut_eye(chart, seen)
    ball, lights = eyeball(chart, seen)
    over = None
    if glasses is not None:
        over = _bytes(255 * chart.cut(window.cut(glasses), replace(window, scale=1)))
    along = shape.along @ shape.along
    inverse = np.stack([shape.along, shape.down]) / along
    to_skin = np.column_stack([shape.along, shape.down, shape.centre - (window.left, window.top)])
    return EyeLayers(
        skin=_bytes(around[..., 0]),
        skin_chroma=_bytes(around[..., 1:]),
        shut=_bytes(np.dstack([shut[..., 0], lights])),
        shut_chroma=_bytes(shut[..., 1:]),
        ball=_bytes(ball[..., 0]),
        ball_chroma=_bytes(ball[..., 1:]),
        lashes=_bytes(255 * lash_chart(chart, seen, shut, colour)),
        glasses=over,
        to_own=np.column_stack([inverse, -inverse @ shape.centre]).astype(np.float32),
        to_skin=(texels * to_skin).astype(np.float32),
        upper=np.asarray(shape.upper, np.float32),
        lower=np.asarray(shape.lower, np.float32),
        room=shape.room,
        ball_radius=EYEBALL / _length(shape, frame),
        pixels=_length(shape, frame) * frame.unit,
        lash=colour.astype(np.float32),
        patch=(x, y, *size),
    )


def _length(shape: EyeShape, frame: FaceFrame) -> float:
    """Half the width of an eye in distances of the pupils."""
    return float(np.hypot(*shape.along)) / frame.unit


def _even(length: float) -> int:
    return 2 * round(length / 2)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Rounded to uint8, contiguous."""
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
