"""Paint the sample portrait, ``assets/portrait.jpg``: a person who does not exist.

The face is a height field built of soft bumps, lit by a lamp and the sky; hair, brows and lashes
are single strokes. Lengths are centimetres on the head, x to the picture's right, y up, origin
between the nose's tip and its bridge.

    python scripts/make_sample_portrait.py [out.jpg]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 1536, 1280
SUPER = 2
"""The painting is made this many times larger and scaled down at the end."""
SCALE = 29 * SUPER
"""Pixels per cm."""
CENTRE = (768 * SUPER, 600 * SUPER)
SHIFT = 4
"""Bits of sub-pixel precision of drawn outlines."""

SKIN = (226, 172, 142)
SKIN_RED = (214, 120, 100)
LIP = (186, 92, 88)
HAIR = (62, 38, 26)
HAIR_LIGHT = (168, 112, 70)
SHIRT = (44, 84, 104)

Colour = tuple[float, float, float]


def pixels(points: np.ndarray | Sequence[tuple[float, float]]) -> np.ndarray:
    """Head coordinates (cm) to canvas pixels, (n, 2)."""
    return np.asarray(points, np.float64) * (SCALE, -SCALE) + CENTRE


def smooth(
    points: Sequence[tuple[float, float]], closed: bool = True, steps: int = 24
) -> np.ndarray:
    """Catmull-Rom curve through points, (n, 2)."""
    p = np.asarray(points, np.float64)
    if closed:
        a, b, c, d = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        ext = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
        a, b, c, d = ext[:-3], ext[1:-2], ext[2:-1], ext[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.vstack([curve, p[-1]])


def trace(text: str) -> list[tuple[float, float]]:
    """Points written as "x,y x,y ..."."""
    return [(float(x), float(y)) for x, y in (point.split(",") for point in text.split())]


def mirrored(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points from top to bottom on the right, and back up on the left."""
    return [*points, *((-x, y) for x, y in reversed(points) if abs(x) > 1e-6)]


