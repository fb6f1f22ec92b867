"""The person's own teeth: found where the photo's lips are parted, completed where they hide.

What a photo shows of a row of teeth is described along the mouth: between which heights it is
seen, where its biting edge is, and what colour each place across has. The rest of the row is made
from that: hidden parts of a tooth continue its own colour, a side that the photo hides mirrors the
other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.mouth.lips import LipLines
from models.warp.build.mouth.teeth import UPPER_HEIGHT
from models.warp.build.mouth.tooth_row import RIM, ToothRow

SEAMS = 1.8
"""How much deeper the gaps between teeth are in parts of them that the photo hides."""
ASIDE = 0.35
"""How much darker teeth may be at the ends of the row, of what they must be brighter in its middle
than the dark."""
_SAMPLES, _ROWS = 201, 48
_MIN_GAP = 0.022
"""Lips closer than this, in units, show nothing that could be told from their rims."""
_MIN_SHARE = 0.22
"""Share of the parted lips' width in which teeth must be seen."""
_END = 5
"""Places left out at both ends of what is seen of a row."""
_ARC = 0.22
"""How far the row rises towards its ends: height over the square of the place across, 1/units."""
_TINT = 4.0
"""How far U and V of one tooth may depart from those of all."""
_LONGER = 0.05
"""How much longer than seen a row is taken to be where a lip hides its edge, at most."""
_UNEVEN = 0.025
"""How far a seen edge may lie off the row's arc: further is no edge of a tooth."""
_GUM = 0.025
"""Height between the lip and the first of the tooth, from which on that is gum and not rim."""
_NOTCH = 0.014
"""Depth of the notch between two teeth in a biting edge that hides, at most."""


@dataclass(frozen=True)
class OwnTeeth:
    """The rows a photo shows."""

    colour: np.ndarray
    """Y, U, V of well-lit teeth, float64 (3,)."""
    upper: ToothRow | None
    lower: ToothRow | None


def find_own_teeth(yuv: np.ndarray, frame: FaceFrame, lips: LipLines) -> OwnTeeth | None:
    """Teeth between the photo's parted lips, or None where there are none to be told from lips.

    Args:
        yuv: float32 (height, width, 3).
        frame: of the face.
        lips: inner edges of its lips.
    """
    if lips.gap == 0:
        return None
    x = np.linspace(0.96 * lips.x[0], 0.96 * lips.x[-1], _SAMPLES)
    upper, lower = lips.upper_at(x), lips.lower_at(x)
    gap = lower - upper
    parted = gap > _MIN_GAP
    if parted.sum() < 0.2 * _SAMPLES:
        return None
    share = (np.arange(_ROWS) + 0.5) / _ROWS
    y = upper + share[:, None] * gap
    at = frame.to_pixels(np.stack([np.broadcast_to(x, y.shape), y], -1)).astype(np.float32)
    strip = cv2.remap(yuv, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float64)
    lip = _lip_colour(yuv, frame, lips)
    white, lip_white = _whiteness(strip), float(_whiteness(lip))
    bright, dark = np.percentile(white[:, parted], (95, 4))
    if bright < lip_white + 14 or bright < dark + 40:
        return None
    limit = max(0.45 * bright + 0.55 * dark, 0.35 * bright + 0.65 * lip_white)
    colour = np.median(strip[parted & (white > 0.6 * bright + 0.4 * limit)], axis=0)
    # Red lips shine on the teeth and run into them where colour is stored coarsely.
    colour[1:] = np.clip(colour[1:], (104.0, 120.0), (144.0, 138.0))
    # Of the way from the lips' colour to the teeth's; shade counts little, redness much.
    axis = (colour - lip) * (0.6, 1.5, 1.5)
    way = (strip - lip) * (0.6, 1.5, 1.5) @ axis / (axis @ axis)
    # The arch turns away from the light towards its ends.
    aside = smoothstep(0.15, 0.40, np.abs(x))
    tooth = (white > limit - ASIDE * aside * (limit - dark)) & (way > 0.55 - 0.2 * aside) & parted
    split = _between_rows(strip[..., 0], tooth, parted)
    if split is None:
        seen = _row(x, y, strip, tooth, gap, None, colour[1:], True)
        return None if seen is None else OwnTeeth(colour, seen, None)
    return OwnTeeth(
        colour,
        _row(x, y, strip, tooth, gap, split, colour[1:], True),
        _row(x, y, strip, tooth, gap, split, colour[1:], False),
    )


