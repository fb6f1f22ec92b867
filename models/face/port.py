"""The face-analysis port: what every backend answers about a photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class HeadPose:
    """Rotation of the head in degrees; all zero looks straight into the camera.

    ``yaw`` > 0: the nose points to the picture's right. ``pitch`` > 0: it points down.
    ``roll`` > 0: the head leans clockwise as the viewer sees it.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Face:
    """One face in a photo. Pixel coordinates: x right, y down, origin at the top-left corner."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom of the face in pixels (forehead to chin, ear to ear)."""
    score: float
    """The detector's confidence, 0 to 1."""
    landmarks: np.ndarray
    """float32. ``mesh478``: shape (478, 3): the 468 points of the MediaPipe face mesh, then the
    centre and four edge points of the person's right iris (468-472) and of the left (473-477); z in
    pixels, smaller is nearer to the camera. ``points106``: shape (106, 2)."""
    layout: Literal["mesh478", "points106"]
    pose: HeadPose
    spread: np.ndarray | None = None
    """float32 (landmarks,): standard deviation of each landmark over the face's height when the
    network looks again at slightly moved crops. Below 0.006 where a face is plainly seen, above
    0.01 where landmarks are guessed. None: the backend does not measure it."""

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return self.box[3] - self.box[1]


class FaceAnalyzer(Protocol):
    """Finds faces in an RGB photo."""

    def analyze(self, rgb: np.ndarray) -> list[Face]:
        """Every face in ``rgb`` (uint8, (height, width, 3)), largest first; empty when none."""
        ...


class PortraitError(ValueError):
    """The photo cannot become an avatar.

    Attributes:
        code: a stable upper-case name, such as ``NO_FACE`` or ``FACE_TOO_SMALL``.
        remedy: what to send instead, one sentence.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy
