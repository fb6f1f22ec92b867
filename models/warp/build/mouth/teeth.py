"""Rows of teeth, drawn: where the photo shows none, and where those that it shows end."""

from __future__ import annotations

import numpy as np

from models.warp.build.anatomy import smoothstep

# Widths of the teeth as seen from the front, from the middle outwards, in distances of the pupils
# (about 63 mm): incisors, canine, premolars, molar, the outer ones turned away.
UPPER_WIDTHS = (0.128, 0.100, 0.098, 0.078, 0.066, 0.055)
LOWER_WIDTHS = (0.080, 0.086, 0.092, 0.080, 0.070, 0.055)
UPPER_EDGE = 0.042
"""How far the upper incisors reach below the line where the lips meet, units."""
UPPER_HEIGHT, LOWER_HEIGHT = 0.165, 0.125
"""Height of the middle incisors from edge to gum, units."""
LOWER_EDGE = 0.012
"""How far the lower incisors' edge lies below that line, mouth closed."""
ARCH = 2.0
"""Bend of the dental arch: depth over the square of the half width, 1/units."""
BEHIND_LIPS = 0.10
"""How far the incisors lie behind the lips' surface, units."""


def upper_edge(x: np.ndarray) -> np.ndarray:
    """How far the upper row reaches below the closed lips at places ``x`` along the arch."""
    return UPPER_EDGE - 0.055 * np.clip(np.abs(x) / sum(UPPER_WIDTHS), 0, 1) ** 2


def lower_edge(x: np.ndarray) -> np.ndarray:
    """How far below the closed lips the lower row begins."""
    return LOWER_EDGE + 0.030 * np.clip(np.abs(x) / sum(LOWER_WIDTHS), 0, 1) ** 2


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


def draw_row(
    x: np.ndarray,
    height: np.ndarray,
    size: float,
    teeth: np.ndarray,
    gums: np.ndarray,
    upper: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """A row of teeth with its gums: RGB (rows, columns, 3) and opacity (rows, columns).

    Args:
        x: places along the arch, units, 0 between the middle incisors.
        height: above the line of the row's biting edge, towards the gums, units.
        size: height of the middle teeth from edge to gum, units.
        teeth: RGB of well-lit enamel, (3,).
        gums: RGB, (3,).
        upper: which row.
    """
    # All in float32: at twice the canvas's resolution float64 would take a hundred megabytes.
    x, height = x.astype(np.float32), height.astype(np.float32)
    teeth, gums = teeth.astype(np.float32), gums.astype(np.float32)
    widths = np.array(UPPER_WIDTHS if upper else LOWER_WIDTHS, np.float32)
    bounds = np.concatenate([[0.0], np.cumsum(widths)]).astype(np.float32)
    reach = np.abs(x)
    number = np.clip(np.searchsorted(bounds, reach.ravel(), "right") - 1, 0, len(widths) - 1)
    number = number.reshape(x.shape)
    # -1 at the tooth's inner side, 1 at its outer.
    t = 2 * (reach - bounds[number]) / widths[number] - 1
    arc = np.clip(reach / bounds[-1], 0, 1)
    if upper:
        length = _of_each([1.0, 0.88, 1.0, 0.76, 0.70, 0.67], number) * size
        shorter = _of_each([0.0, 0.014, 0.004, 0.010, 0.013, 0.016], number)
        corner = _of_each([0.014, 0.018, 0.024, 0.016, 0.012, 0.012], number)
    else:
        length = _of_each([1.0, 1.0, 1.12, 0.88, 0.80, 0.80], number) * size
        shorter = _of_each([0.0, 0.002, -0.004, 0.006, 0.010, 0.014], number)
        corner = _of_each([0.008, 0.010, 0.020, 0.014, 0.012, 0.012], number)
    pointed = (number == 2).astype(np.float32)
    above = height - shorter - corner * (np.abs(t) ** (3.5 - 2.0 * pointed))
    """Height above the tooth's own edge."""
    soft = 0.006
    opacity = smoothstep(-soft, soft, above)
    # The neck narrows towards the gum; between two teeth lies a dark line, wider near the edge.
    neck = np.clip(above / length, 0, 1)
    seam = smoothstep(0.80, 1.02, np.abs(t)) * (0.30 + 0.25 * smoothstep(0.5, 0.0, neck))
    round_side = 1 - 0.13 * np.abs(t) ** 2.5
    enamel = round_side * (1 - 0.10 * neck) * (1 - 0.10 * smoothstep(0.035, 0.0, above))
    gloss = 0.07 * np.exp(-((t + 0.15) ** 2) / 0.12 - ((neck - 0.38) ** 2) / 0.05)
    # The arch turns away from the light.
    around = 1 - 0.62 * arc**2
    brightness = (enamel + gloss) * (1 - seam) * around
    warm = np.stack([np.ones_like(neck), 1 - 0.03 * neck, 1 - 0.08 * neck], -1)
    rgb = teeth * warm * brightness[..., None]
    gum_line = length * (1 - 0.10 * t**2) + 0.012 * t**2
    gum = smoothstep(-0.008, 0.008, above - gum_line)[..., None]
    rgb = rgb * (1 - gum) + gums * (0.75 * around)[..., None] * gum
    if not upper:
        rgb = rgb * 0.80
    return rgb, opacity * (1 - smoothstep(0.94, 1.06, reach / bounds[-1]))


def _of_each(values: list[float], number: np.ndarray) -> np.ndarray:
    """A measure of each tooth, for the ``number`` of the tooth at every place."""
    return np.array(values, np.float32)[number]