def _whiteness(yuv: np.ndarray) -> np.ndarray:
    """Teeth are bright and hardly red, lips are red."""
    return yuv[..., 0] - 1.5 * np.maximum(yuv[..., 2] - 128.0, 0.0)


def _lip_colour(yuv: np.ndarray, frame: FaceFrame, lips: LipLines) -> np.ndarray:
    """Y, U, V of the lips next to the gap: (3,)."""
    x = np.linspace(0.5 * lips.x[0], 0.5 * lips.x[-1], 60)
    rows = [lips.upper_at(x) - 0.04, lips.lower_at(x) + 0.04, lips.lower_at(x) + 0.06]
    at = frame.to_pixels(np.stack([np.tile(x, 3), np.concatenate(rows)], -1)).astype(np.float32)
    colours = cv2.remap(yuv, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR)
    return np.median(colours[0].astype(np.float64), axis=0)


def _between_rows(luma: np.ndarray, tooth: np.ndarray, parted: np.ndarray) -> np.ndarray | None:
    """Row of the strip at which upper and lower teeth part, (samples,), where both are seen."""
    low, high = int(0.2 * _ROWS), int(0.8 * _ROWS)
    cost = cv2.GaussianBlur(luma, (0, 0), sigmaX=2.0, sigmaY=0.8)[low:high]
    total, back = cost[:, 0], []
    for column in cost.T[1:]:
        steps = np.stack([np.roll(total, 1) + 3.0, total, np.roll(total, -1) + 3.0])
        steps[0, 0] = steps[2, -1] = np.inf
        back.append(steps.argmin(0) - 1)
        total = steps.min(0) + column
    path = [int(total.argmin())]
    for step in back[::-1]:
        path.append(path[-1] + int(step[path[-1]]))
    row = np.array(path[::-1]) + low
    index = np.arange(_ROWS)[:, None]
    above = (tooth & (index < row - 2)).sum(0) > 0.12 * _ROWS
    below = (tooth & (index > row + 2)).sum(0) > 0.12 * _ROWS
    both = above & below & parted
    if both.sum() < max(0.3 * parted.sum(), 0.15 * _SAMPLES):
        return None
    # Gloss and shade on one row part it nowhere as deeply as two rows are parted.
    here = luma[row, np.arange(_SAMPLES)]
    sides = np.minimum(
        np.where(index < row, luma, 0.0).max(0), np.where(index > row, luma, 0.0).max(0)
    )
    if np.median((sides - here)[both]) < 0.12 * np.median(sides[both]):
        return None
    return row.astype(np.float64)


def _row(
    x: np.ndarray,
    y: np.ndarray,
    strip: np.ndarray,
    tooth: np.ndarray,
    gap: np.ndarray,
    split: np.ndarray | None,
    tint: np.ndarray,
    is_upper: bool,
) -> ToothRow | None:
    """Describe one row from the strip's pixels that are teeth."""
    index = np.arange(_ROWS)[:, None]
    mine = tooth
    if split is not None:
        mine = tooth & ((index < split - 0.5) if is_upper else (index > split + 0.5))
    known = _longest_run(mine.sum(0) * gap / _ROWS > 0.016)
    if known.sum() < _MIN_SHARE * (gap > _MIN_GAP).sum():
        return None
    first = np.where(known, mine.argmax(0), 0)
    last = np.where(known, _ROWS - 1 - mine[::-1].argmax(0), _ROWS - 1)
    columns = np.arange(len(x))
    start, end = y[first, columns], y[last, columns]
    # One colour for each place across: of what is seen there, what is lit well.
    luma = np.where(mine, strip[..., 0], 0.0)
    lit = mine & (luma >= 0.9 * luma.max(0))
    colour = (strip * lit[..., None]).sum(0) / np.maximum(lit.sum(0), 1)[:, None]
    start, end = (_smooth(_filled(_median(v, known), known)) for v in (start, end))
    edge, lip = (end, y[-1]) if is_upper else (start, y[0])
    hidden = np.abs(edge - lip) < 0.25 * gap / 2
    down = 1.0 if is_upper else -1.0
    arc = _arc(x, edge, known, hidden, down)
    longer = np.clip(down * (arc - edge), 0.0, _LONGER)
    edge = np.where(hidden, edge + down * longer, np.clip(edge, arc - _UNEVEN, arc + _UNEVEN))
    length, gum = _gums(y, strip, start if is_upper else end, edge, known, is_upper)
    colour = np.stack([_filled(channel, known) for channel in colour.T], -1)
    # The gaps between teeth are narrower than most photos resolve: make up for it.
    wide = _smooth(colour[:, 0], 0.035 / (x[1] - x[0]))
    colour[:, 0] = np.clip(wide + SEAMS * (colour[:, 0] - wide), 16.0, 240.0)
    dip = np.clip((wide - colour[:, 0]) / wide, 0.0, 0.2)
    edge = edge - hidden * down * np.minimum(0.12 * dip, _NOTCH)
    # Lips colour what is next to them, and video carries colour coarsely: all teeth are of one.
    colour[:, 1:] = np.clip(colour[:, 1:], tint - _TINT, tint + _TINT)
    weight = cv2.GaussianBlur(known.astype(np.float64)[None], (0, 0), 2.0)[0]
    weight = np.clip(2 * weight - 1, 0, 1)
    # Beyond what is seen the row goes on along its arc.
    ends = x[np.flatnonzero(known)[[0, -1]]]
    inner = np.clip(x, *ends)
    joined = np.exp(-np.square((x - inner) / 0.06))
    edge = np.where(x == inner, edge, arc + joined * np.interp(inner, x, edge - arc))
    made = ToothRow(x, start, end, _smooth(edge, 3.0), colour, weight, length, gum)
    return made.mirrored()


