"""The warp engine's actor: one session's speech and idling become poses."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from models.warp.motion.articulation import BEFORE, limited, mouth
from models.warp.motion.gaze import Gaze
from models.warp.motion.gesture import Gestures
from models.warp.motion.idle import Idle
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.motion.prosody import Prosody
from models.warp.pose import WarpPose
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import ROWS_PER_FRAME

if TYPE_CHECKING:
    from models.warp.identity import WarpIdentity

APERTURE_GAIN = 0.40
"""Lip gap of an open "ah" over the distance of the pupils, said with usual effort."""
_TAKES_PART = 0.34
"""Change per frame of how far the mouth takes part: shut 120 ms into a pause, and ready to sound in
as long. The sound is heard 100 ms ahead, so mouths open before it, as people's do."""

_EASE_IN = (0.55, 0.2)
_EASE_OUT = (0.85, 0.6, 0.35, 0.12)
"""What is left, frame by frame, of the difference between the mouth last shown and the one newly
wanted: into speech in 80 ms, out of it in 200 ms. Nothing jumps, whatever follows what."""

_NOT_NEGATIVE = [INDEX[n] for n in ("aperture", "jaw", "closure", "labiodental", "tongue")]

_HISTORY = 250
"""Frames an interrupt can go back: 10 s, more than any queue between actor and viewer holds."""


@dataclass(frozen=True)
class _Moment:
    """Everything the next frame depends on, so that an interrupt can go back to it."""

    frame: int
    """Frames acted so far: the idle motion's clock."""
    mouth: np.ndarray
    """Motion of the mouth last shown, without the idle motion."""
    difference: np.ndarray
    """Mouth shown minus mouth wanted when ``source`` last changed; fades by ``fading``."""
    gestures: Gestures
    gaze: Gaze
    fading: tuple[float, ...] = ()
    source: int = 0
    """The stretch of speech acted, counted from 1; 0 is none, idling."""
    part: float = 1.0
    """How far the mouth takes part in what the network says: 0 in pauses."""
    rows: np.ndarray | None = None
    """The last rows of speech acted: (BEFORE, len(ROW))."""
    prosody: Prosody = field(default_factory=Prosody)


