"""The inside of the mouth: teeth, tongue and cavity, drawn once per person in the photo's light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.face import topology
from models.i420 import OFFSET, rgb_to_yuv, yuv_to_rgb
from models.warp.build.anatomy import FaceFrame
from models.warp.build.mouth.lips import LipLines
from models.warp.build.mouth.own_teeth import find_own_teeth
from models.warp.build.mouth.teeth import (
    LOWER_EDGE,
    LOWER_HEIGHT,
    UPPER_HEIGHT,
    along_arch,
    draw_row,
    lower_edge,
    upper_edge,
)
from models.warp.build.mouth.tongue import draw_tongue
from models.warp.build.mouth.tooth_row import ToothRow, paint_row
from models.warp.build.texture import Window
from models.warp.motion.blend_shape import (
    TEETH_JAW,
    TEETH_SHARE,
    TONGUE_JAW,
    TONGUE_SHARE,
    BlendShape,
)

BRIGHTER = 1.6
"""How much brighter teeth may be than anything seen between the photo's parted lips."""
SHADE = np.array([0.4, 2.0, 2.0], np.float32)
"""Light and colour of the lips' shade, of the cavity's."""
MOST_GRAIN = 3.0
"""Strongest grain put on the teeth, in steps of Y: beyond it is texture of the skin."""


@dataclass(frozen=True)
class MouthColours:
    """RGB, 0 to 255, float64 (3,) each."""

    teeth: np.ndarray
    gums: np.ndarray
    tongue: np.ndarray
    cavity: np.ndarray


def mouth_colours(rgb: np.ndarray, landmarks: np.ndarray, frame: FaceFrame) -> MouthColours:
    """Colours of the mouth's inside under the light of the photo.

    How bright teeth look is taken from the skin and from the whites of the eyes, their tint from
    both; flesh takes after the lips.
    """
    points = landmarks[:, :2]
    skin = _median_around(rgb, points[[50, 280, 205, 425, 199]], 0.10 * frame.unit)
    lip = _median_around(rgb, points[[17, 84, 314, 85, 315]], 0.03 * frame.unit)
    white = _eye_white(rgb, points)
    light = max(skin.max() / 205.0, white.max() / 225.0)
    light = float(np.clip(light, 0.3, 1.0))
    tint = 0.5 * white / max(white.max(), 1.0) + 0.5
    tint = 0.75 * tint + 0.25 * skin / max(skin.max(), 1.0)
    teeth = np.array([236.0, 229.0, 214.0]) * light * tint / tint.max()
    lip_hue = lip / max(lip.max(), 1.0)
    flesh = np.array([205.0, 112.0, 108.0]) * light
    gums = 0.5 * flesh + 0.5 * lip_hue * flesh.max()
    tongue = 0.95 * (0.6 * flesh + 0.4 * lip_hue * flesh.max())
    cavity = 0.22 * lip_hue * 200.0 * light * np.array([1.0, 0.68, 0.68])
    return MouthColours(teeth, gums, tongue, cavity)


@dataclass(frozen=True)
class MouthTextures:
    """What is inside the mouth, drawn as with closed lips, over one window of the canvas."""

    window: Window
    layers: np.ndarray
    """float32 (3, 4, 2 height, 2 width): upper teeth, lower teeth, tongue; Y, U, V, opacity."""
    cavity: np.ndarray
    """Y, U, V of the dark: float32 (3,)."""
    shade: np.ndarray
    """Y, U, V of what lies in the lips' shade: the dark's, darker and redder, float32 (3,)."""
    bite: np.ndarray
    """Heights of the upper teeth's edge over the ``x`` of the lips' lines, units: (samples,)."""


