"""Blinks and gaze, frame by frame: the eye's layers moved and laid over each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.warp.eyes import CHART
from models.warp.grid import sample
from models.warp.lids import LASH_RANGE
from models.warp.motion import INDEX

MEET = 0.90
"""Where the lids meet, from the upper lid's open place (0) to the lower's (1)."""
LOWER_RISE = 0.12
"""How far the lower lid comes up in a blink, over the opening of the eye."""
LASH_BAND = 0.10
"""Height of the strip along the lash line that moves without stretching, in eye units."""
SKIN_SLIDE = 0.20
"""How far the photo's own skin above the lash line slides down at most, in eye units: what a
closing lid shows beyond that was folded away in the photo."""
LASH_TURN = 1.55
"""Lashes turn with the lid's edge: their height in the picture goes from 1 in the open eye to
``1 - LASH_TURN`` in the shut one, where they point down."""

LASH_END = 0.45
"""Their height when one looks along them."""


@dataclass(frozen=True)
class EyeTensors:
    """Both eyes (right, left) ready for rendering."""

    texture: torch.Tensor
    """(2, 3, rows, columns): Y, U, V of the photo around each eye."""
    shut: torch.Tensor
    """(2, 4, rows, columns) over ``models.warp.eyes.CHART``: Y of the shut eye without
    lashes, what catch-lights add to the eyeball's Y, U and V of the shut eye."""
    ball: torch.Tensor
    """(2, 3, rows, columns) over the same: Y, U, V of the eyeball."""
    lashes: torch.Tensor
    """(2, 1, rows, columns): opacity over ``models.warp.lids.LASH_RANGE``."""
    frames: torch.Tensor | None
    """(2, 1, rows, columns): opacity of glasses over the same as ``shut``, if any."""
    to_own: torch.Tensor
    """Affine map from coordinates of the whole luma texture to eye coordinates, (2, 2, 3)."""
    to_texture: torch.Tensor
    """From eye coordinates to coordinates of ``texture``, (2, 2, 3)."""
    shape: torch.Tensor
    """(2, 8): upper a, b, c, lower a, b, c, room, eyeball radius; eye coordinates."""
    pixels: torch.Tensor
    """Canvas pixels per eye unit, (2, 1)."""
    lash: torch.Tensor
    """Y, U, V of the lashes, (1, 2, 3, 1)."""


@dataclass(frozen=True)
class _Pose:
    """Where each pixel around the eyes looks its colours up, and how they lie over each other.

    Tensors are (n, 2 eyes, pixels); coordinates are those of the layers of :class:`EyeTensors`.
    """

    skin: tuple[torch.Tensor, torch.Tensor]
    """x and y in ``texture``."""
    shut: tuple[torch.Tensor, torch.Tensor]
    ball: tuple[torch.Tensor, torch.Tensor]
    lashes: tuple[torch.Tensor, torch.Tensor]
    shade: torch.Tensor
    """Share of the eyeball's light that the closing lid takes."""
    unfolded: torch.Tensor
    """Opacity of the shut eye's skin over the photo's."""
    lids: torch.Tensor
    """Opacity of both lids over the eyeball."""
    lashed: torch.Tensor
    """Share of the drawn lashes, (n, 2, 1)."""
    still: tuple[torch.Tensor, torch.Tensor]
    """Coordinates of ``frames``."""


