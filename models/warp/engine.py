"""The embedded engine: one photo, warped. Runs on a CPU in real time, and on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.engine import Canvas
from models.warp.identity import WarpIdentity, build_identity
from models.warp.motion import WarpPose
from models.warp.renderer import render

if TYPE_CHECKING:
    from models.face import FaceAnalyzer
    from models.warp.actor import WarpActor


class WarpEngine:
    """Implements ``models.engine.Engine``. Thread-safe: it keeps no state between calls."""

    name = "warp"

    def __init__(
        self, device: str | torch.device = "cpu", analyzer: FaceAnalyzer | None = None
    ) -> None:
        """Choose where to run.

        Args:
            device: a torch device.
            analyzer: finds the face; default: MediaPipe's, loaded on first use.
        """
        self.device = torch.device(device)
        self._analyzer = analyzer

    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> WarpIdentity:
        """Find and frame the face of ``portrait`` (uint8 RGB, (height, width, 3)).

        Raises:
            models.face.PortraitError: the photo cannot be used; says why and what to send.
        """
        from models.face import default_analyzer, frame_portrait

        if self._analyzer is None:
            self._analyzer = default_analyzer()
        faces = self._analyzer.analyze(portrait)
        if not faces:
            from models.face import PortraitError

            raise PortraitError(
                "NO_FACE", "no face was found in the portrait", "Send a photo with one clear face"
            )
        return build_identity(frame_portrait(portrait, faces[0], canvas), self.device)

    def actor(self, identity: WarpIdentity, seed: int = 0) -> WarpActor:
        """A performer for one session. The same seed performs the same idle motion."""
        from models.warp.actor import WarpActor

        return WarpActor(identity, seed=seed)

    def render(self, poses: Sequence[WarpPose]) -> list[np.ndarray]:
        """One tightly packed I420 picture per pose: uint8, shape ``canvas.i420_shape``."""
        return render(poses)
