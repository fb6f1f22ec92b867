"""The README's picture: people who speak, each at two moments.

``python scripts/people_sheet.py docs/people.jpg out/anna.mp4 out/mark.mp4 …`` takes from each video
a frame in which the mouth is nearly shut and one in which it is open, as measured by the face mesh.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.face import default_analyzer
from scripts.demo_sheet import aperture, read_video

TILE = 360
GAP = 8
PAPER = (255, 255, 255)
EVERY = 3
"""Frames from one measurement to the next."""
SHARES = (0.85, 0.4)
"""Which frames are taken, from the narrowest opening of the mouth (0) to the widest (1)."""


def moments(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Two frames, (height, width, 3), by how far the mouth is open."""
    analyzer = default_analyzer()
    measured = frames[::EVERY]
    openings = np.array([aperture(frame, analyzer) for frame in measured])
    order = [i for i in np.argsort(openings) if np.isfinite(openings[i])]
    if not order:
        raise ValueError("no face is found in any frame; give videos of talking faces")
    return [measured[order[round(share * (len(order) - 1))]] for share in SHARES]


def sheet(columns: list[list[np.ndarray]]) -> Image.Image:
    """One column a person."""
    rows = len(SHARES)
    size = tuple(count * (TILE + GAP) - GAP for count in (len(columns), rows))
    page = Image.new("RGB", size, PAPER)
    for x, column in enumerate(columns):
        for y, frame in enumerate(column):
            tile = Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.LANCZOS)
            page.paste(tile, (x * (TILE + GAP), y * (TILE + GAP)))
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("videos", type=Path, nargs="+", help="square videos of one face each")
    arguments = parser.parse_args()
    for video in arguments.videos:
        if not video.is_file():
            print(f"{video} does not exist; make it with `make pictures`", file=sys.stderr)
            return 2
    bar = tqdm(arguments.videos, desc="measuring", unit="video", disable=None, leave=False)
    sheet([moments(read_video(video)[0]) for video in bar]).save(arguments.picture, quality=90)
    print(arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
