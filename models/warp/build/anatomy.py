"""The person's own geometry: the frame of the face, the lips' line, lids and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.face import topology


@dataclass(frozen=True)
class FaceFrame:
    """Upright coordinates of the face in the picture, in distances of the pupils.

    Origin where the lips meet, x along the eyes to the picture's right, y down.
    """

    origin: np.ndarray
    """Pixels, (2,)."""
    right: np.ndarray
    """Unit vector along the eyes, pixels, (2,)."""
    down: np.ndarray
    """Unit vector across them, (2,)."""
    unit: float
    """Distance of the pupils in pixels, taken between the middles of the eyes' corners."""
    half_width_right: float
    """From the origin to the right mouth corner (the picture's left), in units."""
    half_width_left: float

    def to_frame(self, pixels: np.ndarray) -> np.ndarray:
        """Frame coordinates of pixel positions (..., 2)."""
        x = (pixels[..., 0] - self.origin[0]) / self.unit
        y = (pixels[..., 1] - self.origin[1]) / self.unit
        axes = [x * axis[0] + y * axis[1] for axis in (self.right, self.down)]
        # Each axis lies in one piece: arithmetic with one of them does not skip the other.
        return np.moveaxis(np.stack(axes), 0, -1)

    def to_pixels(self, frame: np.ndarray) -> np.ndarray:
        """Pixel positions of frame coordinates (..., 2)."""
        return self.origin + self.vector(frame)

    def vector(self, frame: np.ndarray) -> np.ndarray:
        """A displacement (..., 2) in the frame as pixels."""
        return (frame[..., :1] * self.right + frame[..., 1:] * self.down) * self.unit

    def across(self, x: np.ndarray) -> np.ndarray:
        """Position across the mouth: -1 at the right corner, 0 in the middle, 1 at the left."""
        return np.where(x < 0, x / self.half_width_right, x / self.half_width_left)


def face_frame(landmarks: np.ndarray) -> FaceFrame:
    """The frame of the face with ``landmarks`` ((478, 3), pixels)."""
    points = landmarks[:, :2].astype(np.float64)
    right_eye = points[list(topology.RIGHT_EYE_CORNERS)].mean(0)
    left_eye = points[list(topology.LEFT_EYE_CORNERS)].mean(0)
    across = left_eye - right_eye
    unit = float(np.hypot(*across))
    right = across / unit
    down = np.array([-right[1], right[0]])
    lips = points[[0, 13, 14, 17]]
    middle = float(((lips - right_eye) @ right).mean())
    corners = points[[topology.MOUTH_CORNER_RIGHT, topology.MOUTH_CORNER_LEFT]]
    seam = points[[topology.LIP_UPPER_INNER_MIDDLE, topology.LIP_LOWER_INNER_MIDDLE]].mean(0)
    height = float((seam - right_eye) @ down)
    origin = right_eye + right * middle + down * height
    reach = (corners - origin) @ right / unit
    return FaceFrame(origin, right, down, unit, float(-reach[0]), float(reach[1]))


def smoothstep(low: float | np.ndarray, high: float | np.ndarray, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
