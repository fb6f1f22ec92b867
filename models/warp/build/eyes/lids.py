"""Lids: the eye as it looks when it is shut, and the lashes on their own.

Made once per photo, in the charts of ``models.warp.build.eyes.eye_shape``.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.warp.build.anatomy import smoothstep
from models.warp.build.backdrop import fill
from models.warp.build.eyes.eye_shape import EyeChart, bow

_SHADOW, _HAIR = 0.62, 0.42
"""Light over that of the brightest skin nearby: skin's in shadow, and at most that of lashes."""
_GRAIN = 0.10
"""Details finer than this are the skin's texture, in eye units."""
_CHEEK = 0.40
"""How far below the lower lid there are no lashes any more, in eye units."""
_LID_BAND = (0.12, 0.55)
"""Heights above the lash line, in eye units, whose skin is what the shut lid looks like."""
_LID_RANKS = (0.70, 0.95)
"""Of that skin's pixels, from the darkest to the brightest, the share that counts: darker ones are
lashes and folds, brighter ones gloss."""
_LID_LIGHT = (0.70, 1.08)
"""Limits of that skin's light over the light of the skin around the eye."""
_LID_SHARE, _LID_TINT = 0.45, 0.15
"""How much of the difference from there the lid keeps, in light and in colour: part of it is lashes
and the shade of a fold, which smooths out."""
LASH_RANGE = (-0.25, 0.80)
"""Heights above the lash line, in eye units, that the lashes' chart covers."""


_LASH_STRENGTH, _LASH_MOST = (0.30, 0.75), 0.85
"""Opacity of the lash line, by the photo's own, and the most of it anywhere."""
_SHORT_LASHES = 0.8
"""Opacity at their roots, over that of the lash line, of lashes the photo does not show."""
_LASH_LENGTHS, _LASH_APART = (0.16, 0.55), 0.07
"""Their lengths, and the distance over which these change, in eye units."""


def shut_eye(chart: EyeChart, photo: np.ndarray) -> np.ndarray:
    """The photo with the eye shut, without lashes: skin from around the eye drawn over it.

    Args:
        chart: of the eye.
        photo: Y, U, V over the chart, float32 (rows, columns, 3).

    Returns:
        Like ``photo``, and the photo itself away from the eye.
    """
    u, v, shape = chart.u, chart.v, chart.shape
    above, below = bow(u, shape.upper) - v, v - bow(u, shape.lower)
    # Skin is what is neither eye nor much darker than its surroundings: lashes and liner.
    light = chart.blurred(photo[..., 0] - 16.0, 0.02)
    around = chart.blurred(cv2.dilate(light, chart.disc(0.25)), 0.12)
    hair = np.maximum(
        smoothstep(_SHADOW, _HAIR, light / np.maximum(around, 1.0)), _strokes(chart, light)
    )
    limit = min(0.9, 0.95 * shape.room)
    hair *= smoothstep(limit, 0.8 * limit, above) * smoothstep(1.7, 1.4, np.abs(u))
    hair *= smoothstep(0.0, -0.08, v - np.minimum(bow(u, shape.lower), 0.0))
    eye = smoothstep(0.26, 0.14, above) * smoothstep(0.16, 0.06, below)
    eye *= smoothstep(1.12, 1.0, np.abs(u))
    hair = cv2.morphologyEx(hair.astype(np.float32), cv2.MORPH_CLOSE, chart.disc(0.06))
    unknown = cv2.dilate(np.maximum(eye, hair).astype(np.float32), chart.disc(0.06))
    skin = chart.blurred(fill(photo, 1 - unknown), 0.08)
    lid = smoothstep(0.45, 0.10, above) * smoothstep(0.10, 0.0, below)
    lid = lid * smoothstep(1.25, 0.80, np.abs(u))
    skin += lid[..., None] * (_lid_colours(chart, photo, skin) - skin)
    skin[..., 0] += _grain(chart, photo[..., 0], below)
    # The eyeball bulges: light falls on its middle, less on the lid's edge.
    down = -above / np.maximum(-above - below, 0.15)
    bulge = 0.05 * np.exp(-(((down - 0.45) / 0.4) ** 2)) - 0.10 * np.exp(
        -(((down - 1.0) / 0.2) ** 2)
    )
    bulge *= np.sqrt(np.clip(1 - u * u, 0, 1))
    skin[..., 0] = (skin[..., 0] - 16.0) * (1 + bulge) + 16.0
    covered = chart.blurred(unknown, 0.06)
    return photo + (skin - photo) * covered[..., None]


