"""Head pose from the face mesh, and the mesh lifted to three dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.face.port import Face, HeadPose

# An average adult face looking straight ahead, in cm: x to the person's left, y up, z forward.
# Positions of points that hardly move with the expression, after MediaPipe's canonical face
# (Apache-2.0). Of points beside the middle only the right one is listed; the left mirrors it.
_MIDDLE = {
    10: (0.0, 8.26, 4.48),
    151: (0.0, 6.55, 5.03),
    9: (0.0, 4.89, 5.39),
    168: (0.0, 3.27, 5.24),
    6: (0.0, 2.47, 5.79),
    197: (0.0, 1.73, 6.32),
    195: (0.0, 1.06, 6.77),
    5: (0.0, 0.37, 7.24),
    4: (0.0, -0.46, 7.59),
    1: (0.0, -1.13, 7.48),
    2: (0.0, -2.09, 6.06),
}
_RIGHT = {
    (33, 263): (-4.45, 2.66, 3.17),
    (133, 362): (-1.86, 2.59, 3.76),
    (127, 356): (-7.74, 2.36, -2.01),
    (162, 389): (-7.56, 4.11, -0.99),
    (21, 251): (-7.09, 5.43, 0.10),
    (54, 284): (-5.13, 7.49, 2.66),
    (103, 332): (-4.54, 6.32, 3.68),
    (67, 297): (-3.52, 8.01, 3.73),
    (109, 338): (-1.89, 8.24, 4.27),
    (234, 454): (-7.66, 0.67, -2.44),
    (116, 345): (-6.47, 0.94, 1.69),
    (117, 346): (-5.26, 0.95, 2.97),
    (50, 280): (-4.77, -0.70, 3.53),
    (205, 425): (-3.83, -1.54, 4.14),
    (48, 278): (-1.79, -0.98, 4.85),
    (98, 327): (-1.41, -1.71, 5.24),
    (143, 372): (-6.41, 2.24, 1.56),
}
_INDICES = np.array(
    [*_MIDDLE, *(i for i, _ in _RIGHT), *(i for _, i in _RIGHT)],
)
_CANONICAL = np.array(
    [
        *((x, -y, -z) for x, y, z in _MIDDLE.values()),
        *((x, -y, -z) for x, y, z in _RIGHT.values()),
        *((-x, -y, -z) for x, y, z in _RIGHT.values()),
    ]
)
"""In the picture's axes: x right, y down, z away from the camera."""


@dataclass(frozen=True)
class PoseFit:
    """The canonical face laid over a mesh: ``mesh ~ scale * rotation @ canonical + origin``."""

    rotation: np.ndarray
    """(3, 3): from the head's axes to the picture's (x right, y down, z away from the camera)."""
    scale: float
    """Pixels per cm."""
    origin: np.ndarray
    """(3,): the middle of the head, about between the ears, in pixels."""
    residual: float
    """Root mean square distance of the points from the fit, in cm."""


def fit_pose(landmarks: np.ndarray) -> PoseFit:
    """Least-squares similarity transform from the canonical face to the mesh.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991. Expression hardly matters: lips, lids, brows and chin are left out.

    Args:
        landmarks: (468 or more, 3), pixels.
    """
    points = landmarks[_INDICES].astype(np.float64)
    mean, canonical_mean = points.mean(0), _CANONICAL.mean(0)
    b, a = points - mean, _CANONICAL - canonical_mean
    u, singular, vt = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * flip) @ vt
    scale = float((singular * flip).sum() / (a**2).sum())
    residual = float(np.sqrt(((b / scale - a @ rotation.T) ** 2).sum(1).mean()))
    return PoseFit(rotation, scale, mean - scale * rotation @ canonical_mean, residual)


def angles(rotation: np.ndarray) -> HeadPose:
    """Head pose of a rotation matrix as in ``PoseFit``.

    Inverse of ``rotation_of``: the head rolls, then pitches, then yaws.
    """
    nose = rotation @ (0.0, 0.0, -1.0)
    yaw = np.arctan2(nose[0], -nose[2])
    pitch = np.arctan2(nose[1], np.hypot(nose[0], nose[2]))
    rolled = rotation_of(HeadPose(np.degrees(yaw), np.degrees(pitch), 0.0)).T @ rotation
    roll = np.arctan2(rolled[1, 0], rolled[0, 0])
    return HeadPose(float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll)))


def rotation_of(pose: HeadPose) -> np.ndarray:
    """Rotation matrix (3, 3) of a head pose, in the picture's axes (x right, y down, z away)."""
    yaw, pitch, roll = np.radians((pose.yaw, pose.pitch, pose.roll))
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_z = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    )
    return about_y @ about_x @ about_z


def head_pose(landmarks: np.ndarray) -> HeadPose:
    """Rotation of the head from mesh landmarks ((468 or more, 3), pixels), in degrees."""
    return angles(fit_pose(landmarks).rotation)


@dataclass(frozen=True)
class LiftedFace:
    """A face mesh in space, to be rotated about the head's middle."""

    points: np.ndarray
    """float32 (478, 3), pixels: x, y as in the photo, z > 0 away from the camera, in the scale of
    x and y; z is 0 at ``pivot``'s depth."""
    pivot: np.ndarray
    """float32 (3,): the middle of the head between the ears, where it turns; its z is 0."""
    rotation: np.ndarray
    """float64 (3, 3): how the head is turned in the photo; ``rotation.T @ (p - pivot)`` are the
    head's own axes."""
    scale: float
    """Pixels per cm of an average head."""


def lift(face: Face) -> LiftedFace:
    """The mesh of ``face`` in space.

    MediaPipe's z is that of a weak-perspective camera, so x, y and z share one scale up to a few
    per cent; what is left is taken out by the factor that brings the mesh nearest to the canonical
    face.

    Raises:
        ValueError: the landmarks have no depth.
    """
    if face.layout != "mesh478":
        raise ValueError(f"only mesh478 landmarks can be lifted, not {face.layout}")
    points = face.landmarks.astype(np.float64)
    factors = np.linspace(0.85, 1.15, 13)
    fits = [fit_pose(points * (1.0, 1.0, factor)) for factor in factors]
    best = int(np.argmin([fit.residual for fit in fits]))
    fit = fits[best]
    points[:, 2] = points[:, 2] * factors[best] - fit.origin[2]
    pivot = np.array([fit.origin[0], fit.origin[1], 0.0], np.float32)
    return LiftedFace(points.astype(np.float32), pivot, fit.rotation, fit.scale)
