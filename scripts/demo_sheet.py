"""A video of a talking face on one page: pictures in a row, the sound and the mouth under them.

``python scripts/demo_sheet.py out/demo.mp4 out/demo.png``. The mouth is measured from outside,
with the face mesh on every decoded picture, not taken from what the renderer was asked for.
"""

from __future__ import annotations

import argparse
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from models.face import FaceAnalyzer, default_analyzer
from models.face.topology import LEFT_IRIS, LIPS_INNER_LOWER, LIPS_INNER_UPPER, RIGHT_IRIS
from worker.process.cores import usable_cores

ROWS, COLUMNS = 2, 6
TILE_WIDTH = 300
CURVE_HEIGHT = 130
MARGIN = 16
PAPER, INK, SOUND, MOUTH = (250, 249, 246), (60, 60, 66), (150, 176, 200), (196, 78, 62)


def read_video(path: Path) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Pictures (uint8 RGB), sound (float32, one channel, 48 kHz) and frames per second."""
    with av.open(str(path)) as container:
        fps = float(container.streams.video[0].average_rate or 25)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return pictures, np.concatenate(pieces), fps


def aperture(picture: np.ndarray, analyzer: FaceAnalyzer) -> float:
    """Gap of the inner lips over the distance of the pupils; NaN where no face is found."""
    faces = analyzer.analyze(picture)
    if not faces:
        return float("nan")
    points = faces[0].landmarks[:, :2]
    pupils = np.linalg.norm(points[RIGHT_IRIS[0]] - points[LEFT_IRIS[0]])
    middle = len(LIPS_INNER_UPPER) // 2
    top, bottom = points[LIPS_INNER_UPPER[middle]], points[LIPS_INNER_LOWER[middle]]
    return float(np.linalg.norm(top - bottom) / pupils)


def openings(pictures: list[np.ndarray]) -> np.ndarray:
    """The ``aperture`` of every picture, float, shape (n,); measured on all cores."""
    own = threading.local()  # an analyser takes one picture at a time: each thread has its own

    def measure(picture: np.ndarray) -> float:
        if not hasattr(own, "analyzer"):
            own.analyzer = default_analyzer()
        return aperture(picture, own.analyzer)

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = pool.map(measure, pictures)
        bar = tqdm(found, "measuring", len(pictures), unit="frame", disable=None, leave=False)
        return np.array(list(bar))


def envelope(sound: np.ndarray, frames: int) -> np.ndarray:
    """RMS loudness of the sound that belongs to each frame, 0 to 1."""
    padded = np.pad(sound, (0, max(0, frames * 1920 - len(sound))))[: frames * 1920]
    rms = np.sqrt((padded.reshape(frames, 1920) ** 2).mean(axis=1))
    return rms / max(float(rms.max()), 1e-6)


def sheet(
    pictures: list[np.ndarray], sound: np.ndarray, mouth: np.ndarray, fps: float
) -> Image.Image:
    """The page."""
    chosen = np.linspace(0, len(pictures) - 1, ROWS * COLUMNS + 2).round().astype(int)[1:-1]
    high = round(TILE_WIDTH * pictures[0].shape[0] / pictures[0].shape[1])
    width = COLUMNS * TILE_WIDTH + 2 * MARGIN
    height = ROWS * high + 2 * (CURVE_HEIGHT + MARGIN) + 3 * MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(15)
    for place, index in enumerate(chosen):
        left = MARGIN + place % COLUMNS * TILE_WIDTH
        top = MARGIN + place // COLUMNS * high
        tile = Image.fromarray(pictures[index]).resize((TILE_WIDTH, high), Image.Resampling.LANCZOS)
        page.paste(tile, (left, top))
        stamp = f"{index / fps:.2f} s"
        draw.text((left + 6, top + 4), stamp, PAPER, font, stroke_width=1, stroke_fill=INK)
    curves = (
        ("loudness of the sound", envelope(sound, len(pictures)), SOUND),
        ("opening of the mouth, measured in the picture", mouth / 0.4, MOUTH),
    )
    for number, (name, values, colour) in enumerate(curves):
        top = 2 * MARGIN + ROWS * high + number * (CURVE_HEIGHT + MARGIN)
        box = (MARGIN, top, width - MARGIN, top + CURVE_HEIGHT)
        _curve(draw, box, np.nan_to_num(values), colour, chosen)
        draw.text((MARGIN + 8, top + 4), name, INK, font)
    return page


def _curve(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    values: np.ndarray,
    colour: tuple[int, int, int],
    marks: np.ndarray,
) -> None:
    left, top, right, bottom = box
    x = np.linspace(left, right, len(values))
    y = bottom - np.clip(values, 0, 1) * (bottom - top - 22)
    draw.polygon([(left, bottom), *zip(x, y, strict=True), (right, bottom)], fill=colour)
    for mark in marks:
        draw.line([(x[mark], top + 22), (x[mark], bottom)], fill=INK, width=1)
    draw.line([(left, bottom), (right, bottom)], fill=INK, width=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    if not arguments.video.is_file():
        print(f"{arguments.video} does not exist; make it with `make demo`", file=sys.stderr)
        return 2
    pictures, sound, fps = read_video(arguments.video)
    mouth = openings(pictures)
    sheet(pictures, sound, mouth, fps).save(arguments.picture)
    loud = envelope(sound, len(pictures)) > 0.1
    print(
        f"{arguments.picture}: mouth opens {np.nanmean(mouth[loud]):.2f} in speech, "
        f"{np.nanmean(mouth[~loud]):.2f} in silence (of the distance of the pupils)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
