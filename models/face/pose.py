"""Head pose from the face mesh, and the mesh lifted to three dimensions."""

from __future__ import annotations

import numpy as np

from models.face import topology
from models.face.port import HeadPose


def head_pose(landmarks: np.ndarray) -> HeadPose:
    """Rotation of the head from mesh landmarks ((468 or more, 3), pixels), in degrees."""
    across = np.mean(
        [
            landmarks[left] - landmarks[right]
            for right, left in (
                (topology.RIGHT_EYE_CORNERS[0], topology.LEFT_EYE_CORNERS[0]),
                (topology.EAR_RIGHT, topology.EAR_LEFT),
                (topology.RIGHT_EYE_CORNERS[1], topology.LEFT_EYE_CORNERS[1]),
            )
        ],
        axis=0,
    )
    down = landmarks[topology.CHIN] - landmarks[topology.FOREHEAD_TOP]
    across = across / np.linalg.norm(across)
    forward = np.cross(down, across)
    forward /= np.linalg.norm(forward)
    return HeadPose(
        yaw=float(np.degrees(np.arctan2(forward[0], -forward[2]))),
        pitch=float(np.degrees(np.arctan2(forward[1], np.hypot(forward[0], forward[2])))),
        roll=float(np.degrees(np.arctan2(across[1], np.hypot(across[0], across[2])))),
    )