def blend_luma(
    eyes: EyeTensors, source: torch.Tensor, motion: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Y of the eyes and the skin around them, (n, 2, 1, h, w); and how opaque they are where
    glasses may lie over them, (n, 2, 1, h, w).

    Args:
        eyes: of one identity.
        source: where each pixel around the eyes came from, the eyes at rest: (n, 2, 2, h, w), eye
            by eye, in coordinates of the luma texture.
        motion: (n, channels).
    """
    n, _, _, height, width = source.shape
    pose = _pose(eyes, source.reshape(n, 2, 2, height * width), motion)
    skin = _sampled(eyes.texture[:, :1], pose.skin)
    still, lights = _sampled(eyes.shut[:, :2], pose.shut).split(1, 2)
    # Catch-lights stay with the light they mirror.
    ball = _sampled(eyes.ball[:, :1], pose.ball).add_(lights)
    ball.lerp_(ball.new_full((), 16.0), pose.shade[:, :, None])
    out = _laid_over(eyes, pose, ball, skin, still, eyes.lash[:, :, :1])
    out = out.reshape(n, 2, 1, height, width)
    if eyes.frames is None:
        return out, None
    return out, (1 - _sampled(eyes.frames, pose.still)).reshape(n, 2, 1, height, width)


def blend_chroma(eyes: EyeTensors, source: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """U and V of the same, (n, 2, 2, h, w), for the ``source`` of each chroma sample."""
    n, _, _, height, width = source.shape
    pose = _pose(eyes, source.reshape(n, 2, 2, height * width), motion)
    skin = _sampled(eyes.texture[:, 1:], pose.skin)
    still = _sampled(eyes.shut[:, 2:], pose.shut)
    ball = _sampled(eyes.ball[:, 1:], pose.ball)
    out = _laid_over(eyes, pose, ball, skin, still, eyes.lash[:, :, 1:])
    return out.reshape(n, 2, 2, height, width)


def _laid_over(
    eyes: EyeTensors,
    pose: _Pose,
    ball: torch.Tensor,
    skin: torch.Tensor,
    still: torch.Tensor,
    lash: torch.Tensor,
) -> torch.Tensor:
    skin = torch.lerp(skin, still, pose.unfolded[:, :, None])
    out = torch.lerp(ball, skin, pose.lids[:, :, None])
    return torch.lerp(out, lash, _sampled(eyes.lashes, pose.lashes) * pose.lashed[:, :, None])


def _pose(eyes: EyeTensors, source: torch.Tensor, motion: torch.Tensor) -> _Pose:
    u, v = _affine(eyes.to_own, source)
    upper_a, upper_b, upper_c, lower_a, lower_b, lower_c, room, ball = eyes.shape.T[
        :, None, :, None
    ]
    arch = (1 - u * u).clamp(min=0)
    bulge = arch.sqrt()
    upper = arch * (upper_a + u * (upper_b + u * upper_c))
    lower = arch * (lower_a + u * (lower_b + u * lower_c))
    opening = (lower - upper).clamp(min=0)

    blink = motion[:, [INDEX["blink_right"], INDEX["blink_left"]], None].clamp(0, 1)
    open_share = 1 - blink
    gaze = torch.sin(torch.deg2rad(motion[:, [INDEX["gaze_x"], INDEX["gaze_y"]]]))
    gaze_x = gaze[:, :1, None] * ball
    gaze_y = gaze[:, 1:, None] * ball

    # The upper lid: its edge travels, the skin above follows less and less.
    follow = 0.75 * gaze_y * open_share * arch
    travel = torch.maximum(blink * MEET * opening + follow, -0.2 * opening)
    slide = travel * (1 + (travel * (1 / SKIN_SLIDE)).square().square()).rsqrt().sqrt()
    above = upper + travel - v
    stretch = 1 - ((above - LASH_BAND).clamp(min=0) / (room + slide.clamp(min=0))).clamp(max=1)
    lid_v = v - slide * stretch * stretch.sqrt()

    # The lower lid comes up a little and takes the skin below with it.
    rise = (LOWER_RISE * blink - 0.45 * gaze_y * open_share) * opening
    below = v - lower + rise
    low_v = v + rise * torch.exp(below.clamp(min=0) * -2.5)

    on_lid = above > torch.maximum(below, -1 / eyes.pixels)
    photo_v = torch.where(on_lid, lid_v, low_v)
    # Skin that was folded away takes the place of lashes and liner, and last of the rim below.
    drawn = (blink * 3 - 0.45).clamp(0, 1)
    unfolded = torch.where(on_lid, drawn, (blink * 3 - 2).clamp(min=0))
    # Near the border of the chart there is nothing to take over.
    inside = torch.minimum(1.45 - u.abs(), torch.minimum(v + 1.9, 1.2 - v))
    unfolded = unfolded * (inside * 6).clamp(0, 1)
    turned = 1 - LASH_TURN * blink
    turned = torch.where(turned < 0, turned.clamp(max=-LASH_END), turned.clamp(min=LASH_END))
    return _Pose(
        skin=_affine(eyes.to_texture, torch.stack([u, photo_v], 2)),
        shut=_on_chart(u, torch.where(above > 0, lid_v, v)),
        ball=_on_chart(u - gaze_x * bulge, v - gaze_y * bulge),
        lashes=_on_lashes(u, above / turned),
        shade=0.30 * blink * torch.exp(above.clamp(max=0) / (0.5 * opening + 0.02)),
        unfolded=unfolded,
        lids=(torch.maximum(above, below) * eyes.pixels + 1.0).clamp(0, 1),
        lashed=drawn,
        still=_on_chart(u, v),
    )


def _on_chart(u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates of eye charts for eye coordinates."""
    left, top, right, bottom = CHART
    across, down = 2 / (right - left), 2 / (bottom - top)
    return u * across - (left * across + 1), v * down - (top * down + 1)


def _on_lashes(u: torch.Tensor, height: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates of the lashes' charts; ``height`` above the lash line in eye units."""
    across = 2 / (CHART[2] - CHART[0])
    low, high = LASH_RANGE
    up = 2 / (high - low)
    return u * across - (CHART[0] * across + 1), height * -up + (high * up - 1)


def _sampled(texture: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Samples of each eye's texture (2, channels, ...) at (n, 2, p): (n, 2, channels, p)."""
    grid = torch.stack(at, -1).transpose(0, 1)
    return sample(texture, grid).permute(2, 0, 1, 3)


def _affine(matrix: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (n, 2 eyes, 2, p) mapped by a matrix per eye, (2, 2, 3): both coordinates."""
    a = matrix[None, :, :, :, None]
    x, y = positions[:, :, 0], positions[:, :, 1]
    first, second = (
        torch.addcmul(a[:, :, row, 2], a[:, :, row, 0], x).addcmul_(a[:, :, row, 1], y)
        for row in (0, 1)
    )
    return first, second