def draw_mouth(
    rgb: np.ndarray, landmarks: np.ndarray, frame: FaceFrame, lips: LipLines, sharpness: float
) -> MouthTextures:
    """Draw the mouth's inside for one person: what the photo does not show of it.

    Args:
        rgb: the framed photo, uint8 (height, width, 3).
        landmarks: (478, 3), pixels.
        frame: of the face.
        lips: inner edges of the lips.
        sharpness: blur of the photo as the standard deviation of a Gaussian, pixels.
    """
    yuv = rgb_to_yuv(rgb)
    own = find_own_teeth(yuv, frame, lips)
    colours = mouth_colours(rgb, landmarks, frame)
    if own is not None:
        colours = replace(colours, teeth=yuv_to_rgb(own.colour[None])[0])
        if own.upper is not None and own.upper.gum is not None:
            colours = replace(colours, gums=yuv_to_rgb(own.upper.gum[None])[0] / 0.75)
    elif lips.gap > 0:
        # Parted lips show how much light gets in there.
        limit = (
            BRIGHTER * _brightest_between(yuv, frame, lips) / rgb_to_yuv(colours.teeth[None])[0, 0]
        )
        dim = min(1.0, limit)
        # Little light has come in past the lips, and is as red.
        colours = replace(
            colours, teeth=colours.teeth * dim * (1.0 - (1.0 - dim) * np.array([0.0, 0.10, 0.14]))
        )
    half = 0.62 * frame.unit
    left, top = np.floor(frame.origin - (half, 0.62 * frame.unit)).astype(int)
    window = Window(int(left), int(top), int(2 * half) + 2, int(1.2 * frame.unit) + 2)
    at = frame.to_frame(window.positions())
    closed = float(lips.closed_at(np.array(0.0)))
    x, y = at[..., 0], at[..., 1] - closed
    # Faces differ in the width of their mouths, teeth go along with about half of that.
    turn = mesh_yaw(landmarks)
    spread = (frame.half_width_left + frame.half_width_right) / (0.8 * np.cos(turn))
    widening = 0.5 + 0.5 * spread
    x = along_arch(x, turn) / widening
    blur = 2 * np.hypot(sharpness, 0.35)
    upper, lower = (own.upper, own.lower) if own else (None, None)
    rows = []
    for row, is_upper in ((upper, True), (lower, False)):
        # Teeth are where the photo has them, but the lower ones go back with the jaw.
        back = 0.0 if row is None or is_upper else _middle(row) - closed - LOWER_EDGE
        height = _above_edge(row, is_upper, at, x, y, back)
        size = UPPER_HEIGHT if is_upper else LOWER_HEIGHT
        if row is not None and row.gum is not None:
            size = float(np.median(row.length))
        picture = draw_row(x, height, size, colours.teeth, colours.gums, is_upper)
        drawn = _finish(*picture, blur)
        if row is not None:
            drawn = _with_own(drawn, row, yuv, frame, at + np.array([0.0, back]), is_upper)
        rows.append(drawn)
    tongue = _finish(*draw_tongue(x, y, colours.tongue), blur + 0.02 * frame.unit)
    layers = np.stack([*rows, tongue])
    layers[:, 0] += _grain(yuv, landmarks, frame, layers.shape[2:], sharpness)
    if upper is None:
        bite = closed + upper_edge(along_arch(lips.x, turn) / widening)
    else:
        bite = upper.at(upper.edge, lips.x)
    cavity = rgb_to_yuv(colours.cavity[None])[0]
    # Light comes in through the lips: what they shade is warm, or teeth would look blue in it.
    shade = OFFSET + SHADE * (cavity - OFFSET)
    return MouthTextures(window, layers, cavity, shade, bite)


def _above_edge(
    row: ToothRow | None, is_upper: bool, at: np.ndarray, x: np.ndarray, y: np.ndarray, back: float
) -> np.ndarray:
    """Height above the biting edge of drawn teeth: they go on from those that the photo shows."""
    if row is not None:
        edge = row.at(row.edge, at[..., 0]) - back
        return edge - at[..., 1] if is_upper else at[..., 1] - edge
    return upper_edge(x) - y if is_upper else y - lower_edge(x)


def mesh_yaw(landmarks: np.ndarray) -> float:
    """How far the mesh's eyes are turned to the picture's right, radians."""
    right, left = landmarks[topology.RIGHT_EYE_CORNERS[0]], landmarks[topology.LEFT_EYE_CORNERS[0]]
    return float(np.arctan2(left[2] - right[2], left[0] - right[0]))


def _brightest_between(yuv: np.ndarray, frame: FaceFrame, lips: LipLines) -> float:
    """Y of the brightest that is seen between the photo's parted lips."""
    x = np.linspace(0.7 * lips.x[0], 0.7 * lips.x[-1], 80)
    share = np.linspace(0.1, 0.85, 24)[:, None]
    y = lips.upper_at(x) + share * (lips.lower_at(x) - lips.upper_at(x))
    at = frame.to_pixels(np.stack([np.broadcast_to(x, y.shape), y], -1)).astype(np.float32)
    return float(
        np.percentile(cv2.remap(yuv[..., 0], at[..., 0], at[..., 1], cv2.INTER_LINEAR), 97)
    )


