"""Figures of a track: does the mouth follow the speech, close, move as far as it should; is the
picture alive, sharp and steady around the face."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from face_quality.track import Track
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import COLUMN, ROW_SAMPLES

RATE = 25
"""Hz at which everything is compared."""
CLOSED = 0.03
"""Gap over the distance of the eyes below which lips count as closed; the mesh is no more exact."""
_GHOST = 0.06
"""At most so much of a gap is what this mesh sees between closed lips. It is another amount on each
face, and is taken off: the smallest gap of the video (2nd percentile)."""
_SHUT_SHARE = 0.14
"""Share of the reference's 95th percentile below which its lips count as shut."""
_MAX_LAG = 12  # frames
_SILENCE_DB, _SILENCE_FRAMES, _SILENCE_MARGIN = -30.0, 7, 2
_WINDOW = 1280  # samples of the loudness window: 80 ms at 16 kHz
_SWING = 0.02
_FROZEN_MOVE, _FROZEN_SHARE, _FROZEN_SPAN = 0.05, 0.15, 12


@dataclass(frozen=True)
class Score:
    """Figures of one video. None: cannot be told, for example without silence."""

    seconds: float
    face: float
    """Share of pictures with a face."""
    r: float | None
    """Pearson's r of the lip gap with the reference's; with none, with what the network says."""
    lag_ms: float | None
    """Where r is best: > 0 the mouth is late."""
    width_r: float | None
    gap: float
    """95th minus 5th percentile of the lip gap."""
    gap_ratio: float | None
    """That over the reference's; None without one."""
    closure_auc: float | None
    """Chance that a moment of shut lips in the reference has the smaller gap of two moments."""
    reversals: float
    """Turning points of the gap a second, of swings from 0.02."""
    closed: float | None
    """Share of closed lips in silences of at least 0.28 s, less 80 ms at either end."""
    frozen: float
    """Share of pictures whose face repeats the one before."""
    sharpness: float
    """Last second over first. It falls where lips end closed: open mouths have more edges."""
    sharpness_alike: float | None
    """Last third over first third, pictures of closed lips only."""
    outside: float
    blinks: float
    """A minute."""

    def as_dict(self) -> dict[str, float | None]:
        """Field names and values."""
        return asdict(self)


