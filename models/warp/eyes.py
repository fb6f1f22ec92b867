"""Eyes: lids that slide over an eyeball which stays round, and an iris that turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.face import topology
from models.warp.anatomy import FaceFrame
from models.warp.grid import sample
from models.warp.motion import INDEX
from models.warp.texture import Window

EYEBALL = 0.19
"""Radius of the eyeball in distances of the pupils (12 of 63 mm)."""
MEET = 0.86
"""Where the lids meet, from the upper lid's open place (0) to the lower's (1)."""
LOWER_RISE = 0.13
"""How far the lower lid comes up in a blink, over the opening of the eye."""
LASH_BAND = 0.10
"""Height of the strip along the lash line that moves without stretching, in half eye widths."""


@dataclass(frozen=True)
class EyeShape:
    """One eye in its own coordinates: u from -1 to 1 between the corners, v down, same unit."""

    centre: np.ndarray
    """Pixels, (2,)."""
    along: np.ndarray
    """Vector of u = 1 in pixels, (2,)."""
    upper: np.ndarray
    """Lid's edge: v = (1 - u^2) (a + b u + c u^2), (3,)."""
    lower: np.ndarray
    room: float
    """Height of the skin above the lid's edge that takes part in a blink."""
    window: Window
    """The part of the canvas around the eye at rest."""


def eye_shape(
    landmarks: np.ndarray, frame: FaceFrame, left: bool, size: tuple[int, int]
) -> EyeShape:
    """Fit the lids of the person's left or right eye.

    Args:
        landmarks: (478, 3), pixels.
        frame: of the face.
        left: which eye.
        size: width and height of the window in pixels, even.
    """
    points = landmarks[:, :2].astype(np.float64)
    rows = (
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER, topology.LEFT_BROW_LOWER)
        if left
        else (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER, topology.RIGHT_BROW_LOWER)
    )
    ends = points[[rows[0][0], rows[0][-1]]]
    ends = ends[np.argsort(ends[:, 0])]
    centre = ends.mean(0)
    along = (ends[1] - ends[0]) / 2 * 1.03
    upper = _fit(_own(points[list(rows[0])], centre, along))
    lower = _fit(_own(points[list(rows[1])], centre, along))
    brow = _own(points[list(rows[2])], centre, along)
    top = float(np.median(brow[:, 1]))
    room = float(np.clip(0.85 * (upper[0] - top), 0.35, 1.4))
    left_edge, top_edge = (np.round((centre - np.array(size) / 2) / 2) * 2).astype(int)
    return EyeShape(centre, along, upper, lower, room, Window(int(left_edge), int(top_edge), *size))


