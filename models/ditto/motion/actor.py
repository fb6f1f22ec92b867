"""The ditto engine's actor: one session's speech and idling become key points.

Taking in audio costs nothing: speech is kept until motion is generated from it, by
``models.ditto.motion.motion_generator``, for many sessions at once. What an actor then does for a
frame is arithmetic on a few hundred numbers, on the host: as kernels of a GPU the same would take
longer to start than to run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.ditto.audio.speech_windows import (
    LOOKAHEAD,
    PRESENT,
    STRIDE,
    SpeechWindow,
    SpeechWindows,
)
from models.ditto.motion.motion_blender import LIVELY, MotionBlender, loudness
from models.ditto.motion.motion_windows import REMEMBERED_ROWS, MotionWindows, WindowRequest
from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME

if TYPE_CHECKING:
    from models.ditto.identity import DittoIdentity
    from models.ditto.motion.key_points import Retargeting
    from models.ditto.motion.motion_generator import MotionGenerator
    from models.ditto.networks.diffusion import SessionNoise

AHEAD = 10
"""Frames of motion worked out and not acted from which on an actor wants no more: 0.4 s. What is
worked out further ahead is lost in an interrupt."""

HEAD_RETURNS_S = 20.0
"""Time constant in which the motion model's own idea of the head's pose returns to the photo's."""


@dataclass(frozen=True)
class DittoPose:
    """One frame of one session: whose face, and its key points before stitching."""

    identity: DittoIdentity
    points: torch.Tensor
    """float32 (21, 3), on the host."""


