"""Blinks and gaze, frame by frame: the eye's layers moved and laid over each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.warp.grid import sample
from models.warp.motion import INDEX

MEET = 0.90
"""Where the lids meet, from the upper lid's open place (0) to the lower's (1)."""
LOWER_RISE = 0.12
"""How far the lower lid comes up in a blink, over the opening of the eye."""
LASH_BAND = 0.10
"""Height of the strip along the lash line that moves without stretching, in eye units."""
LASH_WIDTH = 0.045
"""Thickness of the line the lashes of a shut eye draw."""


@dataclass(frozen=True)
class EyeTensors:
    """Both eyes (right, left) ready for rendering."""

    texture: torch.Tensor
    """(2, 3, 2 height, 2 width): Y, U, V around each eye."""
    skin: torch.Tensor
    """(2, 3, height, width): the skin of a shut lid, over the same window."""
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


def blend_eyes(eyes: EyeTensors, source: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Eyes and the skin around them: (n, 2, 3, h, w), YUV.

    Args:
        eyes: of one identity.
        source: where each pixel around the eyes came from, the eyes at rest: (n, 2, 2, h, w), eye
            by eye, in coordinates of the luma texture.
        motion: (n, channels).
    """
    n, _, _, height, width = source.shape
    u, v = _affine(eyes.to_own, source.reshape(n, 2, 2, height * width))
    upper_a, upper_b, upper_c, lower_a, lower_b, lower_c, room, ball = eyes.shape.T[
        :, None, :, None
    ]
    arch = (1 - u * u).clamp(min=0)
    upper = arch * (upper_a + u * (upper_b + u * upper_c))
    lower = arch * (lower_a + u * (lower_b + u * lower_c))
    opening = (lower - upper).clamp(min=0)

    blink = motion[:, [INDEX["blink_right"], INDEX["blink_left"]], None].clamp(0, 1)
    gaze = torch.sin(torch.deg2rad(motion[:, [INDEX["gaze_x"], INDEX["gaze_y"]]]))
    gaze_x = gaze[:, :1, None] * ball
    gaze_y = gaze[:, 1:, None] * ball

    # The upper lid: its edge travels, the skin above follows less and less.
    open_share = 1 - blink
    travel = torch.maximum(
        blink * MEET * opening + 0.75 * gaze_y * open_share * arch, -0.2 * opening
    )
    lash = upper + travel
    above = lash - v
    share = ((above - LASH_BAND).clamp(min=0) / (room + travel.clamp(min=0))).clamp(0, 1)
    stretch = 1 - share
    lid_v = v - travel * stretch * stretch.sqrt()
    lid = (above * eyes.pixels + 1.0).clamp(0, 1)

    # The lower lid comes up a little and takes the skin below with it.
    rise = (LOWER_RISE * blink - 0.15 * gaze_y * open_share) * opening
    edge = lower - rise
    below = v - edge
    low_v = v + rise * torch.exp(below.clamp(min=0) * -2.5)
    low = (below * eyes.pixels + 1.0).clamp(0, 1)

    # The eyeball: the photo's own, shifted, but never into the lids.
    ball_u = u - gaze_x * arch.sqrt()
    ball_v = v - gaze_y
    ball_v = torch.maximum(ball_v, torch.minimum(v, upper + 0.09 * opening))
    ball_v = torch.minimum(ball_v, torch.maximum(v, lower - 0.14 * opening))

    strip = height * width
    texture_u, texture_v = _affine(
        eyes.to_texture,
        torch.stack([torch.cat([ball_u, u, u, u], 2), torch.cat([ball_v, low_v, lid_v, v], 2)], 2),
    )
    grid = torch.stack([texture_u, texture_v], -1).transpose(0, 1)
    moved = sample(eyes.texture, grid[:, :, : 3 * strip])
    eyeball, lower_lid, upper_lid = moved.reshape(2, 3, n, 3, strip).permute(3, 2, 0, 1, 4)
    skin = sample(eyes.skin, grid[:, :, 3 * strip :]).permute(2, 0, 1, 3)

    # A closing lid shades the eyeball under it.
    shade = 0.30 * blink * torch.exp(-(-above).clamp(min=0) / (0.5 * opening + 0.02))
    shade = (shade * (arch * 8).clamp(max=1))[:, :, None]
    eyeball = torch.cat(
        [torch.lerp(eyeball[:, :, :1], shade.new_full((), 16.0), shade), eyeball[:, :, 1:]], 2
    )
    # Skin that was folded away shows between lashes and crease, rounded by the eyeball below.
    unfolded = (travel / (opening + 0.05)).clamp(0, 1) * arch.sqrt()
    height_share = above / (0.9 * opening + 0.10)
    bare = unfolded * (height_share * 4 - 0.2).clamp(0, 1) * (2.6 - 1.6 * height_share).clamp(0, 1)
    rounded = 0.86 + 0.16 * torch.exp((height_share - 0.6).square() * -6.0)
    skin = torch.cat([(skin[:, :, :1] - 16) * rounded[:, :, None] + 16, skin[:, :, 1:]], 2)
    upper_lid = torch.lerp(upper_lid, skin, (0.92 * bare)[:, :, None])
    # Lashes gather to a line where the lids meet.
    line = torch.exp(-(((above - 0.3 * LASH_WIDTH) / LASH_WIDTH) ** 2)) * unfolded.square()
    upper_lid = torch.lerp(upper_lid, eyes.lash, (0.75 * line)[:, :, None])

    out = torch.lerp(eyeball, lower_lid, low[:, :, None])
    out = torch.lerp(out, upper_lid, lid[:, :, None])
    return out.reshape(n, 2, 3, height, width)


def _affine(matrix: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (n, 2 eyes, 2, p) mapped by a matrix per eye, (2, 2, 3): both coordinates."""
    a = matrix[None, :, :, :, None]
    x, y = positions[:, :, 0], positions[:, :, 1]
    first, second = (
        torch.addcmul(a[:, :, row, 2], a[:, :, row, 0], x).addcmul_(a[:, :, row, 1], y)
        for row in (0, 1)
    )
    return first, second