def _own(points: np.ndarray, centre: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Eye coordinates of pixel positions."""
    offset = points - centre
    down = np.array([-along[1], along[0]])
    return np.stack([offset @ along, offset @ down], -1) / (along @ along)


def _fit(points: np.ndarray) -> np.ndarray:
    """Least squares of (1 - u^2) (a + b u + c u^2)."""
    u, v = points.T
    bow = 1 - u * u
    basis = np.stack([bow, bow * u, bow * u * u], -1)
    # A little regularisation: half-shut eyes give few reliable points.
    system = np.concatenate([basis, np.diag([0.0, 0.05, 0.15])])
    return np.linalg.lstsq(system, np.concatenate([v, np.zeros(3)]), rcond=None)[0]


@dataclass(frozen=True)
class EyeTensors:
    """Both eyes (right, left) ready for rendering."""

    texture: torch.Tensor
    """(2, 3, 2 height, 2 width): Y, U, V around each eye."""
    to_own: torch.Tensor
    """Affine map from texture-grid coordinates of the whole luma plane to eye coordinates,
    (2, 2, 3)."""
    to_texture: torch.Tensor
    """From eye coordinates to coordinates of ``texture``, (2, 2, 3)."""
    shape: torch.Tensor
    """(2, 8): upper a, b, c, lower a, b, c, room, eyeball radius; eye coordinates."""
    pixels: torch.Tensor
    """Canvas pixels per eye unit, (2, 1)."""


def blend_eyes(eyes: EyeTensors, source: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Eyes and the skin around them: (n, 2, 3, h, w), YUV.

    Args:
        eyes: of one identity.
        source: where each pixel around the eyes came from, the eyes at rest: (n, 2, 2, h, w), eye
            by eye, in coordinates of the luma texture.
        motion: (n, channels).
    """
    n, _, _, height, width = source.shape
    affine = eyes.to_own[None, :, :, :, None]
    flat = source.reshape(n, 2, 1, 2, height * width)
    own = (affine[:, :, :, 0] * flat[:, :, :, 0]) + (affine[:, :, :, 1] * flat[:, :, :, 1])
    own = own + affine[:, :, :, 2]
    u, v = own[:, :, 0], own[:, :, 1]
    upper_a, upper_b, upper_c, lower_a, lower_b, lower_c, room, ball = eyes.shape.T[
        :, None, :, None
    ]
    bow = (1 - u * u).clamp(min=0)
    upper = bow * (upper_a + u * (upper_b + u * upper_c))
    lower = bow * (lower_a + u * (lower_b + u * lower_c))
    opening = (lower - upper).clamp(min=0)

    blink = motion[:, [INDEX["blink_right"], INDEX["blink_left"]], None].clamp(0, 1)
    gaze = torch.sin(torch.deg2rad(motion[:, [INDEX["gaze_x"], INDEX["gaze_y"]]]))
    gaze_x = gaze[:, 0, None, None] * ball
    gaze_y = gaze[:, 1, None, None] * ball

    # The upper lid: its edge travels, the skin above follows less and less.
    follow = 0.75 * gaze_y * (1 - blink) * bow
    travel = torch.maximum(blink * MEET * opening + follow, -0.2 * opening)
    lash = upper + travel
    above = (lash - v - LASH_BAND * travel.sign() * 0.5).clamp(min=0)
    share = (above / (room + travel.clamp(min=0))).clamp(0, 1)
    slide = travel * (1 - share) ** 1.25
    lid_v = v - slide
    lid = ((lash - v) * eyes.pixels + 0.5).clamp(0, 1)

    # The lower lid comes up a little and takes the skin below with it.
    rise = (LOWER_RISE * blink - 0.15 * gaze_y * (1 - blink)) * opening.clamp(min=0)
    edge = lower - rise
    below = (v - edge).clamp(min=0)
    low_v = v + rise * torch.exp(-below * 2.5)
    low = ((v - edge) * eyes.pixels + 0.5).clamp(0, 1)

    # The eyeball: the photo's own, shifted, but never into the lids.
    ball_u = u - gaze_x * bow.sqrt()
    margin = 0.35 * opening
    ball_v = v - gaze_y
    ball_v = torch.maximum(ball_v, torch.minimum(v, upper + 0.25 * margin))
    ball_v = torch.minimum(ball_v, torch.maximum(v, lower - 0.4 * margin))

    layer_u = torch.stack([ball_u, u, u], 2)
    layer_v = torch.stack([ball_v, low_v, lid_v], 2)
    to = eyes.to_texture[None, :, :, :, None, None]
    grid = to[:, :, :, 0] * layer_u[:, :, None] + to[:, :, :, 1] * layer_v[:, :, None]
    grid = grid + to[:, :, :, 2]
    # (n, eye, xy, layer, pixel) -> one long strip of positions per eye.
    grid = grid.permute(1, 0, 3, 4, 2).reshape(2, 1, n * 3 * height * width, 2)
    colour = sample(eyes.texture, grid).reshape(2, 3, n, 3, height * width)
    eyeball, lower_lid, upper_lid = colour.permute(3, 2, 0, 1, 4)
    # A closing lid shades the eyeball under it.
    shade = 1 - 0.30 * blink * torch.exp(-(v - lash).clamp(min=0) / (0.5 * opening + 0.02))
    eyeball = torch.cat([(eyeball[:, :, :1] - 16) * shade[:, :, None] + 16, eyeball[:, :, 1:]], 2)
    out = torch.lerp(eyeball, lower_lid, low[:, :, None])
    out = torch.lerp(out, upper_lid, lid[:, :, None])
    return out.reshape(n, 2, 3, height, width)
