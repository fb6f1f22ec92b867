"""An engine whose pictures say what they belong to: the flap to a test signal's click.

Each picture is one grey: bright when the speech of its frame is loud, dark when it is quiet, mid
grey when idle. Whether a picture reached the room together with its own sound can be read off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.engine import SPEECH_SAMPLES_PER_FRAME, Canvas

IDLE, QUIET, LOUD = 128, 60, 220


@dataclass(frozen=True)
class FlapIdentity:
    canvas: Canvas


@dataclass(frozen=True)
class FlapPose:
    identity: FlapIdentity
    grey: int
    fault: Exception | None = None


class FlapActor:
    """Consumes speech like a real actor and refuses what a real one refuses."""

    def __init__(self, identity: FlapIdentity) -> None:
        self.identity = identity
        self.cuts: list[int] = []
        self.acted: list[int] = []
        self.fault: Exception | None = None
        self._pcm = np.zeros(0, np.int16)

    @property
    def buffered_frames(self) -> int:
        return len(self._pcm) // SPEECH_SAMPLES_PER_FRAME

    @property
    def ready(self) -> int:
        return self.buffered_frames

    def push_audio(self, pcm: np.ndarray) -> None:
        assert pcm.dtype == np.int16
        self._pcm = np.concatenate([self._pcm, pcm])

    def end_segment(self) -> None:
        assert len(self._pcm) % SPEECH_SAMPLES_PER_FRAME == 0, "a segment must end on a frame"

    def interrupt(self, unseen: int = 0) -> None:
        self.cuts.append(unseen)
        self._pcm = self._pcm[:0]

    def next_poses(self, n: int, speaking: bool) -> list[FlapPose]:
        poses = []
        for _ in range(n):
            grey = IDLE
            if speaking:
                if not self.buffered_frames:
                    raise ValueError("speaking without buffered speech")
                piece, self._pcm = np.split(self._pcm, [SPEECH_SAMPLES_PER_FRAME])
                grey = LOUD if np.abs(piece.astype(int)).max() > 8000 else QUIET
            self.acted.append(grey)
            poses.append(FlapPose(self.identity, grey, self.fault))
        return poses


class FlapEngine:
    """``render_s``: how long one batch takes, slept for real. ``gate``: rendering waits until it is
    set; ``entered`` is set when a batch has begun."""

    name = "flap"
    lookahead_s = 0.0
    preferred_batch = 4

    def __init__(self, render_s: float = 0.0) -> None:
        self.render_s = render_s
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.actors: list[FlapActor] = []

    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> FlapIdentity:
        return FlapIdentity(canvas)

    def actor(self, identity: FlapIdentity, seed: int = 0) -> FlapActor:
        self.actors.append(FlapActor(identity))
        return self.actors[-1]

    def render(self, poses: Sequence[FlapPose]) -> list[np.ndarray]:
        self.batches.append(len(poses))
        self.entered.set()
        assert self.gate.wait(10), "nobody opened the gate"
        if self.render_s:
            time.sleep(self.render_s)
        for pose in poses:
            if pose.fault is not None:
                raise pose.fault
        return [np.full(p.identity.canvas.i420_shape, p.grey, np.uint8) for p in poses]