def score(track: Track, speech: np.ndarray, reference: Track | None = None) -> Score:
    """Judge a track.

    Args:
        track: of the video; its first picture belongs to the first sample of ``speech``.
        speech: int16, (samples,), 16 kHz.
        reference: track of another video of the same speech.
    """
    t = track["t"]
    times = np.arange(round(t[0] * RATE), round(t[-1] * RATE) + 1) / RATE
    gap, width = at(track, "lip_gap", times), at(track, "mouth_width", times)
    gap = np.maximum(gap - min(_GHOST, float(np.nanpercentile(gap, 2))), 0.0)
    known = gap[np.isfinite(gap)]
    if reference is not None:
        aim, aim_width = at(reference, "lip_gap", times), at(reference, "mouth_width", times)
    else:
        aim, aim_width = said(speech, times)
    lags = {k: correlation(*_shifted(gap, aim, k)) for k in range(-_MAX_LAG, _MAX_LAG + 1)}
    silent = silence(speech, len(times)) & np.isfinite(gap)
    shut = aim < _SHUT_SHARE * np.nanpercentile(aim, 95)
    return Score(
        seconds=float(t[-1] - t[0] + 1 / RATE),
        face=float(np.isfinite(track["lip_gap"]).mean()),
        r=lags[0],
        lag_ms=_best_lag(lags),
        width_r=correlation(width, aim_width),
        gap=spread(known),
        gap_ratio=spread(known) / spread(aim) if reference is not None else None,
        closure_auc=area_under_curve(-gap, shut) if reference is not None else None,
        reversals=reversals(known) / (len(known) / RATE),
        closed=float((gap[silent] < CLOSED).mean()) if silent.sum() >= 5 else None,
        frozen=float(frozen(track["moved"]).mean()),
        sharpness=_last_over_first(track["sharpness"], min(RATE, len(t) // 2)),
        sharpness_alike=_sharpness_alike(track),
        outside=float(np.nanmean(track["outside"][1:])),
        blinks=60.0 * len(blinks(track)) / float(t[-1] - t[0] + 1 / RATE),
    )


def at(track: Track, column: str, times: np.ndarray) -> np.ndarray:
    """A column at ``times``; NaN before the track, after it, and where no face was found."""
    values, t = track[column], track["t"]
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.full(len(times), np.nan)
    held = np.interp(times, t, known.astype(float)) > 0.5
    inside = (times >= t[0] - 0.5 / RATE) & (times <= t[-1] + 0.5 / RATE)
    return np.where(held & inside, np.interp(times, t[known], values[known]), np.nan)


def said(speech: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Aperture and width the speech-to-motion network hears in ``speech``, at ``times``."""
    stream = MotionStream(SpeechToMotion.load())
    stream.hear(speech)
    stream.finish()
    rows = stream.take(stream.heard)
    centres = (np.arange(len(rows)) + 0.5) * ROW_SAMPLES / 16_000
    names = ("aperture", "width")
    aperture, width = (np.interp(times, centres, rows[:, COLUMN[name]]) for name in names)
    return aperture, width


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r where both are known; None on less than a second or without variation."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < RATE or a[known].std() < 1e-9 or b[known].std() < 1e-9:
        return None
    return float(np.corrcoef(a[known], b[known])[0, 1])


def _shifted(a: np.ndarray, b: np.ndarray, late: int) -> tuple[np.ndarray, np.ndarray]:
    """``a`` moved ``late`` frames earlier against ``b``."""
    return a[max(0, late) : len(a) + min(0, late)], b[max(0, -late) : len(b) - max(0, late)]


def _best_lag(lags: dict[int, float | None]) -> float | None:
    """Milliseconds at the best r, refined by a parabola through its neighbours."""
    curve = {k: r for k, r in lags.items() if r is not None}
    if not curve:
        return None
    best = max(curve, key=lambda k: curve[k])
    shift = 0.0
    if best - 1 in curve and best + 1 in curve:
        before, here, after = curve[best - 1], curve[best], curve[best + 1]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < -1e-9 else 0.0
    return (best + min(0.5, max(-0.5, shift))) * 1000 / RATE


def spread(values: np.ndarray) -> float:
    """95th minus 5th percentile."""
    low, high = np.nanpercentile(values, (5, 95))
    return float(high - low)


def area_under_curve(values: np.ndarray, truth: np.ndarray) -> float | None:
    """Chance that a true moment has the larger value (Mann and Whitney); None without both."""
    known = np.isfinite(values)
    values, truth = values[known], truth[known]
    positive = int(truth.sum())
    if positive == 0 or positive == len(truth):
        return None
    rank = values.argsort().argsort() + 1.0
    wins = rank[truth].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * (len(truth) - positive)))


def reversals(gap: np.ndarray) -> int:
    """Turning points with a swing of at least 0.02."""
    turns, direction, extreme = 0, 0, gap[0]
    for value in gap[1:]:
        if direction == 0:
            if abs(value - extreme) >= _SWING:
                direction, extreme = (1 if value > extreme else -1), value
        elif (value - extreme) * direction > 0:
            extreme = value
        elif abs(value - extreme) >= _SWING:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


def silence(speech: np.ndarray, frames: int) -> np.ndarray:
    """Which frames lie well inside a silence: bool, (frames,)."""
    window = np.hanning(_WINDOW + 1)[:-1]
    window /= window.sum()
    power = np.pad(np.square(speech / 32768.0), _WINDOW)
    centres = np.arange(min(frames, len(speech) // 640 + 1)) * 640 + _WINDOW
    half = _WINDOW // 2
    level = np.sqrt([float(power[c - half : c + half] @ window) for c in centres])
    decibels = 20 * np.log10(np.maximum(level, 1e-9) / max(np.percentile(level, 95), 1e-9))
    inside = np.zeros(frames, bool)
    edges = np.flatnonzero(np.diff(np.pad((decibels < _SILENCE_DB).astype(int), 1)))
    for first, end in edges.reshape(-1, 2):
        if end - first >= _SILENCE_FRAMES:
            inside[first + _SILENCE_MARGIN : end - _SILENCE_MARGIN] = True
    return inside


def frozen(moved: np.ndarray) -> np.ndarray:
    """Which pictures' faces repeat the one before: far less change than usual around them."""
    moved = moved[np.isfinite(moved)]
    usual = np.array(
        [
            np.percentile(moved[max(0, k - _FROZEN_SPAN) : k + _FROZEN_SPAN + 1], 75)
            for k in range(len(moved))
        ]
    )
    return (moved < _FROZEN_MOVE) | (moved < _FROZEN_SHARE * usual)


def blinks(track: Track) -> list[float]:
    """Times of blinks: both eyes below 55 % of their recent opening, for at most 0.7 s."""
    eyes = (track["eye_right"] + track["eye_left"]) / 2
    t = track["t"][np.isfinite(eyes)]
    eyes = eyes[np.isfinite(eyes)]
    if len(eyes) < 10:
        return []
    usual = np.array([np.percentile(eyes[np.abs(t - s) <= 1.0], 80) for s in t])
    share = eyes / np.maximum(np.maximum(usual, 0.6 * np.percentile(eyes, 80)), 1e-6)
    edges = np.flatnonzero(np.diff(np.pad((share < 0.75).astype(int), 1))).reshape(-1, 2)
    return [
        float(t[first + int(share[first:end].argmin())])
        for first, end in edges
        if share[first:end].min() < 0.55 and t[end - 1] - t[first] <= 0.7
    ]


def _last_over_first(values: np.ndarray, frames: int) -> float:
    return float(np.nanmean(values[-frames:]) / np.nanmean(values[:frames]))


def _sharpness_alike(track: Track) -> float | None:
    closed, third = track["lip_gap"] < CLOSED, len(track["t"]) // 3
    first, last = track["sharpness"][:third], track["sharpness"][-third:]
    first, last = first[closed[:third]], last[closed[-third:]]
    if len(first) < 5 or len(last) < 5:
        return None
    return float(np.nanmean(last) / np.nanmean(first))