class Painting:
    """An RGB canvas, float32 0 to 255, with the grid of head coordinates."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = (WIDTH * SUPER, HEIGHT * SUPER)
        y, x = np.mgrid[0 : self.size[1], 0 : self.size[0]].astype(np.float32)
        self.x, self.y = (x - CENTRE[0]) / SCALE, (CENTRE[1] - y) / SCALE
        self.rgb = np.zeros((self.size[1], self.size[0], 3), np.float32)

    def mask(self, outline: np.ndarray, soft: float = 0.03) -> np.ndarray:
        """Inside of an outline in cm; its edge is ``soft`` cm wide."""
        flat = np.zeros((self.size[1], self.size[0]), np.uint8)
        points = np.round(pixels(outline) * 2**SHIFT).astype(np.int32)
        cv2.fillPoly(flat, [points], 255, cv2.LINE_AA, SHIFT)
        return blur(flat.astype(np.float32) / 255.0, soft)

    def bump(self, x: float, y: float, sx: float, sy: float, turn: float = 0.0) -> np.ndarray:
        """A Gaussian of height 1 at (x, y), turned anticlockwise by ``turn`` degrees."""
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        dx, dy = self.x - x, self.y - y
        return np.exp(-(((dx * c + dy * s) / sx) ** 2 + ((-dx * s + dy * c) / sy) ** 2) / 2)

    def pair(self, x: float, y: float, sx: float, sy: float, turn: float = 0.0) -> np.ndarray:
        """The same on both sides."""
        return self.bump(x, y, sx, sy, turn) + self.bump(-x, y, sx, sy, -turn)

    def lay(self, colour: Colour | np.ndarray, alpha: np.ndarray) -> None:
        """Blend a colour, or a picture, over what is there."""
        self.rgb += (np.asarray(colour, np.float32) - self.rgb) * alpha[:, :, None]

    def shade(self, factor: float, alpha: np.ndarray) -> None:
        """Darken or lighten what is there."""
        self.rgb *= (1 + (factor - 1) * alpha)[:, :, None]

    def strokes(
        self,
        curves: list[np.ndarray],
        colours: list[Colour],
        width: float,
        soft: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        """Thin lines that taper to both ends, (n, 2) cm each."""
        ink, cover = np.zeros_like(self.rgb), np.zeros(self.rgb.shape[:2], np.float32)
        for curve, colour in zip(curves, colours, strict=True):
            points = np.round(pixels(curve) * 2**SHIFT).astype(np.int32)
            parts = np.array_split(np.arange(len(points)), 5)
            for i, part in enumerate(parts):
                thick = max(1, round(width * SCALE * (0.55, 0.85, 1.0, 0.8, 0.4)[i]))
                piece = points[part[0] : part[-1] + 2]
                cv2.polylines(ink, [piece], False, colour, thick, cv2.LINE_AA, SHIFT)
                cv2.polylines(cover, [piece], False, 1.0, thick, cv2.LINE_AA, SHIFT)
        solid = np.clip(cover, 0, 1)
        if soft:
            solid, ink = blur(solid, soft), blur(ink, soft)
        self.rgb += (ink / np.maximum(solid, 1e-3)[:, :, None] - self.rgb) * (solid * alpha)[
            :, :, None
        ]


def blur(image: np.ndarray, cm: float) -> np.ndarray:
    """Gaussian blur by a standard deviation in cm."""
    return cv2.GaussianBlur(image, (0, 0), max(cm * SCALE, 0.3))


FACE = smooth(
    mirrored(
        trace(
            "0,10.2 3.4,9.8 5.7,7.9 6.6,5.0 6.75,2.2 6.5,-0.8 5.95,-3.4 4.9,-6.0 "
            "3.3,-8.1 1.6,-9.2 0,-9.45"
        )
    )
)
EYE_X, EYE_Y = 3.1, 2.45
# From the outer corner over the upper lid to the inner corner and back along the lower lid.
EYE = trace(
    "1.6,0.04 1.2,0.44 0.5,0.72 -0.25,0.7 -0.95,0.34 -1.58,-0.24 -1.05,-0.34 "
    "-0.3,-0.53 0.45,-0.5 1.12,-0.28"
)
LIP_UPPER = mirrored(
    trace("0,-3.84 0.5,-3.66 1.2,-3.86 2.0,-4.13 2.6,-4.28 1.7,-4.40 0.8,-4.44 0,-4.54")
)
LIP_LOWER = mirrored(trace("0,-4.54 0.8,-4.44 1.7,-4.40 2.6,-4.28 1.95,-4.90 1.1,-5.36 0,-5.50"))


def background(art: Painting) -> None:
    """A wall out of focus, light from the left, and a few discs of light."""
    across = np.linspace(0, 1, art.size[0], dtype=np.float32)[None, :, None]
    down = np.linspace(0, 1, art.size[1], dtype=np.float32)[:, None, None]
    art.rgb[:] = np.array((168, 178, 178)) * (1.08 - 0.42 * across - 0.28 * down)
    art.rgb += np.array((26, 12, -8)) * (1 - across) * (1 - down)
    small = cv2.GaussianBlur(art.rng.normal(0, 1, (20, 16, 1)).astype(np.float32), (0, 0), 1.5)
    art.rgb += cv2.resize(small, art.size, interpolation=cv2.INTER_CUBIC)[:, :, None] * 14.0
    for x, y, r, a in (
        (-13, 12, 2.6, 0.10),
        (-16, 5, 1.8, 0.08),
        (13, 15, 2.2, 0.07),
        (15, 6, 3.0, 0.06),
        (-11, 17, 1.5, 0.08),
    ):
        disc = np.clip((r - np.hypot(art.x - x, art.y - y)) / 0.25, 0, 1)
        art.lay((236, 226, 204), blur(disc, 0.15) * a)


def relief(art: Painting) -> np.ndarray:
    """Height of the face towards the viewer, cm."""
    b, p, y = art.bump, art.pair, art.y
    r = np.abs(art.x / 7.1) ** 2.2 + np.abs((y - 0.3) / 10.6) ** 2.4
    z = 6.4 * np.sqrt(np.clip(1 - r, 0, 1) + 0.002)
    z = z - 1.0 * p(3.0, 2.5, 1.45, 0.95) + 0.5 * p(3.15, 2.5, 1.0, 0.72)
    z = z + 0.42 * p(3.1, 4.35, 1.9, 0.6, -8) + 0.25 * b(0, 4.6, 1.2, 0.8)
    # The nose: a ridge that rises towards its tip, then wings and the tip itself.
    along = np.clip((3.6 - y) / 4.6, 0, 1)
    ridge = 0.35 + 1.75 * along**1.3
    base = -1.72 + 0.30 * np.clip(art.x / 1.2, -1.5, 1.5) ** 2
    end = 0.25 * (1 + np.tanh((y - base) / 0.38)) * (1 - np.tanh((y - 3.5) / 0.9))
    z = z + ridge * end * np.exp(-((art.x / (0.72 + 0.22 * along)) ** 2) / 2)
    z = z + 0.30 * b(0, -0.95, 0.8, 0.65) + 0.70 * p(1.22, -1.2, 0.44, 0.46)
    z = z + 0.55 * p(4.0, 0.1, 1.7, 1.5, 20) - 0.22 * p(4.5, -4.0, 1.5, 2.2)
    z = z + 0.60 * b(0, -4.3, 2.5, 2.0) - 0.09 * b(0, -2.95, 0.26, 0.5)
    z = z + 0.06 * p(0.45, -2.95, 0.22, 0.5)
    z = z - 0.10 * b(0, -4.48, 1.3, 0.16) + 0.20 * p(0.65, -4.1, 0.8, 0.3)
    z = z + 0.34 * b(0, -4.95, 1.2, 0.34) - 0.34 * b(0, -6.1, 1.4, 0.45)
    z = z + 0.55 * b(0, -7.7, 1.5, 1.0) - 0.10 * p(2.85, -4.3, 0.32, 0.3)
    return blur(z.astype(np.float32), 0.09)


def light(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse (height, width, 3) and glossy (height, width) light on a relief."""
    dy, dx = np.gradient(z * SCALE)
    n = np.dstack([-dx, dy, np.ones_like(dx)])
    n /= np.linalg.norm(n, axis=2, keepdims=True)
    key = np.array((-0.52, 0.50, 0.72)) / np.linalg.norm((-0.52, 0.50, 0.72))
    lit = n @ key
    # Light wraps around skin, and comes back redder where it grazes.
    wrapped = [np.clip((lit + w) / (1 + w), 0, 1) for w in (0.62, 0.46, 0.40)]
    sky = 0.5 + 0.5 * n[:, :, 1]
    rim = np.clip(n @ np.array((0.92, 0.1, 0.35)), 0, 1) ** 3
    diffuse = np.dstack(wrapped) * 0.86 + (0.20 * sky + 0.10)[:, :, None] * (0.94, 1.0, 1.06)
    bounce = np.clip(-n[:, :, 1], 0, 1)
    diffuse += 0.20 * bounce[:, :, None] * (1.0, 0.86, 0.78)
    diffuse += 0.10 * rim[:, :, None] * (0.9, 1.0, 1.12)
    half = np.add(key, (0, 0, 1))
    gloss = np.clip(n @ (half / np.linalg.norm(half)), 0, 1) ** 26
    return diffuse.astype(np.float32), gloss.astype(np.float32)