class _Stretch:
    """A stretch of speech, from its first sample until its last frame is acted."""

    def __init__(self) -> None:
        self.windows = SpeechWindows()
        self.samples = 0
        self.finished = False
        self.acted = 0
        """Frames."""
        self.rows: deque[torch.Tensor] = deque()
        """Rows of motion worked out and not acted, in pieces."""
        self.known = 0
        """Rows worked out."""
        self.levels: deque[float] = deque()
        """Loudness of the frames not acted, dB."""
        self._part = np.zeros(0, np.float32)

    @property
    def frames(self) -> int:
        """Frames heard; a begun one counts once it is whole, or at the end."""
        return self.windows.frames

    def hear(self, pcm: np.ndarray) -> None:
        self.windows.hear(pcm)
        self.samples += len(pcm)
        self._level(np.concatenate([self._part, pcm.astype(np.float32) / 32768]))

    def finish(self) -> None:
        self.finished = True
        self.windows.finish()
        if len(self._part):
            self._level(np.pad(self._part, (0, FRAME - len(self._part))))

    def _level(self, speech: np.ndarray) -> None:
        self.levels.extend(loudness(speech).tolist())
        self._part = speech[len(speech) // FRAME * FRAME :]

    def take(self, n: int) -> torch.Tensor:
        """The next rows, at most ``n`` and at most a piece: (rows, 265). None may be left."""
        if not self.rows:
            raise IndexError("no row of motion is left")
        piece = self.rows.popleft()
        if len(piece) > n:
            self.rows.appendleft(piece[n:])
        return piece[:n]


class DittoActor:
    """Performs one session with the ditto engine; implements ``models.engine.MotionBatchActor``.

    Args:
        identity: whose face.
        generator: generates motion; shared by all actors of an engine.
        seed: the same seed and speech perform the same motion.
        liveliness: how much head and eyes move by themselves, 0 (still) to 1.5 (restless).
        how: gains of the performance.
    """

    def __init__(
        self,
        identity: DittoIdentity,
        generator: MotionGenerator,
        seed: int = 0,
        liveliness: float = 1.0,
        how: Retargeting = LIVELY,
    ) -> None:
        self.identity = identity
        self.noise: SessionNoise = generator.noise(seed)
        """The session's random numbers, on the device."""
        self._generator = generator
        self._motion = MotionWindows(
            identity.reference,
            identity.condition,
            generator.silence,
            overlap=generator.overlap,
            clip=generator.clip,
            pull=1 / (25 * HEAD_RETURNS_S),
            eager=generator.eager,
        )
        self._blender = MotionBlender(identity.source, seed, how, liveliness=liveliness)
        self._stretches: deque[_Stretch] = deque()
        self._current: _Stretch | None = None
        """The stretch that the motion windows are in."""
        self._asked: list[SpeechWindow] = []
        """Windows of speech that the generator was given and has not answered."""
        self._given = 0
        """Rows worked out that an interrupt could take back, counted since the session began."""
        self._taken = 0
        """Of those, the ones acted or passed over."""
        self._answers = 0
        self._past: deque[int] = deque(maxlen=REMEMBERED_ROWS)
        """``_taken`` before each of the frames acted last."""

    @property
    def buffered_frames(self) -> int:
        """Frames of speech heard and not yet acted (a begun frame counts once it is whole)."""
        return sum(stretch.frames - stretch.acted for stretch in self._stretches)

    @property
    def ready(self) -> int:
        """Of those, the frames whose motion was worked out or can be: it takes blocks of 5 frames,
        and 85 ms of speech beyond them."""
        return sum(max(0, self._reach(stretch) - stretch.acted) for stretch in self._stretches)

    def _reach(self, stretch: _Stretch) -> int:
        """Frames of a stretch that enough was heard for to work their motion out."""
        if stretch.finished:
            return stretch.frames
        features = max(0, stretch.samples - LOOKAHEAD) // STRIDE * PRESENT
        windows = features // self._generator.step - (0 if self._generator.eager else 1)
        return max(0, windows * self._generator.step)

    @property
    def motion_headroom(self) -> int | None:
        """Frames of speech that can be acted before motion has to be worked out; None: there is
        nothing to be worked out, or enough was."""
        stretch = self._wanting
        if stretch is None:
            return None
        ahead = 0
        for one in self._stretches:
            if one is stretch:
                break
            ahead += one.frames - one.acted
        ahead += max(0, stretch.known - stretch.acted)
        return ahead if ahead < AHEAD else None

    @property
    def _wanting(self) -> _Stretch | None:
        """The first stretch of which motion can be worked out now."""
        for stretch in self._stretches:
            if stretch.known < self._reach(stretch):
                return stretch
            if not stretch.finished:
                return None
        return None

    def push_audio(self, pcm: np.ndarray) -> None:
        """Take in speech: int16, mono, 16 kHz, shape (samples,). The first speech after
        ``end_segment`` begins a new stretch, on a frame of its own.

        Raises:
            ValueError: ``pcm`` is of another type or shape.
        """
        if pcm.dtype != np.int16 or pcm.ndim != 1:
            raise ValueError(f"speech is int16 of shape (samples,), not {pcm.dtype} {pcm.shape}")
        if not self._stretches or self._stretches[-1].finished:
            self._stretches.append(_Stretch())
        self._stretches[-1].hear(pcm)

    def end_segment(self) -> None:
        """The stretch of speech ends here: pad it to a whole frame, what follows is silence."""
        if self._stretches and not self._stretches[-1].finished:
            self._stretches[-1].finish()
            self._retire()

    def interrupt(self, unseen: int = 0) -> None:
        """Interrupt: forget speech that was not acted; lips are shut within 280 ms.

        Args:
            unseen: frames already acted that no viewer saw; motion continues from before them
                (at most 250 frames back).

        Raises:
            ValueError: ``unseen`` is negative.
        """
        if unseen < 0:
            raise ValueError(f"unseen must be 0 or more frames, not {unseen}")
        self._stretches.clear()
        self._current = None
        for _ in range(min(unseen, len(self._past))):
            self._taken = self._past.pop()
        self._motion.cut(self._given - self._taken)
        self._given = self._taken
        self._blender.interrupt(unseen)

    def next_poses(self, n: int, speaking: bool) -> list[DittoPose]:
        """Poses of the next ``n`` frames.

        Motion that nobody had worked out before is worked out now. A frame whose lookahead was not
        heard idles: it takes 285 ms of speech to make a motion, and half a guess is worse than a
        face that waits; the next block is in time again.

        Args:
            n: how many frames.
            speaking: each frame consumes one heard frame of speech; otherwise the face idles and
                speech waits.

        Raises:
            ValueError: ``n`` is negative, or with ``speaking`` more than ``buffered_frames``.
        """
        if n < 0 or (speaking and n > self.buffered_frames):
            raise ValueError(f"cannot act {n} frames of speech: {self.buffered_frames} were heard")
        points: list[torch.Tensor] = []
        while len(points) < n:
            points.extend(self._speak(n - len(points)) if speaking else self._idle(n))
        return [DittoPose(self.identity, frame) for frame in points]

    def _idle(self, n: int) -> torch.Tensor:
        self._past.extend([self._taken] * n)
        return self.identity.source.place(self._blender.idle(n))

    def _speak(self, most: int) -> torch.Tensor:
        """Key points of the next frames of speech, at least one and at most ``most``."""
        stretch = self._stretches[0]
        while stretch.known <= stretch.acted and self._reach(stretch) > stretch.acted:
            answers = self._answers
            self._generator.generate([self])
            if self._answers == answers:
                break  # the model had nothing to say: better a face that waits than none
        zero = self._motion.zero
        if stretch.known <= stretch.acted or zero is None:
            stretch.acted += 1
            stretch.levels.popleft()
            points = self._idle(1)
        else:
            rows = stretch.take(most)
            n = len(rows)
            levels = np.array([stretch.levels.popleft() for _ in range(n)])
            self._past.extend(range(self._taken, self._taken + n))
            self._taken += n
            stretch.acted += n
            points = self.identity.source.place(self._blender.speak(rows, zero, levels))
        self._retire()
        return points

    def _retire(self) -> None:
        while self._stretches and self._stretches[0].finished:
            stretch = self._stretches[0]
            if stretch.acted < stretch.frames:
                return
            self._stretches.popleft()

    # What the generator asks and answers.

    def speech_windows(self) -> list[SpeechWindow]:
        """The windows of speech that the next window of motion is missing. They are the same until
        :meth:`attend` took in what was made of them."""
        stretch = self._wanting
        if stretch is None:
            return []
        if self._current is not stretch:
            # Nothing is left to be worked out of the one before, however it ended.
            self._motion.cut()
            self._current = stretch
            self._asked = []
        taken = self._asked
        lacking = self._generator.step - sum(window.frames for window in taken)
        while lacking > 0 and not stretch.windows.drained:
            window = stretch.windows.take()
            if window is None:
                break
            taken.append(window)
            lacking -= window.frames
        return taken

    def attend(self, features: Sequence[torch.Tensor]) -> WindowRequest | None:
        """Take in features of the windows of speech taken last, (n, 1024) each; answers what is to
        be asked of the motion model, if a window of it is complete."""
        stretch = self._current
        if stretch is None:
            return None
        for piece in features:
            self._motion.hear(piece)
        self._asked = []
        if stretch.windows.drained:
            self._motion.finish()
        return self._motion.request() if self._motion.ready else None

    def accept(self, motion: torch.Tensor) -> None:
        """The motion model's answer, (80, 265), on the host."""
        stretch = self._current
        assert stretch is not None
        self._answers += 1
        rows = self._motion.accept(motion)
        self._given += len(rows)
        # Frames that had to go without came too early for these.
        late = min(len(rows), max(0, stretch.acted - stretch.known))
        stretch.known += len(rows)
        self._taken += late
        if len(rows) > late:
            stretch.rows.append(rows[late:])
