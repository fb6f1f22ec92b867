"""Face analysis: who is in the photo, where, and whether the photo can become an avatar."""

from models.face.port import Face, FaceAnalyzer, HeadPose, PortraitError

__all__ = ["Face", "FaceAnalyzer", "HeadPose", "PortraitError"]
