"""Motion to pictures: the photo warped by its person's motion, in batches, as I420."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional

from models.warp.basis import Basis, coefficients
from models.warp.blink import blend_eyes
from models.warp.grid import invert, sample, upsample
from models.warp.head import FIELDS, head_coefficients
from models.warp.identity import Field, WarpIdentity
from models.warp.jaw import shades
from models.warp.motion import WarpPose

FACE_ITERATIONS = 4
NECK_ITERATIONS = 2
LIP_ITERATIONS, LIP_STEP = 6, 0.8
LIP_EDGE = 1.5
"""Pixels over which the upper lip's edge fades: photos are not sharper."""
INSIDE_ITERATIONS = 2
"""The mouth's inside does not bend: only the head's turn is to be undone."""
_NECK = [Basis.CLOSE, len(Basis) + Basis.CLOSE, *range(2 * len(Basis), 2 * len(Basis) + FIELDS)]
"""Rows of a field that move the neck."""
_BLACK = 16.0
"""Y of no light."""
_PIXELS_AT_ONCE = defaultdict(lambda: 2**26, cpu=2**20)
"""Texture samples of one go: a CPU is fastest while the planes of a go stay in its cache."""


def render(poses: Sequence[WarpPose]) -> list[np.ndarray]:
    """One I420 picture per pose, in their order: uint8, shape ``canvas.i420_shape``.

    Poses of one identity are rendered in one go.
    """
    groups: dict[int, list[int]] = {}
    for i, pose in enumerate(poses):
        groups.setdefault(id(pose.identity), []).append(i)
    frames: list[np.ndarray | None] = [None] * len(poses)
    for members in groups.values():
        identity = poses[members[0]].identity
        step = max(1, _PIXELS_AT_ONCE[identity.device.type] // identity.luma[0, 0].numel())
        for start in range(0, len(members), step):
            part = members[start : start + step]
            motions = np.stack([poses[i].motion for i in part])
            pictures = render_identity(identity, motions).cpu().numpy()
            for i, picture in zip(part, pictures, strict=True):
                frames[i] = picture
    return [frame for frame in frames if frame is not None]


@torch.inference_mode()
def render_identity(identity: WarpIdentity, motions: np.ndarray) -> torch.Tensor:
    """Pictures of one person.

    Args:
        identity: whose.
        motions: float32 (n, channels).

    Returns:
        uint8 (n, height * 3 / 2, width) on the identity's device: I420.
    """
    motion = torch.as_tensor(motions, dtype=torch.float32, device=identity.device)
    n = len(motion)
    expression = coefficients(motion)
    weights = _weights(motion, expression)

    # The whole person, at the resolution of the coarse grid first.
    coarse = _whole(identity, expression, weights)
    grid = identity.face.grid
    fine = upsample(coarse[:, :3] + identity.luma_shift, grid, grid.cell)
    luma = sample(identity.luma.expand(n, -1, -1, -1), fine[:, :2].permute(0, 2, 3, 1))
    torch.lerp(identity.plate_luma, luma, fine[:, 2:], out=luma)
    half = upsample(coarse[:, :3] + identity.chroma_shift, grid, grid.cell // 2)
    chroma = sample(identity.chroma.expand(n, -1, -1, -1), half[:, :2].permute(0, 2, 3, 1))
    torch.lerp(identity.plate_chroma, chroma, half[:, 2:], out=chroma)
    planes = _Planes(luma, chroma, fine[:, 2:], half[:, 2:])

    _paint_eyes(identity, motion, fine[:, :2], planes)
    _paint_mouth(identity, weights, planes)
    lit = identity.lit
    first = (lit.top - grid.top) // grid.cell
    light = upsample(coarse[:, 3:, first:], lit, lit.cell)
    luma[:, :, lit.top - grid.top :].sub_(_BLACK).mul_(light).add_(_BLACK)
    return _pack(identity, luma, chroma)


def _whole(identity: WarpIdentity, expression: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Where the picture of the whole person came from, how opaque it is there, and how much light
    is left of it: (n, 4, rows, columns) at the nodes, the first two in the canvas's coordinates."""
    field = identity.face
    moved = _displacement(field, weights, slice(1)) * identity.hold
    source = invert(moved, field.base, FACE_ITERATIONS)
    sheet = identity.sheet.expand(len(weights), -1, -1, -1)
    opacity, on_jaw, contact, fold = sample(sheet, source.permute(0, 2, 3, 1)).split(1, 1)
    # Below the jaw's edge the neck stays with the head: the chin covers it instead of pressing it.
    # Only where the photo's jaw comes up to close the mouth, the neck stretches after it.
    still = (field.to_grid @ weights[:, :, _NECK]) @ field.fields[0, _NECK]
    still = still.reshape(source.shape) * identity.hold
    neck = invert(still, field.base, NECK_ITERATIONS)
    neck_opacity = sample(sheet[:, :1], neck.permute(0, 2, 3, 1))
    source = torch.lerp(neck, source, on_jaw)
    opacity = torch.lerp(neck_opacity, opacity, on_jaw)
    light = shades(expression, on_jaw, contact, fold)
    light = torch.lerp(torch.ones_like(light), light, opacity)
    scale, offset = identity.to_canvas
    return torch.cat([torch.addcmul(offset, source, scale), opacity, light], 1)


def _weights(motion: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
    """Weights of all fields in the face's frame: (n, 2, 2 * basis + head fields)."""
    expression = expression[:, None]
    turn, head = head_coefficients(motion)
    return torch.cat([turn[:, :, :1] * expression, turn[:, :, 1:] * expression, head], 2)


def _displacement(field: Field, weights: torch.Tensor, layers: slice) -> torch.Tensor:
    """What each node of some layers moves by: (n * layers, 2, rows, columns), grid coordinates."""
    displacement = (field.to_grid @ weights)[:, None] @ field.fields[layers]
    return displacement.reshape(-1, 2, *field.grid.shape)


@dataclass(frozen=True)
class _Planes:
    """The moving part of the picture while it is painted, and how opaque the person is there."""

    luma: torch.Tensor
    """(n, 1, height, width)."""
    chroma: torch.Tensor
    """(n, 2, height / 2, width / 2)."""
    luma_opacity: torch.Tensor
    chroma_opacity: torch.Tensor

    def paint(self, patch: torch.Tensor, x: int, y: int, blend: torch.Tensor | None) -> None:
        """Lay a patch (n, 3, h, w) of Y, U, V at even ``x``, ``y`` over the person.

        ``blend`` is the patch's own opacity, (1 or n, 1, h, w).
        """
        height, width = patch.shape[2:]
        area = (..., slice(y, y + height), slice(x, x + width))
        half = (..., slice(y // 2, (y + height) // 2), slice(x // 2, (x + width) // 2))
        opacity, half_opacity = self.luma_opacity[area], self.chroma_opacity[half]
        if blend is not None:
            opacity = opacity * blend
            half_opacity = half_opacity * functional.avg_pool2d(blend, 2)
        self.luma[area].lerp_(patch[:, :1], opacity)
        self.chroma[half].lerp_(functional.avg_pool2d(patch[:, 1:], 2), half_opacity)


def _paint_eyes(
    identity: WarpIdentity, motion: torch.Tensor, source: torch.Tensor, planes: _Planes
) -> None:
    width, height = identity.eye_size
    around = torch.stack(
        [source[:, :, y : y + height, x : x + width] for x, y in identity.eye_windows], 1
    )
    eyes, opacity = blend_eyes(identity.eyes, around, motion)
    for i, (x, y) in enumerate(identity.eye_windows):
        planes.paint(eyes[:, i], x, y, None if opacity is None else opacity[:, i])


def _paint_mouth(identity: WarpIdentity, weights: torch.Tensor, planes: _Planes) -> None:
    n = len(weights)
    field = identity.mouth
    scale, offset = identity.mouth_to_lips
    # Lips that open wide stretch the skin in the corners several times over.
    lips = _displacement(field, weights, slice(2))
    lips = invert(lips, field.base, LIP_ITERATIONS, LIP_STEP)
    lips = torch.addcmul(offset, lips, scale)
    scale, offset = identity.mouth_to_inside
    inside = invert(_displacement(field, weights, slice(2, 5)), field.base, INSIDE_ITERATIONS)
    inside = torch.addcmul(offset, inside, scale)
    at_lips = upsample(lips, field.grid, field.grid.cell).permute(0, 2, 3, 1)
    at_inside = upsample(inside, field.grid, field.grid.cell).permute(0, 2, 3, 1)

    height, width = field.grid.height, field.grid.width
    skin = sample(identity.lips.expand(2 * n, -1, -1, -1), at_lips)
    upper, lower = skin.reshape(n, 2, 5, height, width).unbind(1)
    layers = identity.inside.expand(n, -1, -1, -1, -1).flatten(0, 1)
    teeth, low_teeth, tongue = sample(layers, at_inside).reshape(n, 3, 4, height, width).unbind(1)

    depth = upper[:, 3:4]
    dark = torch.lerp(identity.cavity, tongue[:, :3], tongue[:, 3:])
    dark = torch.lerp(dark, low_teeth[:, :3], low_teeth[:, 3:])
    dark = torch.lerp(dark, teeth[:, :3], teeth[:, 3:])
    # Through a narrow slit one sees the dark, not the teeth's edges as a row of dots.
    to_lower = (1.0 - lower[:, 4:5]).clamp(min=0)
    slit = (depth.clamp(min=0) + to_lower) * (1.0 / (0.035 * identity.unit))
    dark = torch.lerp(dark, identity.cavity, 0.9 * torch.exp(-slit.square()))
    # Lips shade what is just behind them, the upper one more.
    shade = 1 - 0.34 * torch.exp(depth.clamp(min=0) * (-1.0 / (0.035 * identity.unit)))
    shade = shade * (1 - 0.25 * torch.exp(to_lower * (-1.0 / (0.02 * identity.unit))))
    light = torch.cat([shade, shade, shade], 1)
    dark = torch.lerp(identity.black, dark, light)
    patch = torch.lerp(upper[:, :3], dark, (depth * (1.0 / LIP_EDGE)).clamp(0, 1))
    patch = torch.lerp(patch, lower[:, :3], lower[:, 4:5].clamp(0, 1))

    x, y = field.grid.left - identity.face.grid.left, field.grid.top - identity.face.grid.top
    planes.paint(patch, x, y, identity.mouth_blend)


def _pack(identity: WarpIdentity, luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Planes of the moving part, pasted into the still picture: uint8 (n, height * 3/2, width)."""
    n = len(luma)
    width, height = identity.canvas.width, identity.canvas.height
    grid = identity.face.grid
    out = identity.still.expand(n, -1, -1).clone()
    out[:, grid.top : grid.top + grid.height, grid.left : grid.left + grid.width] = _bytes(luma)[
        :, 0
    ]
    planes = out[:, height:].view(n, 2, height // 2, width // 2)
    x, y = grid.left // 2, grid.top // 2
    planes[:, :, y : y + grid.height // 2, x : x + grid.width // 2] = _bytes(chroma)
    return out


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).clamp_(0, 255).to(torch.uint8)
