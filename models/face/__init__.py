"""Face analysis: who is in the photo, where, and whether the photo can become an avatar."""

from __future__ import annotations

from models.face.framing import FramedPortrait, frame_portrait, framed_region
from models.face.mediapipe import MediaPipeAnalyzer
from models.face.photo import load_photo
from models.face.port import Face, FaceAnalyzer, HeadPose, PortraitError
from models.face.portrait import Portrait, PortraitWarning, inspect_portrait
from models.face.pose import LiftedFace, lift

__all__ = [
    "Face",
    "FaceAnalyzer",
    "FramedPortrait",
    "HeadPose",
    "LiftedFace",
    "Portrait",
    "PortraitError",
    "PortraitWarning",
    "default_analyzer",
    "frame_portrait",
    "framed_region",
    "inspect_portrait",
    "lift",
    "load_photo",
]


def default_analyzer() -> FaceAnalyzer:
    """The MediaPipe analyser, its files fetched on first use (see ``models.assets``)."""
    return MediaPipeAnalyzer()