def torso(art: Painting) -> None:
    """Neck, shoulders and a round-necked shirt."""
    neck = smooth(
        trace(
            "-3.9,-4 -3.75,-8.5 -3.95,-11.2 -5.4,-13.0 -9,-20 9,-20 5.4,-13.0 "
            "3.95,-11.2 3.75,-8.5 3.9,-4"
        )
    )
    mask = art.mask(neck, 0.05)
    round_ = np.sqrt(np.clip(1 - (art.x / 4.9) ** 2, 0, 1))
    tone = (0.52 + 0.44 * np.clip(round_ * 0.7 + (-art.x / 9), 0, 1))[:, :, None]
    art.lay(np.array(SKIN) * tone * (1.0, 0.95, 0.92), mask)
    art.shade(0.42, mask * blur(art.mask(FACE * (0.96, 1.0) + (0.35, -1.25)), 0.42))
    art.shade(
        1.10, mask * (art.bump(-2.3, -13.2, 1.6, 0.5, -18) + art.bump(2.0, -13.4, 1.6, 0.5, 18))
    )
    art.shade(
        0.86,
        mask
        * (
            art.bump(0, -13.4, 0.6, 0.6)
            + art.bump(-2.4, -13.9, 1.9, 0.4, -16)
            + art.bump(2.4, -14.0, 1.9, 0.4, 16)
        ),
    )
    shirt = smooth(
        trace(
            "-24,-29 -21.5,-21 -16.5,-17 -9,-14.3 -5.7,-12.8 -4.7,-13.5 -2.8,-15.2 "
            "0,-15.9 2.8,-15.2 4.7,-13.5 5.7,-12.8 9,-14.2 16.5,-17 21.5,-21 24,-29 "
            "0,-34"
        )
    )
    mask = art.mask(shirt, 0.04)
    z = 5 * np.sqrt(np.clip(1 - (art.x / 27) ** 2, 0, 1)) + 2.2 * art.pair(12, -19, 6, 4)
    for _ in range(26):
        x, y = art.rng.uniform(-18, 18), art.rng.uniform(-27, -16)
        turn = 55 * np.sign(x) + art.rng.normal(0, 18)
        z = z + art.rng.uniform(-0.22, 0.22) * art.bump(x, y, art.rng.uniform(1.5, 4), 0.45, turn)
    diffuse, _ = light(blur(z.astype(np.float32), 0.12))
    knit = cv2.resize(art.rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), art.size)
    weave = 1 + 0.035 * np.sin(art.y * 34 + 2 * np.sin(art.x * 3)) + 0.03 * knit
    art.lay(np.array(SHIRT) * diffuse * weave[:, :, None] * 1.15, mask)
    collar = smooth(
        trace("-5.75,-12.75 -4.75,-13.6 -2.8,-15.3 0,-16.0 2.8,-15.3 4.75,-13.6 5.75,-12.75"),
        closed=False,
    )
    band = np.vstack([collar, np.add(collar, (0, -0.75))[::-1]])
    art.shade(1.22, art.mask(band, 0.05))
    art.shade(
        0.72,
        art.mask(np.vstack([np.add(collar, (0, 0.28)), collar[::-1]]), 0.12) * (1 - mask) * 0.8,
    )
    art.shade(
        0.62,
        mask
        * blur(
            art.mask(np.vstack([np.add(collar, (0, -0.72)), np.add(collar, (0, -0.95))[::-1]])),
            0.06,
        ),
    )