class WarpActor:
    """Performs one session with the warp engine; implements ``models.engine.Actor``.

    Args:
        identity: whose face.
        network: shared by all actors of an engine.
        seed: the same seed and speech perform the same motion.
        liveliness: 0 (the head and eyes are still) to 1.5 (restless).
        aperture_gain: lip gap of an open "ah" over the distance of the pupils.
    """

    def __init__(
        self,
        identity: WarpIdentity,
        network: SpeechToMotion,
        seed: int = 0,
        liveliness: float = 1.0,
        aperture_gain: float = APERTURE_GAIN,
    ) -> None:
        self._identity = identity
        self._network = network
        self._seed = seed
        self._liveliness = liveliness
        self._aperture_gain = aperture_gain
        self._idle = Idle(seed, liveliness)
        self._segments: deque[MotionStream] = deque()
        self._first = 1  # number of the first of them
        self._now = _Moment(0, rest(), rest(), Gestures(seed), Gaze(seed))
        self._past: deque[_Moment] = deque(maxlen=_HISTORY)

    @property
    def buffered_frames(self) -> int:
        """Frames of speech heard and not yet acted (a begun frame counts once it is whole)."""
        return sum(segment.heard // ROWS_PER_FRAME for segment in self._segments)

    @property
    def ready(self) -> int:
        """Of those, the frames whose lookahead (100 ms) has been heard, too."""
        return sum(segment.ready // ROWS_PER_FRAME for segment in self._segments)

    def push_audio(self, pcm: np.ndarray) -> None:
        """Take in speech: int16, mono, 16 kHz, shape (samples,). The first speech after
        ``end_segment`` begins a new stretch, on a frame of its own.

        Raises:
            ValueError: ``pcm`` is of another type or shape.
        """
        if not self._segments or self._segments[-1].finished:
            self._segments.append(MotionStream(self._network))
        self._segments[-1].hear(pcm)

    def end_segment(self) -> None:
        """The stretch of speech ends here: pad it to a whole frame, what follows is silence."""
        if self._segments:
            self._segments[-1].finish()

    def interrupt(self, unseen: int = 0) -> None:
        """Interrupt: forget speech that was not acted and ease to rest within 200 ms.

        Args:
            unseen: frames already acted that no viewer saw; motion continues from before them
                (at most 250 frames back).

        Raises:
            ValueError: ``unseen`` is negative.
        """
        if unseen < 0:
            raise ValueError(f"unseen must be 0 or more frames, not {unseen}")
        self._first += len(self._segments)
        self._segments.clear()
        for _ in range(min(unseen, len(self._past))):
            self._now = self._past.pop()

    def next_poses(self, n: int, speaking: bool) -> list[WarpPose]:
        """Poses of the next ``n`` frames.

        Args:
            n: how many frames.
            speaking: each frame consumes one heard frame of speech; otherwise the face idles and
                speech waits.

        Raises:
            ValueError: ``n`` is negative, or with ``speaking`` more than ``buffered_frames``.
        """
        if n < 0 or (speaking and n > self.buffered_frames):
            raise ValueError(f"cannot act {n} frames of speech: {self.buffered_frames} were heard")
        poses: list[WarpPose] = []
        while speaking and len(poses) < n:
            segment = self._segments[0]
            frames = min(n - len(poses), segment.heard // ROWS_PER_FRAME)
            views = segment.take_views(frames * ROWS_PER_FRAME)
            for first, second in zip(views[::2], views[1::2], strict=True):
                poses.append(self._advance(np.concatenate([first[:1], second])))
            if segment.finished and segment.heard == 0:
                self._segments.popleft()
                self._first += 1
        while len(poses) < n:
            poses.append(self._advance(None))
        return poses

    def _advance(self, heard: np.ndarray | None) -> WarpPose:
        """Act one frame, of speech (``heard``: its two rows and those ahead) or idling."""
        before = self._now
        now = replace(before, frame=before.frame + 1)
        if heard is None:
            now = replace(now, source=0, part=1.0, rows=None, gestures=before.gestures.idle())
            wanted = rest()
        else:
            fresh = before.source != self._first
            if fresh or before.rows is None:
                rows = np.concatenate([heard[:1]] * BEFORE + [heard])
            else:
                rows = np.concatenate([before.rows, heard])
            # A picture is of the instant it is stamped with, the beginning of its 40 ms: that lies
            # between the last row of the frame before and the first of its own.
            prosody = before.prosody.hear(rows[BEFORE - 1 :], fresh)
            step = -_TAKES_PART if prosody.in_pause else _TAKES_PART
            part = 0.0 if fresh and prosody.in_pause else 1.0 if fresh else before.part + step
            part = min(1.0, max(0.0, part))
            kept = rows[ROWS_PER_FRAME : ROWS_PER_FRAME + BEFORE]
            gestures = before.gestures.speak(before.prosody, prosody)
            now = replace(
                now, source=self._first, part=part, rows=kept, prosody=prosody, gestures=gestures
            )
            gain = self._aperture_gain * prosody.effort
            wanted = mouth(rows, gain, part, before.mouth)
        turn = now.gestures.turn if now.gestures.postures != before.gestures.postures else 0.0
        silent, was_silent = (m.prosody.in_pause or m.source == 0 for m in (now, before))
        now = replace(now, gaze=before.gaze.moved(turn, silent and not was_silent))
        if now.source != before.source:
            fading = _EASE_IN if now.source else _EASE_OUT
            now = replace(now, difference=before.mouth - wanted, fading=fading)
        if now.fading:
            wanted = wanted + now.difference * np.float32(now.fading[0])
            wanted[_NOT_NEGATIVE] = wanted[_NOT_NEGATIVE].clip(min=0.0)
        wanted = limited(wanted, before.mouth)
        self._past.append(before)
        self._now = replace(now, mouth=wanted, fading=now.fading[1:])
        motion = self._idle.motion(now.frame, 1.0 - now.gestures.activity) + wanted
        motion += now.gestures.motion(now.frame, self._liveliness)
        now.gaze.show(motion, self._liveliness)
        return WarpPose(self._identity, motion)
