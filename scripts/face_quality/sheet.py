"""A contact sheet of a talking face: pictures, mouths close up, and the curves of the lips."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from face_quality.score import CLOSED, RATE, Score, at, said
from face_quality.track import Track, pictures

ROWS, COLUMNS, TILE, CURVE, MARGIN = 2, 6, 260, 150, 14
PAPER, INK, OURS, AIM, QUIET = "#faf9f6", "#3c3c42", "#c44e3e", "#3f6fa3", "#e6e3da"


def draw(
    video: Path, track: Track, score: Score, speech: np.ndarray, reference: Track | None
) -> Image.Image:
    """The sheet of one video, with the sound's loudness behind the gap of its lips."""
    chosen = np.linspace(0, len(track["t"]) - 1, ROWS * COLUMNS + 2).round().astype(int)[1:-1]
    wanted = {int(i): place for place, i in enumerate(chosen)}
    tiles = [(k, picture) for k, (_, picture) in enumerate(pictures(video)) if k in wanted]
    high = round(TILE * tiles[0][1].shape[0] / tiles[0][1].shape[1])
    mouth = TILE // 2
    width = COLUMNS * TILE + 2 * MARGIN
    page = Image.new("RGB", (width, ROWS * (high + mouth) + CURVE + 5 * MARGIN + 16), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    pen.text((MARGIN, 6), f"{video.stem}:  {sentence(score)}", INK, font)
    for k, picture in tiles:
        place = wanted[k]
        left = MARGIN + place % COLUMNS * TILE
        top = MARGIN + 16 + place // COLUMNS * (high + mouth)
        page.paste(_scaled(picture, TILE, high), (left, top))
        page.paste(_mouth(picture, track, k, TILE, mouth), (left, top + high))
        label = f"{track['t'][k]:.2f} s  gap {track['lip_gap'][k]:.2f}"
        pen.text((left + 5, top + 3), label, "white", font, stroke_width=1, stroke_fill=INK)
    top = ROWS * (high + mouth) + 3 * MARGIN + 16
    _curves(pen, (MARGIN, top, width - MARGIN, top + CURVE), track, speech, reference, chosen)
    return page


def sentence(score: Score) -> str:
    """The figures in one line."""

    def show(value: float | None, form: str = ".2f") -> str:
        return "-" if value is None else format(value, form)

    return (
        f"r {show(score.r)} (lag {show(score.lag_ms, '+.0f')} ms), width r {show(score.width_r)}, "
        f"opening {score.gap:.2f} (x{show(score.gap_ratio)}), {score.reversals:.1f} reversals/s, "
        f"shut in silence {show(score.closed)}, frozen {score.frozen:.1%}"
    )


def _scaled(picture: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)


def _mouth(picture: np.ndarray, track: Track, k: int, width: int, height: int) -> Image.Image:
    x, y, iod = (track[name][k] for name in ("mouth_x", "mouth_y", "iod"))
    if not np.isfinite(iod):
        return Image.new("RGB", (width, height), QUIET)
    scale = width / (1.5 * iod)
    matrix = np.array([[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]])
    crop = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return Image.fromarray(crop)


def _curves(
    pen: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    track: Track,
    speech: np.ndarray,
    reference: Track | None,
    chosen: np.ndarray,
) -> None:
    left, top, right, bottom = box
    times = np.arange(round(track["t"][-1] * RATE) + 1) / RATE
    gap = at(track, "lip_gap", times)
    x = np.linspace(left, right, len(times))
    samples = 16_000 // RATE
    sound = np.pad(speech / 32768.0, (0, max(0, len(times) * samples - len(speech))))
    level = np.sqrt(np.square(sound[: len(times) * samples].reshape(-1, samples)).mean(1))
    level = np.clip(1 + np.log10(np.maximum(level / level.max(), 1e-3)) / 2.5, 0, 1)
    highest = bottom - top
    pen.polygon(
        [(left, bottom), *zip(x, bottom - level * highest, strict=True), (right, bottom)], QUIET
    )
    if reference is not None:
        aim, name = at(reference, "lip_gap", times), "gap in the reference"
    else:
        aim, name = said(speech, times)[0] * 0.38, "what the network says"
    full = max(0.3, float(np.nanmax(gap)), float(np.nanmax(aim)))
    for mark in chosen:
        pen.line([(x[mark], top), (x[mark], bottom)], "#c9c6bd")
    level_closed = bottom - CLOSED / full * highest
    pen.line([(left, level_closed), (right, level_closed)], "#b9b6ad")
    for values, colour in ((aim, AIM), (gap, OURS)):
        known = np.isfinite(values)
        points = zip(x[known], bottom - values[known] / full * highest, strict=True)
        pen.line(list(points), colour, 2)
    font = ImageFont.load_default(14)
    pen.text((left + 6, top), "gap of the lips, measured in the picture", OURS, font)
    pen.text((left + 300, top), name, AIM, font)
    pen.text((left + 480, top), "loudness behind", "#8a877e", font)