def strand(art: Painting, points: Sequence[tuple[float, float]], jitter: float) -> np.ndarray:
    """One hair through points, shaken a little."""
    moved = np.asarray(points) + art.rng.normal(0, jitter, (len(points), 2))
    return smooth([(float(x), float(y)) for x, y in moved], closed=False, steps=10)


def hair_colour(art: Painting, sheen: float) -> Colour:
    """A hair's colour; ``sheen`` 0 to 1 is how much light it catches."""
    mix = np.clip(sheen + art.rng.normal(0, 0.14), 0, 1)
    r, g, b = np.array(HAIR) * (1 - mix) + np.array(HAIR_LIGHT) * mix
    return float(r), float(g), float(b)


def hair_behind(art: Painting) -> None:
    """The bob's back and sides."""
    outline = smooth(
        mirrored(
            trace(
                "0,13.2 4.0,12.5 7.0,10.3 8.6,6.2 9.2,0.5 9.3,-4.5 8.9,-8.4 7.3,-10.5 "
                "4.6,-10.9 2,-9 0,-8"
            )
        )
    )
    art.lay(np.array(HAIR) * 0.55, art.mask(outline, 0.12))
    curves, colours = [], []
    for _ in range(1300):
        side = art.rng.choice((-1, 1))
        r = art.rng.uniform(0.70, 1.0)
        curves.append(
            strand(
                art,
                [
                    (side * 6.6 * r, 9.0),
                    (side * 9.0 * r, 4.5),
                    (side * 9.35 * r, -0.5),
                    (side * 9.3 * r, -5.5),
                    (side * (8.9 * r - 0.4), -8.8),
                    (side * (7.6 * r - 0.6), -10.9 + 1.2 * (1 - r)),
                ],
                0.16,
            )
        )
        colours.append(hair_colour(art, 0.05 + 0.30 * (r > 0.9) + (0.16 if side < 0 else 0)))
    art.strokes(curves, colours, 0.05, alpha=0.75)


def ears(art: Painting) -> None:
    """Mostly under the hair."""
    for side in (-1, 1):
        ear = smooth(
            [
                (side * x, y)
                for x, y in (
                    (6.4, 3.2),
                    (7.3, 3.4),
                    (7.7, 2.2),
                    (7.3, 0.2),
                    (6.8, -1.0),
                    (6.4, -0.6),
                )
            ]
        )
        art.lay(np.array(SKIN_RED) * (0.86 if side < 0 else 0.6), art.mask(ear, 0.08))


