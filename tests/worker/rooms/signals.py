"""Test pictures and sounds whose arrival can be told from what comes out."""

from __future__ import annotations

import numpy as np

from models.engine import Canvas
from worker.rooms.port import SAMPLES_PER_FRAME

SILENCE = np.zeros(SAMPLES_PER_FRAME, np.int16)

BARS = {
    "white": (235, 128, 128),
    "yellow": (210, 16, 146),
    "cyan": (170, 166, 16),
    "green": (145, 54, 34),
    "magenta": (106, 202, 222),
    "red": (81, 90, 240),
    "blue": (41, 240, 110),
    "black": (16, 128, 128),
}
"""100 % colour bars in limited-range BT.601 (Y, Cb, Cr)."""


def flat(canvas: Canvas, luma: int) -> np.ndarray:
    """A grey I420 picture."""
    picture = np.full(canvas.i420_shape, 128, np.uint8)
    picture[: canvas.height] = luma
    return picture


def colour_bars(canvas: Canvas) -> np.ndarray:
    """Eight upright bars as an I420 picture; sides must divide by 16."""
    names = list(BARS)
    luma = np.empty((canvas.height, canvas.width), np.uint8)
    chroma = np.empty((2, canvas.height // 2, canvas.width // 2), np.uint8)
    step = canvas.width // len(names)
    for i, name in enumerate(names):
        y, cb, cr = BARS[name]
        luma[:, i * step : (i + 1) * step] = y
        chroma[0][:, i * step // 2 : (i + 1) * step // 2] = cb
        chroma[1][:, i * step // 2 : (i + 1) * step // 2] = cr
    return np.concatenate([luma.ravel(), chroma.ravel()]).reshape(canvas.i420_shape)


def moving_square(canvas: Canvas, n: int) -> np.ndarray:
    """A bright square on grey that moves with the frame number ``n``."""
    picture = flat(canvas, 60)
    side = canvas.height // 3
    left = n * 6 % (canvas.width - side)
    picture[side : 2 * side, left : left + side] = 220
    return picture


def click() -> np.ndarray:
    """A block that starts with a 2 ms click."""
    block = SILENCE.copy()
    block[:96] = np.where(np.arange(96) // 12 % 2, -30_000, 30_000)
    return block


def tone(n: int, hz: float = 440.0, amplitude: int = 12_000) -> np.ndarray:
    """Block ``n`` of a steady sine."""
    t = np.arange(n * SAMPLES_PER_FRAME, (n + 1) * SAMPLES_PER_FRAME)
    return (amplitude * np.sin(2 * np.pi * hz * t / 48_000)).astype(np.int16)
