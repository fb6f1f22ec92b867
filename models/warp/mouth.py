"""The inside of the mouth: teeth, tongue and cavity, drawn once per person in the photo's light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.face import topology
from models.i420 import rgb_to_yuv, yuv_to_rgb
from models.warp.anatomy import FaceFrame, smoothstep
from models.warp.basis import TEETH_JAW, TEETH_SHARE, TONGUE_JAW, TONGUE_SHARE, Basis
from models.warp.lips import LipLines
from models.warp.own_teeth import ToothRow, find_own_teeth, paint_row
from models.warp.texture import Window

# Widths of the upper teeth as seen from the front, from the middle outwards, in distances of the
# pupils (about 63 mm): incisors, canine, premolars, molar, the outer ones turned away.
UPPER_WIDTHS = (0.128, 0.100, 0.098, 0.078, 0.066, 0.055)
LOWER_WIDTHS = (0.080, 0.086, 0.092, 0.080, 0.070, 0.055)
UPPER_EDGE = 0.042
"""How far the upper incisors reach below the line where the lips meet, units."""
OWN_LENGTH = 0.165
"""Height of a tooth that the photo shows in part, edge to gum, units."""
LOWER_EDGE = 0.012
"""Height of the lower incisors' edge below that line, mouth closed."""
ARCH = 2.0
"""Bend of the dental arch: depth over the square of the half width, 1/units."""
BEHIND_LIPS = 0.10
"""How far the incisors lie behind the lips' surface, units."""
BRIGHTER = 1.45
"""How much brighter teeth may be than anything seen between the photo's parted lips."""
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
    elif lips.gap > 0:
        # Parted lips show how much light gets in there.
        limit = (
            BRIGHTER * _brightest_between(yuv, frame, lips) / rgb_to_yuv(colours.teeth[None])[0, 0]
        )
        colours = replace(colours, teeth=colours.teeth * min(1.0, limit))
    half = 0.62 * frame.unit
    left, top = np.floor(frame.origin - (half, 0.62 * frame.unit)).astype(int)
    window = Window(int(left), int(top), int(2 * half) + 2, int(1.2 * frame.unit) + 2)
    at = frame.to_frame(window.positions())
    closed = float(lips.closed_at(np.array(0.0)))
    x, y = at[..., 0], at[..., 1] - closed
    # Faces differ in the width of their mouths, teeth go along with about half of that.
    turn = mesh_yaw(landmarks)
    spread = (frame.half_width_left + frame.half_width_right) / (0.8 * np.cos(turn))
    x = along_arch(x, turn) / (0.5 + 0.5 * spread)
    blur = 2 * np.hypot(sharpness, 0.35)
    upper, lower = (own.upper, own.lower) if own else (None, None)
    # The upper teeth are where the photo has them, the lower ones go back with the jaw.
    shift = 0.0 if upper is None else _middle(upper) - closed - UPPER_EDGE
    drawn = _finish(*_teeth(x, y - shift, colours, upper=True), blur)
    rows = [drawn if upper is None else _with_own(drawn, upper, yuv, frame, at, True)]
    drawn = _finish(*_teeth(x, y, colours, upper=False), blur)
    if lower is not None:
        down = np.array([0.0, _middle(lower) - closed - LOWER_EDGE])
        drawn = _with_own(drawn, lower, yuv, frame, at + down, False)
    layers = np.stack([*rows, drawn, _finish(*_tongue(x, y, colours), blur + 0.02 * frame.unit)])
    layers[:, 0] += _grain(yuv, landmarks, frame, layers.shape[2:], sharpness)
    if upper is None:
        bite = closed + upper_edge(along_arch(lips.x, turn) / (0.5 + 0.5 * spread))
    else:
        bite = upper.at(upper.edge, lips.x)
    return MouthTextures(window, layers, rgb_to_yuv(colours.cavity[None])[0], bite)


def upper_edge(x: np.ndarray) -> np.ndarray:
    """How far drawn upper teeth reach below the closed lips at a place ``x`` along the arch."""
    return UPPER_EDGE - 0.055 * np.clip(np.abs(x) / sum(UPPER_WIDTHS), 0, 1) ** 2


def mesh_yaw(landmarks: np.ndarray) -> float:
    """How far the mesh's eyes are turned to the picture's right, radians."""
    right, left = landmarks[topology.RIGHT_EYE_CORNERS[0]], landmarks[topology.LEFT_EYE_CORNERS[0]]
    return float(np.arctan2(left[2] - right[2], left[0] - right[0]))


def along_arch(x: np.ndarray, yaw: float) -> np.ndarray:
    """Place along the arch of the teeth, as seen from the front, of what a turned head shows at x.

    The arch is a parabola ``depth = ARCH * X^2`` behind the lips, and a turn shows
    ``x = X cos(yaw) - depth sin(yaw)``: the far side is compressed, the near one stretched. Places
    no tooth can be seen at get one beyond the row's end.
    """
    sin, cos = np.sin(yaw), np.cos(yaw)
    if abs(sin) < 0.01:
        return x
    inside = cos * cos - 4 * ARCH * sin * (x + BEHIND_LIPS * sin)
    place = (cos - np.sqrt(np.maximum(inside, 0.0))) / (2 * ARCH * sin)
    return np.where(inside > 0, place, np.sign(sin) * 9.0)


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
    """Fields of what does not bend: skull, lower teeth, tongue. float32 (basis, 2, nodes) each."""
    skull, teeth, tongue = (np.zeros((len(Basis), 2, nodes), np.float32) for _ in range(3))
    teeth[Basis.OPEN, 1], teeth[Basis.JAW, 1] = TEETH_SHARE, TEETH_JAW
    tongue[Basis.OPEN, 1], tongue[Basis.JAW, 1] = TONGUE_SHARE, TONGUE_JAW
    tongue[Basis.TONGUE, 1] = -1.0
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
    painted, above, weight = paint_row(row, yuv, frame, at, upper)
    gum = smoothstep(OWN_LENGTH - 0.01, OWN_LENGTH + 0.01, above)
    colour = drawn[:3] + ((1 - gum) * weight) * (painted.transpose(2, 0, 1) - drawn[:3])
    opacity = drawn[3] + weight * (smoothstep(-0.006, 0.006, above) - drawn[3])
    return np.concatenate([colour, opacity[None]]).astype(np.float32)


