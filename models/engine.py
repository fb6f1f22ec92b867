"""The engine port: what a talking-face engine does for the worker.

An engine has three verbs. ``prepare`` turns a portrait into an identity, once per avatar.
``actor`` makes the actor of one session, which takes in speech and answers with poses. ``render``
turns a batch of poses, of any sessions and identities, into pictures. Everything an accelerator
does at frame rate goes through ``render``.

An engine whose motion is expensive has a fourth verb, ``generate_motion``: it generates the motion
of many actors together, ahead of time (:class:`MotionBatchEngine`).

Time is counted in frames of 40 ms. Frame *k* of a stretch of speech belongs to the audio samples
``[k * 640, (k + 1) * 640)`` at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

FPS = 25
"""Frames per second of every engine and every room."""

SPEECH_RATE = 16_000
"""Sample rate of the speech an actor hears, in Hz."""

SPEECH_SAMPLES_PER_FRAME = SPEECH_RATE // FPS
"""Speech samples (16 kHz) that belong to one frame: 640."""


@dataclass(frozen=True)
class Canvas:
    """The picture's size in pixels. Both sides are even, as I420 demands."""

    width: int
    height: int

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 64 or side > 4096 or side % 2:
                raise ValueError(f"canvas {name} must be even and 64 to 4096 pixels, not {side}")

    @property
    def i420_shape(self) -> tuple[int, int]:
        """Shape of a tightly packed I420 picture of this size: (height * 3 / 2, width)."""
        return (self.height * 3 // 2, self.width)


class EngineError(RuntimeError):
    """The engine cannot be used here; the text says why and what to do."""


class Identity(Protocol):
    """A prepared avatar: everything that depends on the photo alone, on the engine's device."""

    @property
    def canvas(self) -> Canvas:
        """Size of the pictures this identity renders to."""
        ...


class Pose(Protocol):
    """What one frame is to look like: an identity and its motion at one instant. Immutable."""

    @property
    def identity(self) -> Identity:
        """Whose face."""
        ...


class Actor(Protocol):
    """Drives one session's face: takes in speech, answers with poses. Not thread-safe by itself.

    The caller holds one lock per actor or calls it from one thread only.
    """

    @property
    def buffered_frames(self) -> int:
        """Frames of speech taken in and not yet posed (a begun frame counts once it is whole)."""
        ...

    @property
    def ready(self) -> int:
        """Of those, the frames whose lookahead was taken in too: their poses cost nothing."""
        ...

    def push_audio(self, pcm: np.ndarray) -> None:
        """Take in speech: int16, mono, 16 kHz, shape (samples,), of any length. Cheap; no network
        runs here."""
        ...

    def end_segment(self) -> None:
        """The stretch of speech ends here: pad it to a whole frame, what follows is silence."""
        ...

    def interrupt(self, unseen: int = 0) -> None:
        """Interrupt: forget speech that was not posed and ease to rest.

        ``unseen`` of the frames already posed never reached a viewer: motion continues from the
        pose before them, so that the face does not jump.
        """
        ...

    def next_poses(self, n: int, speaking: bool) -> Sequence[Pose]:
        """Poses of the next ``n`` frames.

        With ``speaking`` each frame consumes one buffered frame of speech (``ValueError`` if ``n``
        exceeds ``buffered_frames``); where its lookahead is missing the actor does its best
        without, and goes on from its true state when more comes. Without ``speaking`` the face
        idles and speech waits.
        """
        ...


class MotionBatchActor(Actor, Protocol):
    """An actor whose motion can be generated ahead of time, for many of them together.

    Nobody has to: where it was not done, ``next_poses`` does it, for this one actor.
    """

    @property
    def motion_headroom(self) -> int | None:
        """Buffered frames that can be posed before motion has to be generated: 0, the next one
        needs it. None: enough was generated, or too little speech came for more."""
        ...


class Engine(Protocol):
    """A talking-face engine on one device."""

    name: str

    lookahead_s: float
    """Seconds of speech beyond a frame's end that its best motion needs."""

    preferred_batch: int
    """Poses that are worth rendering together: many where that saves time, one where it only makes
    the first wait for the last."""

    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> Identity:
        """Find, align and frame the face of ``portrait`` (uint8 RGB, (height, width, 3)).

        Raises:
            models.face.PortraitError: the photo cannot be used; says why and what to send.
        """
        ...

    def actor(self, identity: Any, seed: int = 0) -> Actor:
        """The actor of one session, with an identity this engine prepared. The same seed gives the
        same idle motion."""
        ...

    def render(self, poses: Sequence[Any]) -> list[np.ndarray]:
        """Render, in one batch, poses that actors of this engine made: one tightly packed
        I420 picture per pose, uint8, shape ``canvas.i420_shape``."""
        ...


@runtime_checkable
class MotionBatchEngine(Engine, Protocol):
    """An engine that generates motion in batches; its actors are of :class:`MotionBatchActor`."""

    motion_batch: int
    """Actors whose motion is worth generating together."""

    def generate_motion(self, actors: Sequence[Any]) -> None:
        """Generate the next motion of ``actors``, each once, as far as enough speech came."""
        ...
