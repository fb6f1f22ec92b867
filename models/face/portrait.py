"""Whether a photo makes a good avatar: refusals with a reason, and warnings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.face import topology
from models.face.evidence import sharpness
from models.face.port import Face, FaceAnalyzer, PortraitError

MIN_FACE_HEIGHT = 96
"""Pixels."""
MIN_FACE_SHARE = 0.18
"""Height of the face over the photo's shorter side."""
SECOND_FACE_SCORE = 0.6
SECOND_FACE_SHARE = 0.3
"""Area of another face's box over the largest one's from which it counts."""
MAX_YAW = 40.0
MAX_PITCH = 30.0
MAX_ROLL = 60.0
"""A head that leans further is a photo that lies on its side."""
MIN_SHARPNESS = 0.20
"""Below it a face is refused; see ``models.face.evidence.sharpness``."""
SOFT_SHARPNESS = 0.30
GUESSED_LIPS = 0.0075
"""Mean spread of the lips' landmarks from which the mouth is taken as hidden, if that is also much
more than the eyes'."""
CLOSED_EYE = 0.17
"""Gap between the lids over the width of the eye."""
FLAT_EYE = 0.35
"""Contrast between the lids below which no eye can be made out there."""
OPEN_MOUTH = 0.08
"""Gap between the lips over the distance of the pupils."""


@dataclass(frozen=True)
class PortraitWarning:
    """Something that will show in the avatar, though the photo can be used."""

    code: str
    message: str


@dataclass(frozen=True)
class Portrait:
    """The one face of a photo that passed."""

    face: Face
    warnings: tuple[PortraitWarning, ...]
    """``FACE_SOFT``, ``MOUTH_HIDDEN``, ``MOUTH_OPEN``, ``EYES_HIDDEN``, ``EYES_CLOSED``,
    ``FACE_CUT``."""


def inspect_portrait(rgb: np.ndarray, analyzer: FaceAnalyzer) -> Portrait:
    """Find the face of a portrait and judge it.

    Args:
        rgb: uint8 (height, width, 3), as ``load_photo`` returns it.
        analyzer: what finds faces.

    Raises:
        PortraitError: ``NO_FACE``, ``MULTIPLE_FACES``, ``FACE_TOO_SMALL``, ``FACE_NOT_FRONTAL`` or
            ``FACE_BLURRED``.
    """
    faces = analyzer.analyze(rgb)
    if not faces:
        raise PortraitError(
            "NO_FACE", "No face detected", "Use a clear portrait or head-and-shoulders photo."
        )
    face = faces[0]
    _check_alone(face, faces[1:])
    _check_size(face, rgb.shape[0], rgb.shape[1])
    _check_frontal(face)
    sharp = sharpness(rgb, face)
    if sharp < MIN_SHARPNESS:
        raise PortraitError(
            "FACE_BLURRED",
            f"Face is blurred: its sharpness is {sharp:.2f}, {MIN_SHARPNESS:.2f} is needed",
            "Use a photo in which the eyes are in focus.",
        )
    return Portrait(face, tuple(_warnings(rgb, face, sharp)))


def _area(face: Face) -> float:
    return (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])


def _check_alone(face: Face, others: list[Face]) -> None:
    counted = [
        other
        for other in others
        if other.score >= SECOND_FACE_SCORE and _area(other) >= SECOND_FACE_SHARE * _area(face)
    ]
    if counted:
        raise PortraitError(
            "MULTIPLE_FACES",
            f"More than one face detected: {len(counted) + 1} of similar size",
            "Use a photo of one person.",
        )


def _check_size(face: Face, height: int, width: int) -> None:
    share = face.height / min(height, width)
    if face.height < MIN_FACE_HEIGHT or share < MIN_FACE_SHARE:
        raise PortraitError(
            "FACE_TOO_SMALL",
            f"Face is too small in the image: {face.height:.0f} pixels high and {share:.0%} of the "
            f"shorter side, {MIN_FACE_HEIGHT} pixels and {MIN_FACE_SHARE:.0%} are needed",
            "Crop the photo to head and shoulders, or use a closer one.",
        )


