"""Motion to pictures: the photo warped by its person's motion, in batches, as I420."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional

from models.warp.basis import Basis, coefficients
from models.warp.blink import blend_chroma, blend_luma
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
_PARTED = 0.003
"""Gap between the lips, in units, up to which nothing of the mouth's inside can be seen."""
INSIDE_ITERATIONS = 2
"""The mouth's inside does not bend: only the head's turn is to be undone."""
_NECK = torch.zeros(2 * len(Basis) + FIELDS)
"""1 for the rows of a field that move the neck."""
_NECK[[Basis.CLOSE, len(Basis) + Basis.CLOSE, *range(2 * len(Basis), len(_NECK))]] = 1.0
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
    # Where the motion is: a hundred numbers are not worth an accelerator's launches.
    motion = torch.from_numpy(motions)
    n = len(motion)
    expression = coefficients(motion)
    weights = _weights(motion, expression)
    both = torch.stack([weights, weights * _NECK], 1).to(identity.device)
    weights = weights.to(identity.device)
    parted = bool((expression[:, Basis.OPEN] > _PARTED).any())
    motion, expression = motion.to(identity.device), expression.to(identity.device)

    # The whole person, at the resolution of the coarse grid first.
    coarse = _whole(identity, expression, both)
    grid = identity.face.grid
    fine = upsample(coarse[:, :3] + identity.luma_shift, grid, grid.cell)
    luma = sample(identity.luma.expand(n, -1, -1, -1), fine[:, :2].permute(0, 2, 3, 1))
    torch.lerp(identity.plate_luma, luma, fine[:, 2:], out=luma)
    half = upsample(coarse[:, :3], grid, grid.cell // 2)
    chroma = sample(identity.chroma.expand(n, -1, -1, -1), half[:, :2].permute(0, 2, 3, 1))
    torch.lerp(identity.plate_chroma, chroma, half[:, 2:], out=chroma)
    planes = _Planes(luma, chroma, fine[:, 2:], half[:, 2:])

    _paint_eyes(identity, motion, fine[:, :2], half[:, :2] + identity.luma_shift[:, :2], planes)
    _paint_mouth(identity, weights, parted, planes)
    lit = identity.lit
    first = (lit.top - grid.top) // grid.cell
    light = upsample(coarse[:, 3:, first:], lit, lit.cell)
    luma[:, :, lit.top - grid.top :].sub_(_BLACK).mul_(light).add_(_BLACK)
    return _pack(identity, luma, chroma)


def _whole(identity: WarpIdentity, expression: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Where the picture of the whole person came from, how opaque it is there, and how much light
    is left of it: (n, 4, rows, columns) at the nodes, the first two in the canvas's coordinates.

    ``weights``, (n, 2, 2, fields): of the face and of the neck.
    """
    field = identity.face
    fields = ((field.to_grid @ weights) @ field.fields).unflatten(-1, field.grid.shape)
    moved, still = (fields * identity.hold).unbind(1)
    source = invert(moved, field.base, FACE_ITERATIONS)
    sheet = identity.sheet.expand(len(weights), -1, -1, -1)
    opacity, on_jaw, contact, fold = sample(sheet, source.permute(0, 2, 3, 1)).split(1, 1)
    # Below the jaw's edge the neck stays with the head: the chin covers it instead of pressing it.
    # Only where the photo's jaw comes up to close the mouth, the neck stretches after it.
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

    def paint(
        self,
        luma: torch.Tensor,
        chroma: torch.Tensor,
        x: int,
        y: int,
        blend: torch.Tensor | None = None,
    ) -> None:
        """Lay a patch, (n, 1, h, w) and (n, 2, h / 2, w / 2), at even ``x``, ``y`` over the person.

        ``blend`` is the patch's own opacity, (1, 1, h, w).
        """
        height, width = luma.shape[2:]
        area = (..., slice(y, y + height), slice(x, x + width))
        half = (..., slice(y // 2, (y + height) // 2), slice(x // 2, (x + width) // 2))
        opacity, half_opacity = self.luma_opacity[area], self.chroma_opacity[half]
        if blend is not None:
            opacity = opacity * blend
            half_opacity = half_opacity * functional.avg_pool2d(blend, 2)
        self.luma[area].lerp_(luma, opacity)
        self.chroma[half].lerp_(chroma, half_opacity)


def _paint_eyes(
    identity: WarpIdentity,
    motion: torch.Tensor,
    source: torch.Tensor,
    half_source: torch.Tensor,
    planes: _Planes,
) -> None:
    """Args: where the luma and the chroma samples of ``planes`` came from, (n, 2, ...), in
    coordinates of the luma texture."""
    width, height = identity.eye_size
    around = torch.stack(
        [source[:, :, y : y + height, x : x + width] for x, y in identity.eye_windows], 1
    )
    luma, opacity = blend_luma(identity.eyes, around, motion)
    width, height = width // 2, height // 2
    around = torch.stack(
        [
            half_source[:, :, y // 2 : y // 2 + height, x // 2 : x // 2 + width]
            for x, y in identity.eye_windows
        ],
        1,
    )
    chroma = blend_chroma(identity.eyes, around, motion)
    for i, (x, y) in enumerate(identity.eye_windows):
        blend = None if opacity is None else opacity[:, i]
        planes.paint(luma[:, i], chroma[:, i], x, y, blend)


def _paint_mouth(
    identity: WarpIdentity, weights: torch.Tensor, parted: bool, planes: _Planes
) -> None:
    field, grid = identity.mouth, identity.mouth.grid
    # Lips that open wide stretch the skin in the corners several times over.
    lips = invert(_displacement(field, weights, slice(2)), field.base, LIP_ITERATIONS, LIP_STEP)
    scale, offset = identity.mouth_to_lips
    lips = torch.addcmul(offset, lips, scale)
    skin = _sample_layers(identity.lips, upsample(lips, grid, grid.cell))
    tint = upsample(lips + identity.tint_shift, grid, grid.cell // 2)
    tint = _sample_layers(identity.lip_tint.expand(2, -1, -1, -1), tint)
    luma, depth, lower, ramp = skin.flatten(1, 2).split(1, 1)
    chroma, lower_chroma = tint.unbind(1)

    if parted:
        hole = identity.hole.grid
        x, y = hole.left - grid.left, hole.top - grid.top
        area = (..., slice(y, y + hole.height), slice(x, x + hole.width))
        x, y, height, width = x // 2, y // 2, hole.height // 2, hole.width // 2
        half = (..., slice(y, y + height), slice(x, x + width))
        inside = _inside(identity, weights, depth[area].clamp(min=0), 1.0 - ramp[area])
        luma[area].lerp_(inside[0], inside[2])
        chroma[half].lerp_(inside[1], functional.avg_pool2d(inside[2], 2))
    jaw = ramp.clamp(0, 1)
    luma = torch.lerp(luma, lower, jaw)
    chroma = torch.lerp(chroma, lower_chroma, functional.avg_pool2d(jaw, 2))

    x, y = grid.left - identity.face.grid.left, grid.top - identity.face.grid.top
    planes.paint(luma, chroma, x, y, identity.mouth_blend)


def _inside(
    identity: WarpIdentity, weights: torch.Tensor, depth: torch.Tensor, to_lower: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Luma and chroma of the mouth's inside, and how open the lips are over it.

    Args:
        identity: whose.
        weights: of the fields.
        depth: pixels below the upper lip, (n, 1, h, w).
        to_lower: pixels above the lower lip, likewise; may be negative.
    """
    field, grid = identity.hole, identity.hole.grid
    at = invert(_displacement(field, weights, slice(3)), field.base, INSIDE_ITERATIONS)
    scale, offset = identity.hole_to_inside
    at = torch.addcmul(offset, at, scale)
    seen = _sample_layers(identity.inside[:, :2], upsample(at, grid, grid.cell))
    colours, opacity = seen[:, :, :1], seen[:, :, 1]
    tints = _sample_layers(identity.inside[:, 2:], upsample(at, grid, grid.cell // 2))

    to_lower = to_lower.clamp(min=0)
    # Through a narrow slit one sees the dark, not the teeth's edges as a row of dots.
    slit = (depth + to_lower) * (1.0 / (0.035 * identity.unit))
    dark = 0.9 * torch.exp(-slit.square())
    # Lips shade what is just behind them, the upper one more.
    light = 1 - 0.34 * torch.exp(depth * (-1.0 / (0.035 * identity.unit)))
    light = light * (1 - 0.25 * torch.exp(to_lower * (-1.0 / (0.02 * identity.unit))))
    # From the front to the back: slit, upper teeth, lower teeth, tongue.
    masks = torch.cat([light, dark, opacity], 1)
    luma, chroma = (
        _lit(identity.black[:, channels], identity.cavity[:, channels], layers, shares)
        for channels, layers, shares in (
            (slice(1), colours, masks),
            (slice(1, 3), tints, functional.avg_pool2d(masks, 2)),
        )
    )
    return luma, chroma, (depth * (1.0 / LIP_EDGE)).clamp(max=1)


def _lit(
    black: torch.Tensor, cavity: torch.Tensor, layers: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Upper teeth, lower teeth and tongue, (n, 3, channels, h, w), before the cavity.

    ``shares``, (n, 5, h, w): light, dark of a narrow slit, opacities of the three.
    """
    out = torch.lerp(cavity, layers[:, 2], shares[:, 4:])
    out = torch.lerp(out, layers[:, 1], shares[:, 3:4])
    out = torch.lerp(out, layers[:, 0], shares[:, 2:3])
    out = torch.lerp(out, cavity, shares[:, 1:2])
    return torch.lerp(black, out, shares[:, :1])


def _sample_layers(layers: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Samples of each layer, (layers, channels, rows, columns), at its own places.

    Args:
        layers: of one identity.
        at: (n * layers, 2, h, w), coordinates of each.

    Returns:
        (n, layers, channels, h, w).
    """
    count, channels = layers.shape[:2]
    height, width = at.shape[2:]
    # Pictures lie below each other, so that no layer has to be repeated for them.
    places = at.view(-1, count, 2, height, width).permute(1, 0, 3, 4, 2)
    out = sample(layers, places.reshape(count, -1, width, 2))
    return out.view(count, channels, -1, height, width).permute(2, 0, 1, 3, 4)


def _pack(identity: WarpIdentity, luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Planes of the moving part, pasted into the still picture: uint8 (n, height * 3/2, width)."""
    n = len(luma)
    width, height = identity.canvas.width, identity.canvas.height
    grid = identity.face.grid
    out = identity.still.expand(n, -1, -1).clone()
    area = (slice(grid.top, grid.top + grid.height), slice(grid.left, grid.left + grid.width))
    out[:, *area].copy_(_bytes(luma)[:, 0])
    planes = out[:, height:].view(n, 2, height // 2, width // 2)
    x, y = grid.left // 2, grid.top // 2
    area = (slice(y, y + grid.height // 2), slice(x, x + grid.width // 2))
    planes[:, :, *area].copy_(_bytes(chroma))
    return out


def _bytes(values: torch.Tensor) -> torch.Tensor:
    """Fit to be cut off to whole bytes; in place."""
    return values.add_(0.5).clamp_(0, 255)
