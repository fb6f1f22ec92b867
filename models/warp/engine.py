"""The embedded engine: one photo, warped. Runs on a CPU in real time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.engine import Canvas
from models.face import FaceAnalyzer, default_analyzer, frame_portrait, inspect_portrait
from models.warp.build.identity import build_identity
from models.warp.identity import WarpIdentity
from models.warp.motion.actor import WarpActor
from models.warp.pose import WarpPose
from models.warp.render import render
from models.warp.render.native import library
from models.warp.speech.network import SpeechToMotion


class WarpEngine:
    """Implements ``models.engine.Engine``. Thread-safe: nothing of it changes between calls."""

    name = "warp"

    preferred_batch = 1
    """One core renders four faces no faster together than one after the other."""

    lookahead_s = 0.06
    """Speech to hear beyond the first frame before it is shown. The network's last word on a row
    comes 100 ms after it, but its word after 40 ms is as good to the eye; the rest is a margin
    against uneven senders."""

    def __init__(self, analyzer: FaceAnalyzer | None = None, liveliness: float = 1.0) -> None:
        """Load the face models, the weights of the speech network and the compiled kernels.

        Args:
            analyzer: finds the face; default: MediaPipe's.
            liveliness: how much the face moves by itself: 0 still, 1 natural, 1.5 restless.

        Raises:
            models.assets.AssetError: a model file cannot be had; says which and how to fetch it.
            models.engine.EngineError: the kernels were not built.
        """
        self.liveliness = liveliness
        library()
        self._analyzer = analyzer or default_analyzer()
        self._network = SpeechToMotion.load()

    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> WarpIdentity:
        """Check, find and frame the face of ``portrait`` (uint8 RGB, (height, width, 3)).

        Raises:
            models.face.PortraitError: the photo cannot be used; says why and what to send.
        """
        face = inspect_portrait(portrait, self._analyzer).face
        return build_identity(frame_portrait(portrait, face, canvas))

    def actor(self, identity: WarpIdentity, seed: int = 0) -> WarpActor:
        """The actor of one session. The same seed gives the same idle motion."""
        return WarpActor(identity, self._network, seed=seed, liveliness=self.liveliness)

    def render(self, poses: Sequence[WarpPose]) -> list[np.ndarray]:
        """One tightly packed I420 frame per pose: uint8, shape ``canvas.i420_shape``. Releases the
        GIL: several threads render at once."""
        return render(poses)
