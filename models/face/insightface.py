"""Face analysis by InsightFace: SCRFD and 106 landmarks on onnxruntime.

Off by default. The ``insightface`` code is MIT, but the models it downloads ("buffalo_l" and the
like) are licensed by their authors for non-commercial research only; use this backend if you hold
a licence for them. Install it with ``pip install 'avatar-server[insightface]'``.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from models.face.port import Face, HeadPose

_MIN_SCORE = 0.5


class InsightFaceAnalyzer:
    """Implements ``FaceAnalyzer`` with layout ``points106``. One photo at a time; thread-safe."""

    def __init__(self, model: str = "buffalo_l", device: int = -1) -> None:
        """Load the models; insightface downloads them on first use.

        Args:
            model: name of the model pack; must hold a detector and the 106- and 68-point models.
            device: CUDA device, or -1 for the CPU.

        Raises:
            RuntimeError: the package is not installed.
        """
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise RuntimeError(
                "the insightface face analyser needs the package insightface: "
                "pip install 'avatar-server[insightface]'. Its models are licensed for "
                "non-commercial use only; the default analyser (mediapipe) needs neither"
            ) from error
        self._lock = threading.Lock()
        self._app = FaceAnalysis(
            name=model, allowed_modules=["detection", "landmark_2d_106", "landmark_3d_68"]
        )
        self._app.prepare(ctx_id=device, det_size=(640, 640))

    def analyze(self, rgb: np.ndarray) -> list[Face]:
        """Every face in ``rgb`` (uint8, (height, width, 3)), largest first; empty when none."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected uint8 RGB (height, width, 3), got {rgb.dtype} {rgb.shape}")
        with self._lock:
            found = self._app.get(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        faces = [_face(one) for one in found if float(one.det_score) >= _MIN_SCORE]
        return sorted(faces, key=lambda face: face.height, reverse=True)


def _face(found: Any) -> Face:
    left, top, right, bottom = (float(value) for value in found.bbox)
    return Face(
        (left, top, right, bottom),
        float(found.det_score),
        np.asarray(found.landmark_2d_106, np.float32),
        "points106",
        _pose(np.asarray(found.pose, float), np.asarray(found.landmark_3d_68, float)),
    )


def _pose(pose: np.ndarray, points: np.ndarray) -> HeadPose:
    """Head pose in our signs.

    InsightFace answers (pitch, yaw, roll) in degrees in the axes of its mean face. Only the sizes
    of the first two are taken from it; which way the nose points is read off the 68 landmarks.
    """
    ear_right, chin, ear_left, nose = points[0, :2], points[8, :2], points[16, :2], points[30, :2]
    eye_right, eye_left = points[36, :2], points[45, :2]
    roll = np.arctan2(eye_left[1] - eye_right[1], eye_left[0] - eye_right[0])
    across = np.array([np.cos(roll), np.sin(roll)])
    down = np.array([-np.sin(roll), np.cos(roll)])
    sideways = float((nose - (ear_right + ear_left) / 2) @ across)
    eyes = (eye_right + eye_left) / 2
    # Looking straight, the nose's tip lies about 0.4 of the way from the eyes to the chin.
    lowness = float((nose - eyes) @ down) - 0.4 * float((chin - eyes) @ down)
    return HeadPose(
        yaw=float(np.copysign(abs(pose[1]), sideways)),
        pitch=float(np.copysign(abs(pose[0]), lowness)),
        roll=float(np.degrees(roll)),
    )
