"""One frame as every room takes it: a picture and the 40 ms of sound that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.engine import Canvas
from worker.rooms.port import SAMPLES_PER_FRAME


@dataclass(frozen=True)
class Frame:
    """A checked frame: safe to hand to native code. Its arrays belong to the room; they are
    read, never written, and must not change any more."""

    picture: np.ndarray
    """I420 uint8, C-contiguous, shape ``canvas.i420_shape``."""
    audio: np.ndarray
    """int16, C-contiguous, shape (1920,), 48 kHz mono."""
    speaking: bool


class FrameGate:
    """Checks what is published before any native code sees it, and repeats the last picture."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        # Shown as long as there has been no picture: black.
        self._last = np.full(canvas.i420_shape, 128, np.uint8)
        self._last[: canvas.height] = 16

    def take(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> Frame:
        """The frame to hand on; ``picture`` None stands for the last one again, black at first.

        Raises:
            ValueError: wrong type, shape or dtype.
        """
        if not isinstance(audio, np.ndarray) or audio.dtype != np.int16:
            raise ValueError(f"audio must be an int16 array, not {_describe(audio)}")
        if audio.shape != (SAMPLES_PER_FRAME,):
            raise ValueError(
                f"audio must have shape ({SAMPLES_PER_FRAME},), 40 ms at 48 kHz, not {audio.shape}"
            )
        if picture is None:
            picture = self._last
        else:
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
                raise ValueError(f"the picture must be a uint8 array, not {_describe(picture)}")
            if picture.shape != self._canvas.i420_shape:
                raise ValueError(
                    f"the picture must be I420 of shape {self._canvas.i420_shape} for "
                    f"{self._canvas.width}x{self._canvas.height} pixels, not {picture.shape}"
                )
            picture = np.ascontiguousarray(picture)
        self._last = picture
        return Frame(picture, np.ascontiguousarray(audio), speaking)


def _describe(value: object) -> str:
    return f"{value.dtype} array" if isinstance(value, np.ndarray) else type(value).__name__