def _finish(rgb: np.ndarray, opacity: np.ndarray, blur: float) -> np.ndarray:
    """YUV and opacity, blurred like the photo: float32 (4, height, width)."""
    yuv = rgb_to_yuv(np.clip(rgb, 0, 255).astype(np.float32))
    layer = np.dstack([yuv, opacity.astype(np.float32)])
    layer = cv2.GaussianBlur(layer, (0, 0), max(blur, 0.3))
    return np.ascontiguousarray(layer.transpose(2, 0, 1))


def _teeth(
    x: np.ndarray, y: np.ndarray, colours: MouthColours, upper: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A row of teeth with its gums, (rgb, opacity); ``y`` counts down from the closed lips."""
    widths = np.array(UPPER_WIDTHS if upper else LOWER_WIDTHS)
    bounds = np.concatenate([[0.0], np.cumsum(widths)])
    reach = np.abs(x)
    number = np.clip(np.searchsorted(bounds, reach.ravel(), "right") - 1, 0, len(widths) - 1)
    number = number.reshape(x.shape)
    # -1 at the tooth's inner side, 1 at its outer.
    t = 2 * (reach - bounds[number]) / widths[number] - 1
    arc = np.clip(reach / bounds[-1], 0, 1)
    if upper:
        down = y
        edge = UPPER_EDGE - 0.055 * arc**2
        length = np.array([0.165, 0.145, 0.165, 0.125, 0.115, 0.11])[number]
        shorter = np.array([0.0, 0.014, 0.004, 0.012, 0.016, 0.02])[number]
        corner = np.array([0.014, 0.020, 0.030, 0.022, 0.018, 0.018])[number]
    else:
        # The same picture upside down.
        down = -y
        edge = -LOWER_EDGE - 0.030 * arc**2
        length = np.array([0.125, 0.125, 0.14, 0.11, 0.10, 0.10])[number]
        shorter = np.array([0.0, 0.002, -0.004, 0.006, 0.010, 0.014])[number]
        corner = np.array([0.008, 0.010, 0.024, 0.018, 0.016, 0.016])[number]
    pointed = (number == 2).astype(float)
    tip = edge - shorter - corner * (np.abs(t) ** (3.5 - 2.0 * pointed))
    above = tip - down
    """Height above the tooth's edge, towards its gum."""
    soft = 0.006
    opacity = smoothstep(-soft, soft, above)
    # The neck narrows towards the gum; between two teeth lies a dark line, wider near the edge.
    neck = np.clip(above / length, 0, 1)
    seam = smoothstep(0.80, 1.02, np.abs(t)) * (0.30 + 0.25 * smoothstep(0.5, 0.0, neck))
    round_side = 1 - 0.13 * np.abs(t) ** 2.5
    enamel = round_side * (1 - 0.10 * neck) * (1 - 0.10 * smoothstep(0.035, 0.0, above))
    gloss = 0.07 * np.exp(-((t + 0.15) ** 2) / 0.12 - ((neck - 0.38) ** 2) / 0.05)
    brightness = (enamel + gloss) * (1 - seam)
    # The arch turns away from the light.
    around = 1 - 0.55 * arc**2
    warm = np.stack([np.ones_like(neck), 1 - 0.03 * neck, 1 - 0.08 * neck], -1)
    rgb = colours.teeth * warm * (brightness * around)[..., None]
    gum_line = length * (1 - 0.10 * t**2 * 1.0) + 0.012 * (np.abs(t) ** 2)
    gum = smoothstep(-0.008, 0.008, above - gum_line)[..., None]
    rgb = rgb * (1 - gum) + colours.gums * (0.75 * around)[..., None] * gum
    if not upper:
        rgb = rgb * 0.80
    opacity = opacity * (1 - smoothstep(0.94, 1.06, reach / bounds[-1]))
    return rgb, opacity


def _tongue(x: np.ndarray, y: np.ndarray, colours: MouthColours) -> tuple[np.ndarray, np.ndarray]:
    """The tongue lying behind the lower teeth, (rgb, opacity)."""
    across = np.clip(np.abs(x) / 0.30, 0, 1)
    top = 0.012 + 0.09 * across**2.2 + 0.010 * np.exp(-((x / 0.03) ** 2))
    below = y - top
    opacity = smoothstep(-0.006, 0.016, below) * (1 - smoothstep(0.75, 1.0, across))
    light = 0.52 + 0.30 * np.exp(-(((below - 0.05) / 0.045) ** 2)) - 0.20 * across**2
    light *= 1 - 0.22 * np.exp(-((x / 0.018) ** 2)) * smoothstep(0.0, 0.05, below)
    return colours.tongue * light[..., None], opacity


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