def _check_frontal(face: Face) -> None:
    pose = face.pose
    if abs(pose.yaw) > MAX_YAW or abs(pose.pitch) > MAX_PITCH:
        raise PortraitError(
            "FACE_NOT_FRONTAL",
            f"Face is not turned to the camera: it is turned by {abs(pose.yaw):.0f} degrees "
            f"sideways and {abs(pose.pitch):.0f} up or down, {MAX_YAW:.0f} and {MAX_PITCH:.0f} "
            "are allowed",
            "Use a photo that looks into the camera.",
        )
    if abs(pose.roll) > MAX_ROLL:
        raise PortraitError(
            "FACE_NOT_FRONTAL",
            f"Face is not upright: it leans by {abs(pose.roll):.0f} degrees",
            "Turn the photo upright and send it again.",
        )


def _warnings(rgb: np.ndarray, face: Face, sharp: float) -> list[PortraitWarning]:
    found = []
    if sharp < SOFT_SHARPNESS:
        found.append(
            PortraitWarning("FACE_SOFT", f"The face is a little out of focus ({sharp:.2f})")
        )
    height, width = rgb.shape[:2]
    if face.box[0] < 0 or face.box[1] < 0 or face.box[2] > width or face.box[3] > height:
        found.append(PortraitWarning("FACE_CUT", "The photo's edge cuts the face"))
    if face.layout == "mesh478":
        found += _mouth_warnings(face)
        found += _eye_warnings(rgb, face, sharp)
    return found


def _mouth_warnings(face: Face) -> list[PortraitWarning]:
    if face.spread is not None:
        lips = float(face.spread[list(topology.LIPS)].mean())
        eyes = float(
            face.spread[[*topology.RIGHT_EYE_BAND[:16], *topology.LEFT_EYE_BAND[:16]]].mean()
        )
        if lips > GUESSED_LIPS and lips > 1.8 * eyes:
            return [
                PortraitWarning("MOUTH_HIDDEN", "The mouth seems covered; its motion will be drawn")
            ]
    points = face.landmarks
    pupils = float(np.linalg.norm(points[topology.LEFT_IRIS[0]] - points[topology.RIGHT_IRIS[0]]))
    gap = float(
        np.linalg.norm(
            points[topology.LIP_LOWER_INNER_MIDDLE] - points[topology.LIP_UPPER_INNER_MIDDLE]
        )
    )
    if gap > OPEN_MOUTH * pupils:
        return [PortraitWarning("MOUTH_OPEN", "The mouth is open; a closed one looks better")]
    return []


def _eye_warnings(rgb: np.ndarray, face: Face, sharp: float) -> list[PortraitWarning]:
    found = []
    for side, upper, lower in (
        ("right", topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER),
        ("left", topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER),
    ):
        points = face.landmarks[:, :2]
        width = float(np.linalg.norm(points[upper[0]] - points[upper[-1]]))
        gap = np.linalg.norm(points[list(upper[3:6])] - points[list(lower[3:6])], axis=1).mean()
        if gap < CLOSED_EYE * width:
            found.append(PortraitWarning("EYES_CLOSED", f"The person's {side} eye is closed"))
        # Blur takes the contrast of an eye that can be seen well enough.
        elif sharp >= SOFT_SHARPNESS and _eye_contrast(rgb, points, upper, lower) < FLAT_EYE:
            found.append(PortraitWarning("EYES_HIDDEN", f"The person's {side} eye seems covered"))
    return found


def _eye_contrast(
    rgb: np.ndarray, points: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...]
) -> float:
    """Light (white of the eye) against dark (pupil, lashes) between the lids, 0 to 1."""
    outline = points[[*upper, *lower[::-1]]]
    low = np.floor(outline.min(0)).astype(int).clip(0)
    high = np.ceil(outline.max(0)).astype(int) + 1
    grey = cv2.cvtColor(rgb[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    mask = np.zeros(grey.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline - low).astype(np.int32)], 1)
    inside = grey[mask > 0]
    if inside.size < 12:
        return 1.0
    dark, light = np.percentile(inside, (5, 95))
    return float((light - dark) / (light + 1.0))