def _grain(
    yuv: np.ndarray,
    landmarks: np.ndarray,
    frame: FaceFrame,
    shape: tuple[int, ...],
    sharpness: float,
) -> np.ndarray:
    """Noise like that of the photo's cheeks, as blurred as the photo, of a texture's ``shape``."""
    mask = np.zeros(yuv.shape[:2], np.uint8)
    for x, y in landmarks[[50, 280, 205, 425], :2]:
        cv2.circle(mask, (round(float(x)), round(float(y))), round(0.1 * frame.unit), 1, -1)
    fine = yuv[..., 0] - cv2.GaussianBlur(yuv[..., 0], (0, 0), 1.5)
    inside = fine[mask > 0]
    strength = min(1.48 * float(np.median(np.abs(inside))), MOST_GRAIN) if len(inside) else 0.0
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2 * max(sharpness, 0.4))
    return blurred * (strength / float(blurred.std()))


def rigid_layers(nodes: int) -> list[np.ndarray]:
    """Fields of what does not bend: skull, lower teeth, tongue. float32 (shapes, 2, nodes) each."""
    skull, teeth, tongue = (np.zeros((len(BlendShape), 2, nodes), np.float32) for _ in range(3))
    teeth[BlendShape.OPEN, 1], teeth[BlendShape.JAW, 1] = TEETH_SHARE, TEETH_JAW
    tongue[BlendShape.OPEN, 1], tongue[BlendShape.JAW, 1] = TONGUE_SHARE, TONGUE_JAW
    tongue[BlendShape.TONGUE, 1] = -1.0
    return [skull, teeth, tongue]


def _middle(row: ToothRow) -> float:
    """Height of the row's biting edge in the middle of the mouth, units."""
    return float(np.average(row.edge, weights=row.weight * np.exp(-((row.x / 0.12) ** 2)) + 1e-9))


def _with_own(
    drawn: np.ndarray,
    row: ToothRow,
    yuv: np.ndarray,
    frame: FaceFrame,
    at: np.ndarray,
    upper: bool,
) -> np.ndarray:
    """A drawn row (4, height, width) with the person's own teeth over it as far as they go."""
    painted, opacity, weight = paint_row(row, yuv, frame, at, upper)
    drawn = _as_bright(drawn, row, at[..., 0])
    colour = drawn[:3] + weight * (painted.transpose(2, 0, 1) - drawn[:3])
    opacity = drawn[3] + weight * (opacity - drawn[3])
    return np.concatenate([colour, opacity[None]]).astype(np.float32)


def _as_bright(drawn: np.ndarray, row: ToothRow, x: np.ndarray) -> np.ndarray:
    """Drawn teeth as bright as those beside them that the photo shows."""
    out = drawn.copy()
    known = row.x[row.weight > 0.5]
    for side, end in ((-1, known[0]), (1, known[-1])):
        near = (np.abs(x - end) < 0.04) & (drawn[3] > 0.9)
        if not near.any():
            continue
        own = float(np.median(row.colour[np.abs(row.x - end) < 0.04, 0])) - 16
        factor = np.clip(own / max(float(np.median(drawn[0][near])) - 16, 1.0), 0.5, 1.1)
        beyond = side * (x - end) > -0.02
        out[0] = np.where(beyond, 16 + (drawn[0] - 16) * factor, out[0])
    return out


def _finish(rgb: np.ndarray, opacity: np.ndarray, blur: float) -> np.ndarray:
    """YUV and opacity, blurred like the photo: float32 (4, height, width)."""
    yuv = rgb_to_yuv(np.clip(rgb, 0, 255).astype(np.float32))
    layer = np.dstack([yuv, opacity.astype(np.float32)])
    layer = cv2.GaussianBlur(layer, (0, 0), max(blur, 0.3))
    return np.ascontiguousarray(layer.transpose(2, 0, 1))


def _median_around(rgb: np.ndarray, points: np.ndarray, radius: float) -> np.ndarray:
    """Median colour of small discs around points: float64 (3,)."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    for x, y in points:
        cv2.circle(mask, (round(float(x)), round(float(y))), max(1, round(radius)), 1, -1)
    inside = rgb[mask > 0]
    if not len(inside):
        return np.array([190.0, 150.0, 130.0])
    return np.median(inside, axis=0).astype(np.float64)


def _eye_white(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colour of the brightest parts between the lids: float64 (3,)."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    for upper, lower in (
        (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER),
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER),
    ):
        ring = np.concatenate([points[list(upper)], points[list(lower[::-1])]])
        cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
    inside = rgb[mask > 0].astype(np.float64)
    if len(inside) < 8:
        return np.array([200.0, 195.0, 190.0])
    order = inside.sum(1).argsort()
    return inside[order[int(0.75 * len(order)) : max(int(0.95 * len(order)), 1) + 1]].mean(0)