def _arc(
    x: np.ndarray, edge: np.ndarray, known: np.ndarray, hidden: np.ndarray, down: float
) -> np.ndarray:
    """The arc that the row's biting edge lies on: from where it is seen, or past where it hides."""
    straight = edge + down * _ARC * x**2
    seen = known & ~hidden
    if seen.sum() > 0.15 * known.sum():
        # An edge seen on one side only tells little of its slope, and less of its bend.
        powers = np.stack([np.ones_like(x), x, x**2], 1)
        doubt = np.diag(seen.sum() * np.array([0.0, 0.02, 5e-4]))
        normal = powers[seen].T @ powers[seen] + doubt
        line = powers @ np.linalg.solve(normal, powers[seen].T @ straight[seen])
    else:
        line = down * np.percentile(down * straight[known], 85) + 0.0 * x
    return line - down * _ARC * x**2


def _gums(
    y: np.ndarray,
    strip: np.ndarray,
    neck: np.ndarray,
    edge: np.ndarray,
    known: np.ndarray,
    is_upper: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Height of the teeth from edge to gum at each place, and the gum's colour if it is seen."""
    lip = y[0] if is_upper else y[-1]
    seen = known & (np.abs(neck - lip) > _GUM)
    if seen.sum() < 0.5 * known.sum():
        return np.full(len(neck), UPPER_HEIGHT), None
    between = (y > np.minimum(neck, lip) + RIM) & (y < np.maximum(neck, lip) - 0.5 * RIM) & seen
    if between.sum() < 20:
        return np.full(len(neck), UPPER_HEIGHT), None
    length = np.where(seen, np.abs(edge - neck), np.median(np.abs(edge - neck)[seen]))
    return _smooth(length, 2.0), np.median(strip[between], axis=0)


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    where = np.flatnonzero(known)
    return np.interp(np.arange(len(values)), where, values[where])


def _longest_run(known: np.ndarray) -> np.ndarray:
    """The longest stretch of ``known``; narrow gaps in it are closed."""
    gap = np.ones((1, 9), np.uint8)
    closed = cv2.morphologyEx(known.astype(np.uint8)[None], cv2.MORPH_CLOSE, gap)[0]
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], closed, [0]])))
    starts, ends = bounds[::2], bounds[1::2]
    out = np.zeros(len(known), bool)
    if len(starts):
        best = int((ends - starts).argmax())
        # Its ends are half a tooth that turns away into the dark.
        out[starts[best] + _END : ends[best] - _END] = True
    return out & known


def _smooth(values: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    return cv2.GaussianBlur(values[None], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[0]


def _median(values: np.ndarray, known: np.ndarray, reach: int = 10) -> np.ndarray:
    """Running median over the places known: single misjudged places go."""
    out = values.copy()
    where = np.flatnonzero(known)
    for i in where:
        near = where[np.abs(where - i) <= reach]
        out[i] = np.median(values[near])
    return out