def _lid_colours(chart: EyeChart, photo: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Y, U, V of the lid: those of the photo's skin right above the lashes, in the shade of the
    brow or painted, not those of the cheek. Float32 (rows, columns, 3), alike along a column.

    Args:
        chart: of the eye.
        photo: over it.
        skin: from around the eye, over it.
    """
    u, line = chart.u[0], bow(chart.u[0], chart.shape.upper)
    high = max(min(_LID_BAND[1], 0.6 * chart.shape.room), _LID_BAND[0] + 0.1)
    rows = chart.row(line - np.linspace(_LID_BAND[0], high, 24)[:, None]).astype(np.float32)
    columns = np.broadcast_to(np.arange(len(u), dtype=np.float32), rows.shape)
    band = cv2.remap(photo, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    order = band[..., 0].argsort(0)
    first, last = (round(share * len(order)) for share in _LID_RANKS)
    colours = np.take_along_axis(band, order[first:last, :, None], 0).mean(0)
    under = np.clip(chart.row(line + 0.1).round().astype(int), 0, len(skin) - 1)
    around = skin[under, np.arange(len(u))]
    light = (colours[:, 0] - 16.0) / np.maximum(around[:, 0] - 16.0, 1.0)
    light = np.clip(light, *_LID_LIGHT) ** _LID_SHARE
    colours[:, 0] = 16.0 + (around[:, 0] - 16.0) * light
    colours[:, 1:] = around[:, 1:] + _LID_TINT * (colours[:, 1:] - around[:, 1:])
    return chart.blurred(np.broadcast_to(colours, skin.shape).copy(), 0.25)


def _strokes(chart: EyeChart, light: np.ndarray) -> np.ndarray:
    """Where single lashes are, 0 to 1: dark and thin across the lash line, as folds are not."""
    line = bow(chart.u, chart.shape.upper)
    columns = np.broadcast_to(np.arange(light.shape[1], dtype=np.float32), light.shape)
    straight = _shifted(light, columns, chart.row(chart.v + line))
    width = np.ones((1, 2 * max(1, round(0.09 * chart.density)) + 1), np.uint8)
    closed = cv2.morphologyEx(straight, cv2.MORPH_CLOSE, width)
    dark = smoothstep(0.05, 0.16, 1 - straight / np.maximum(closed, 1.0))
    dark = _shifted(dark.astype(np.float32), columns, chart.row(chart.v - line))
    return dark * smoothstep(0.65, 0.45, line - chart.v)


def _shifted(values: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return cv2.remap(
        values,
        columns,
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _grain(chart: EyeChart, luma: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Texture of the skin under the eye, turned over onto the lid: float32 like ``luma``."""
    fine = luma - chart.blurred(luma, _GRAIN)
    source = (below > _CHEEK) & (below < _CHEEK + 0.55) & (np.abs(chart.u) < 0.8)
    limit = 2.0 * 1.4826 * float(np.median(np.abs(fine[source]))) if source.any() else 0.0
    fine = np.clip(fine, -limit, limit)
    # Mirrored at a line below the lower lashes.
    start = bow(chart.u, chart.shape.lower) + _CHEEK
    rows = _bounce(chart.row(2 * start - chart.v), chart.row(start), 0.55 * chart.density)
    columns = np.broadcast_to(np.arange(luma.shape[1], dtype=np.float32), luma.shape)
    return _shifted(fine, columns, rows)


def _bounce(rows: np.ndarray, start: np.ndarray, length: float) -> np.ndarray:
    """``rows`` folded to and fro into ``start`` to ``start + length``."""
    phase = np.abs((rows - start) / length) % 2.0
    return start + length * np.minimum(phase, 2.0 - phase)


def _short_lashes(u: np.ndarray) -> np.ndarray:
    """Lengths of lashes, in eye units, at places ``u``: uneven, the outer ones longer."""
    random = np.random.default_rng(0)
    places = np.arange(-1.5, 1.5, _LASH_APART)
    places = places + random.uniform(-0.4, 0.4, len(places)) * _LASH_APART
    lengths = random.uniform(*_LASH_LENGTHS, len(places))
    return np.interp(u, places, lengths)


def lash_chart(
    chart: EyeChart, photo: np.ndarray, shut: np.ndarray, colour: np.ndarray
) -> np.ndarray:
    """How much light the upper lashes take, straightened along the lash line.

    Args:
        chart: of the eye.
        photo: Y, U, V over the chart.
        shut: of :func:`shut_eye`.
        colour: Y, U, V of the lashes.

    Returns:
        Opacity, float32 (rows, columns of the chart): heights of ``LASH_RANGE`` from the highest
        down, across as in the chart.
    """
    u = chart.u[0]
    rows = round((LASH_RANGE[1] - LASH_RANGE[0]) * chart.density)
    height = LASH_RANGE[1] - (np.arange(rows)[:, None] + 0.5) / chart.density
    at_rows = chart.row(bow(u, chart.shape.upper)[None] - height).astype(np.float32)
    at_columns = np.broadcast_to(np.arange(len(u), dtype=np.float32), at_rows.shape)
    taken = (shut[..., 0] - photo[..., 0]) / np.maximum(shut[..., 0] - colour[0], 8.0)
    taken = cv2.remap(taken.astype(np.float32), at_columns, at_rows, cv2.INTER_LINEAR)
    opacity = 0.95 * np.clip((taken - 0.12) / 0.8, 0, 1)
    opacity *= smoothstep(0.68, 0.3, height) * smoothstep(-0.06, 0.0, height)
    # Lashes grow from the lash line: what skin parts from it is a fold.
    along = cv2.GaussianBlur(opacity, (0, 0), sigmaX=0.08 * chart.density, sigmaY=0.5)
    along[height[:, 0] < 0.06] = 1.0
    opacity = np.minimum(opacity, 1.4 * np.minimum.accumulate(along[::-1])[::-1])
    # They stand beside the outer corner, too.
    towards = u * chart.shape.outer
    opacity *= smoothstep(1.5, 1.2, towards) * smoothstep(-1.05, -0.75, towards)
    # As dark as the photo's lash line, without the shade that an open lid throws on the eyeball.
    strength = opacity[(height[:, 0] > 0.0) & (height[:, 0] < 0.10)].mean(0)
    strength = cv2.GaussianBlur(strength[None], (0, 0), 0.15 * chart.density)[0]
    strength = np.clip(strength, *_LASH_STRENGTH) * smoothstep(1.05, 0.70, np.abs(u))
    lengths = _short_lashes(u)
    # Lashes end unevenly, and there are fewer towards the corners.
    opacity *= (1 - 0.45 * smoothstep(0.05, 1.6 * lengths, height)) * _LASH_MOST
    opacity *= 1 - 0.5 * smoothstep(0.60, 1.05, np.abs(u))
    # Where the photo shows no lashes there are short ones, too fine to be told apart.
    share = np.clip(height / lengths, 0.0, 1.0)
    short = _SHORT_LASHES * strength * (1 - share) ** 2 * (height > 0)
    opacity = np.maximum(opacity, short)
    # Lids that meet show a line, lashes or not.
    line = strength * np.exp(-(((height - 0.01) / 0.04) ** 2))
    opacity = np.maximum(opacity, line).astype(np.float32)
    # Lashes get shorter when they turn: no finer than the pixels can show then.
    return cv2.GaussianBlur(opacity, (0, 0), sigmaX=0.5, sigmaY=1.3)