def skin(art: Painting) -> None:
    """The lit face with its colours, without eyes, brows and lips."""
    z = relief(art)
    diffuse, gloss = light(z)
    albedo = np.zeros_like(art.rgb) + np.array(SKIN, np.float32)
    red = 0.50 * art.pair(4.2, -0.6, 1.7, 1.3) + 0.40 * art.bump(0, -1.0, 1.1, 0.8)
    red = red + 0.22 * art.bump(0, -8.2, 1.6, 0.9) + 0.16 * art.pair(3.1, 3.5, 1.5, 0.5)
    albedo += (np.array(SKIN_RED, np.float32) - albedo) * np.clip(red, 0, 0.6)[:, :, None]
    albedo *= (1 - 0.16 * art.pair(3.0, 1.75, 1.3, 0.35) - 0.06 * art.pair(3.6, -6.6, 2.4, 1.6))[
        :, :, None
    ]
    pores = cv2.resize(art.rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), art.size)
    albedo *= (1 + 0.012 * blur(pores, 0.015))[:, :, None]
    lit = albedo * diffuse + (gloss * 34)[:, :, None] * (1.0, 0.97, 0.93)
    art.lay(lit, art.mask(FACE, 0.07))
    inside = art.mask(FACE, 0.05)
    # Nostrils, and the shadows the nose and the lower lip cast.
    art.shade(0.88, inside * art.bump(0.4, -2.4, 0.8, 0.25, -6))
    for side in (-1, 1):
        art.lay((96, 46, 38), art.bump(side * 0.70, -1.84, 0.27, 0.10, side * -16) * 0.8)
        art.shade(0.86, inside * art.bump(side * 1.75, -1.35, 0.15, 0.42, side * 16))
    art.shade(0.80, inside * art.bump(0.15, -5.78, 1.2, 0.2))
    for side in (-1, 1):
        fold = smooth([(side * 1.95, -1.7), (side * 2.65, -2.7), (side * 3.15, -3.9)], closed=False)
        art.strokes([fold], [(160, 100, 82)], 0.10, soft=0.2, alpha=0.3)


def eye(art: Painting, side: int) -> None:
    """One eye: ball, iris, lids and lashes. ``side`` -1 is the picture's left."""

    def put(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(side * (EYE_X + x), EYE_Y + y) for x, y in points]

    ball = art.mask(smooth(put(EYE)), 0.025)
    cx, cy = side * (EYE_X - 0.02), EYE_Y + 0.10
    art.lay((228, 220, 214), ball)
    art.shade(
        0.66,
        ball
        * np.clip(
            art.pair(EYE_X + 1.3, EYE_Y, 0.5, 0.6) + art.pair(EYE_X - 1.35, EYE_Y, 0.42, 0.6), 0, 1
        ),
    )
    art.lay((206, 132, 122), ball * art.bump(side * (EYE_X - 1.3), EYE_Y - 0.2, 0.16, 0.14) * 0.8)
    d = np.hypot(art.x - cx, art.y - cy)
    angle = np.arctan2(art.y - cy, art.x - cx)
    iris = np.clip((0.66 - d) / 0.05, 0, 1) * ball
    fibre = 1 + 0.14 * np.sin(angle * 37 + 3 * np.sin(angle * 5)) + 0.08 * np.sin(angle * 61)
    depth = np.clip(d / 0.66, 0, 1)
    tone = (0.62 + 0.62 * depth * (1 - depth) * 2.2) * fibre * (1.18 - 0.34 * (art.y - cy + 0.6))
    art.lay(np.array((96, 124, 112)) * tone[:, :, None], iris)
    art.shade(0.35, iris * np.clip((d - 0.52) / 0.13, 0, 1))
    art.lay((150, 104, 58), iris * np.exp(-(((d - 0.27) / 0.07) ** 2)) * 0.5)
    art.lay((14, 10, 10), np.clip((0.27 - d) / 0.04, 0, 1) * ball)
    upper = smooth(put(EYE[:6]), closed=False)
    shadow = np.vstack([upper, np.add(upper, (0, -0.34))[::-1]])
    art.shade(0.50, ball * blur(art.mask(shadow), 0.09))
    glint = np.clip((0.125 - np.hypot(art.x - cx + 0.19, art.y - cy - 0.2)) / 0.05, 0, 1)
    art.lay((255, 252, 246), glint * ball * 0.96)
    art.lay((210, 226, 236), art.bump(cx + 0.2, cy - 0.26, 0.12, 0.07) * iris * 0.4)
    lower = smooth(put([*EYE[5:], EYE[0]]), closed=False)
    art.strokes([lower], [(150, 92, 80)], 0.07, soft=0.03, alpha=0.75)
    art.strokes([upper], [(34, 20, 16)], 0.17, soft=0.025, alpha=0.95)
    crease = smooth(put(trace("1.85,0.34 1.3,0.86 0.45,1.14 -0.45,1.06 -1.3,0.48")), closed=False)
    art.strokes([crease], [(128, 74, 60)], 0.09, soft=0.06, alpha=0.75)
    lid = np.vstack([upper, crease])
    art.shade(1.06, art.mask(lid, 0.1) * (1 - ball) * 0.5)
    lashes, inks = [], []
    for t in np.sort(art.rng.uniform(0.03, 0.84, 34)):
        root = upper[int(t * (len(upper) - 1))]
        out = side * (0.75 - 1.05 * t)
        length = art.rng.uniform(0.16, 0.34) * (1.2 - 0.6 * t)
        out += art.rng.normal(0, 0.12)
        tip = np.add(root, (out * length, length * (0.75 + 0.35 * t)))
        bend = (root + tip) / 2 + (out * 0.07, -0.05)
        lashes.append(smooth([tuple(root), tuple(bend), tuple(tip)], closed=False, steps=6))
        inks.append((26.0, 16.0, 14.0))
    art.strokes(lashes, inks, 0.03, soft=0.012, alpha=0.75)


