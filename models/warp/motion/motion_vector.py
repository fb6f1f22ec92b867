"""The motion vector of the warp engine: what a pose consists of, in which unit.

Every frame's motion is one float32 vector of ``len(CHANNELS)`` numbers. The actor writes it, the
renderer reads it, and speech and idling blend in it.
"""

from __future__ import annotations

import numpy as np

CHANNELS: dict[str, str] = {
    "aperture": "gap between the inner lips over the distance of the pupils; 0 closed, 0.35 wide",
    "width": "-1 rounded lips (oo), 0 as in the photo, +1 spread (ee)",
    "jaw": "0 shut, 1 the jaw as low as an open 'ah' needs",
    "closure": "0 to 1: lips pressed together (p, b, m); overrides aperture",
    "labiodental": "0 to 1: the lower lip touches the upper teeth (f, v)",
    "tongue": "0 low in the mouth, 1 its tip at the upper teeth (l, th)",
    "smile": "-1 corners down, 0 as in the photo, +1 corners up and out",
    "blink_left": "0 as open as in the photo, 1 shut; the person's left eye",
    "blink_right": "the person's right eye",
    "gaze_x": "degrees away from the photo's gaze, > 0 to the picture's right",
    "gaze_y": "degrees, > 0 down",
    "brow": "-1 lowered, +1 raised",
    "yaw": "degrees of head turn away from the photo; signs as in models.face.HeadPose",
    "pitch": "degrees",
    "roll": "degrees",
    "sway_x": "shift of the head over the distance of the pupils, > 0 right",
    "sway_y": "the same, > 0 down",
    "breath": "0 breathed out, 1 in: shoulders and chest rise a little",
}
"""Name of each channel and what its numbers mean, in the order of the vector."""

INDEX: dict[str, int] = {name: i for i, name in enumerate(CHANNELS)}
"""Position of each channel in the vector."""


def rest() -> np.ndarray:
    """The motion of a face at rest, lips closed: float32, shape (len(CHANNELS),)."""
    return np.zeros(len(CHANNELS), dtype=np.float32)
