"""A sheet of one portrait in many motions, to judge the warp engine by eye.

python scripts/contact_sheet.py photo.jpg sheet.png [--size 640x480] [--crop mouth]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.engine import Canvas
from models.i420 import i420_to_rgb
from models.warp.engine import WarpEngine
from models.warp.identity import WarpIdentity
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.pose import WarpPose

MOTIONS: list[tuple[str, dict[str, float]]] = [
    ("rest", {}),
    ("aperture .05", {"aperture": 0.05}),
    ("aperture .10", {"aperture": 0.10, "jaw": 0.2}),
    ("aperture .20", {"aperture": 0.20, "jaw": 0.5}),
    ("aperture .35", {"aperture": 0.35, "jaw": 1.0}),
    ("aperture .20 only", {"aperture": 0.20}),
    ("jaw 1, shut", {"jaw": 1.0}),
    ("spread", {"width": 1.0}),
    ("spread .12", {"width": 1.0, "aperture": 0.12, "jaw": 0.2}),
    ("round", {"width": -1.0}),
    ("round .12", {"width": -1.0, "aperture": 0.12, "jaw": 0.3}),
    ("closure", {"closure": 1.0, "aperture": 0.2}),
    ("labiodental", {"labiodental": 1.0}),
    ("tongue .15", {"tongue": 1.0, "aperture": 0.15, "jaw": 0.4}),
    ("smile", {"smile": 1.0}),
    ("smile -1", {"smile": -1.0}),
    ("blink .3", {"blink_left": 0.3, "blink_right": 0.3}),
    ("blink .6", {"blink_left": 0.6, "blink_right": 0.6}),
    ("blink 1", {"blink_left": 1.0, "blink_right": 1.0}),
    ("wink left", {"blink_left": 1.0}),
    ("gaze left", {"gaze_x": -12.0}),
    ("gaze right", {"gaze_x": 12.0}),
    ("gaze up", {"gaze_y": -8.0}),
    ("gaze down", {"gaze_y": 10.0}),
    ("brow up", {"brow": 1.0}),
    ("brow down", {"brow": -1.0}),
    ("yaw -5", {"yaw": -5.0}),
    ("yaw 5", {"yaw": 5.0}),
    ("pitch -5", {"pitch": -5.0}),
    ("pitch 5", {"pitch": 5.0}),
    ("roll -5", {"roll": -5.0}),
    ("roll 5", {"roll": 5.0}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("portrait", type=Path)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--size", default="640x480", help="canvas, WIDTHxHEIGHT")
    parser.add_argument("--crop", choices=("none", "face", "mouth", "eyes"), default="face")
    parser.add_argument("--only", default="", help="comma-separated words of the motions to show")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--tile", type=int, default=240, help="width of a tile in pixels")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    portrait = np.array(Image.open(args.portrait).convert("RGB"))
    identity = WarpEngine().prepare(portrait, Canvas(width, height))
    words = [word.strip() for word in args.only.split(",") if word.strip()]
    motions = [m for m in MOTIONS if not words or any(word in m[0] for word in words)]
    cv2.imwrite(str(args.out), sheet(identity, motions, args.crop, args.columns, args.tile))


def sheet(
    identity: WarpIdentity,
    motions: list[tuple[str, dict[str, float]]],
    crop: str,
    columns: int,
    tile: int,
) -> np.ndarray:
    """The tiles of all motions with their names, uint8 BGR."""
    poses = []
    for _, values in motions:
        motion = rest()
        for name, value in values.items():
            motion[INDEX[name]] = value
        poses.append(WarpPose(identity, motion))
    tiles = []
    window = _window(identity, crop)
    for (name, _), picture in zip(motions, WarpEngine().render(poses), strict=True):
        bgr = i420_to_rgb(picture)[window][:, :, ::-1]
        scale = tile / bgr.shape[1]
        method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=method)
        cv2.putText(bgr, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(
            bgr, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
        )
        tiles.append(bgr)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _window(identity: WarpIdentity, crop: str) -> tuple[slice, slice]:
    """Rows and columns of the picture to show."""
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + 0.72 * unit, grid.top + 0.52 * unit
    boxes = {
        "none": (0.0, 0.0, float(identity.canvas.width), float(identity.canvas.height)),
        "face": (x - 1.45 * unit, y - 2.5 * unit, x + 1.45 * unit, y + 1.2 * unit),
        "mouth": (x - 0.75 * unit, y - 0.5 * unit, x + 0.75 * unit, y + 0.7 * unit),
        "eyes": (x - 1.1 * unit, y - 1.6 * unit, x + 1.1 * unit, y - 0.6 * unit),
    }
    left, top, right, bottom = (max(0, round(value)) for value in boxes[crop])
    return slice(top, bottom), slice(left, right)


if __name__ == "__main__":
    main()