def brows(art: Painting) -> None:
    """Strokes that grow up and outwards."""
    for side in (-1, 1):
        spine = smooth(trace("1.3,4.2 2.3,4.58 3.4,4.82 4.5,4.62 5.2,4.15"), closed=False)
        art.lay(
            np.array(HAIR) * 1.35,
            blur(
                art.mask(
                    np.vstack([np.add(spine, (0, 0.2)), (spine - (0, 0.2))[::-1]]) * (side, 1)
                ),
                0.1,
            )
            * 0.55,
        )
        curves, inks = [], []
        for _ in range(420):
            t = art.rng.uniform(0, 1)
            x, y = spine[int(t * (len(spine) - 1))]
            y += art.rng.normal(0, 0.15 * (1.15 - 0.75 * t))
            turn = np.radians(72 - 82 * t + art.rng.normal(0, 9))
            length = art.rng.uniform(0.30, 0.52)
            end = (x + np.cos(turn) * length, y + np.sin(turn) * length * 0.8)
            mid = ((x + end[0]) / 2 + 0.03, (y + end[1]) / 2 - 0.02)
            curves.append(
                smooth(
                    [
                        (side * x, y - 0.1),
                        (side * mid[0], mid[1] - 0.1),
                        (side * end[0], end[1] - 0.1),
                    ],
                    closed=False,
                    steps=6,
                )
            )
            inks.append(hair_colour(art, 0.10))
        art.strokes(curves, inks, 0.034, soft=0.015, alpha=0.6)


def mouth(art: Painting) -> None:
    """Closed lips."""
    before = art.rgb.copy()
    both = np.clip(art.mask(smooth(LIP_UPPER), 0.07) + art.mask(smooth(LIP_LOWER), 0.07), 0, 1)
    tint = before * (np.array(LIP) / np.array(SKIN)) * 1.08
    art.lay(tint, both * 0.88)
    art.shade(0.82, art.mask(smooth(LIP_UPPER), 0.08))
    grain = cv2.resize(art.rng.normal(0, 1, (60, WIDTH)).astype(np.float32), art.size)
    art.shade(0.93, both * np.clip(blur(grain, 0.02), 0, 1))
    art.lay(
        (246, 206, 196),
        both * (art.bump(-0.55, -4.86, 0.62, 0.11) * 0.42 + art.bump(0.6, -4.9, 0.4, 0.08) * 0.2),
    )
    line = smooth(
        trace("-2.7,-4.24 -1.7,-4.41 -0.8,-4.45 0,-4.55 0.8,-4.45 1.7,-4.41 2.7,-4.24"),
        closed=False,
    )
    art.strokes([line], [(92, 34, 36)], 0.12, soft=0.04, alpha=0.85)
    art.shade(0.72, art.pair(2.74, -4.24, 0.2, 0.14))


