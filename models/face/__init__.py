"""Face analysis: who is in the photo, where, and whether the photo can become an avatar."""

from __future__ import annotations

from models.face.framing import FramedPortrait, frame_portrait
from models.face.mediapipe import MediaPipeAnalyzer
from models.face.port import Face, FaceAnalyzer, HeadPose, PortraitError

__all__ = [
    "Face",
    "FaceAnalyzer",
    "FramedPortrait",
    "HeadPose",
    "PortraitError",
    "default_analyzer",
    "frame_portrait",
]


def default_analyzer() -> FaceAnalyzer:
    """The MediaPipe analyser, its files fetched on first use (see ``models.assets``)."""
    return MediaPipeAnalyzer()