def hair_before(art: Painting) -> None:
    """The crown with a parting, and the locks beside the face."""
    crown = smooth(
        trace(
            "-1.7,9.4 -3.7,8.3 -5.2,6.4 -6.2,4.0 -6.5,1.2 -7.0,-2.5 -8.2,-2.5 "
            "-8.7,2.0 -8.3,6.6 -6.9,10.4 -4.0,12.8 -0.4,13.7 3.6,13.0 6.8,10.6 "
            "8.3,6.6 8.7,2.0 8.2,-2.5 7.0,-2.5 6.5,1.2 6.2,3.8 5.2,6.4 2.8,8.4 "
            "0.4,9.6"
        )
    )
    art.shade(0.62, blur(art.mask(np.add(crown, (0.15, -0.5))), 0.25) * art.mask(FACE, 0.1))
    art.lay(np.array(HAIR) * 0.8, art.mask(crown, 0.16))
    curves, colours = [], []
    for _ in range(5200):
        side = art.rng.choice((-1, 1), p=(0.42, 0.58))
        r = art.rng.uniform(0, 1)
        s = art.rng.uniform(0, 1)
        # From the parting at the left, in an arc over the temple, down beside the cheek.
        start = (-1.35 + 0.8 * s - 0.1 * (side < 0), 9.35 + 4.3 * s)
        reach = side * (6.15 + 2.5 * max(r, 0.8 * s))
        over = (reach * 0.60 - 0.3, 8.15 + 4.5 * s)
        wave = 0.25 * side * np.sin(9 * r)
        curve = strand(
            art,
            [
                start,
                over,
                (reach * 0.93, 4.6 + 2.6 * s),
                (reach + wave, 1.0),
                (reach * 1.03 - wave, -3.4),
                (reach * (1.0 - 0.08 * (1 - r)), -7.2 - 1.6 * r),
            ],
            0.11,
        )
        cut = art.rng.uniform(0.25, 1.0)
        curve = curve[: max(8, int(len(curve) * cut))]
        sheen = (
            0.55 * np.exp(-(((curve[:, 1].mean() - 8.2) / 2.2) ** 2)) * (1.25 if side < 0 else 0.75)
        )
        curves.append(curve)
        colours.append(hair_colour(art, 0.10 + sheen * art.rng.uniform(0.1, 1.0)))
    order = np.argsort([sum(c) + art.rng.normal(0, 60) for c in colours])
    art.strokes([curves[i] for i in order], [colours[i] for i in order], 0.042, alpha=0.72)
    stray, inks = [], []
    for _ in range(90):
        a = art.rng.uniform(0.15, np.pi - 0.15)
        base = np.array((8.2 * np.cos(a), 5.6 + 8.0 * np.sin(a)))
        out = base * (1.0 + art.rng.uniform(0.0, 0.035)) + art.rng.normal(0, 0.3, 2)
        stray.append(
            smooth(
                [
                    tuple(base * 0.985),
                    tuple((base + out) / 2 + art.rng.normal(0, 0.12, 2)),
                    tuple(out),
                ],
                closed=False,
                steps=8,
            )
        )
        inks.append(hair_colour(art, 0.3))
    art.strokes(stray, inks, 0.02, alpha=0.4)


def finish(art: Painting) -> np.ndarray:
    """Scale down, a vignette, a little grain: uint8 RGB (HEIGHT, WIDTH, 3)."""
    small = cv2.resize(art.rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    edge = np.hypot((x - WIDTH / 2) / WIDTH, (y - HEIGHT * 0.45) / HEIGHT)
    small = small * (1.03 - 0.32 * np.clip(edge - 0.25, 0, 1))[:, :, None]
    small += art.rng.normal(0, 1.6, (HEIGHT, WIDTH, 1))
    return np.round(small).clip(0, 255).astype(np.uint8)


def paint(seed: int = 7) -> np.ndarray:
    """The portrait: uint8 RGB, shape (1280, 1536, 3)."""
    art = Painting(seed)
    background(art)
    hair_behind(art)
    torso(art)
    ears(art)
    skin(art)
    eye(art, -1)
    eye(art, 1)
    brows(art)
    mouth(art)
    hair_before(art)
    return finish(art)


def main() -> None:
    parser = argparse.ArgumentParser(description="Paint the sample portrait.")
    default = Path(__file__).resolve().parent.parent / "assets" / "portrait.jpg"
    parser.add_argument("out", type=Path, nargs="?", default=default)
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.cvtColor(paint(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 87])


if __name__ == "__main__":
    main()
