"""Blends speech, idle motion and rest: from rows of motion to faces.

The motion model knows nothing of idling and, left alone, wanders off over hours.
:class:`MotionBlender` turns its rows into faces that do neither.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import torch

from models.ditto.motion.idle_motion import IdleMotion, smoothstep
from models.ditto.motion.key_points import (
    POINTS,
    Face,
    Retargeting,
    Source,
    hold_gaze,
    look,
    retarget,
)
from models.ditto.motion.motion_windows import REMEMBERED_ROWS
from models.engine import FPS
from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME

UPPER_LID, LOWER_LID = 0.040, -0.012
"""How far a whole blink moves the lids' key points down the face, in units of key points.
Uncertain: about what people who edit faces with these key points use for a wink. What shuts the
eyes of a given photo has to be seen on it."""
_UPPER, _LOWER = (11, 15), (13, 16)
"""Key points of the upper and the lower lids."""
LIVELY = Retargeting(brow_gain=0.15)
"""Brows and cheeks follow the performance a little; as released they are frozen, and look it."""
POSE_EASE, EXPRESSION_IN, EXPRESSION_OUT = 25, 4, 7
"""Frames over which the head, and the face into and out of speech, change over. Out of it lips are
shut after 280 ms."""


def lid_offsets(blink: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """What a blink adds to the expression: (n,) 0 open to 1 shut, to (n, 63)."""
    return (blink * strength)[:, None] * _lids(blink.dtype, blink.device)


@cache
def _lids(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(1, 63): a whole blink. Kept, so that it is copied to a device once."""
    lids = torch.zeros(POINTS, 3)
    lids[list(_UPPER), 1] = UPPER_LID
    lids[list(_LOWER), 1] = LOWER_LID
    return lids.reshape(1, -1).to(device, dtype)


def loudness(speech: np.ndarray) -> np.ndarray:
    """Level of whole frames of speech in dB of full scale: (frames,), -120 for silence.

    Args:
        speech: float32 within -1 to 1, 16 kHz, (samples,); a begun frame is left out.
    """
    frames = speech[: len(speech) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.square(frames, dtype=np.float64).mean(1)
    return 10 * np.log10(np.maximum(power, 1e-12))


class MouthGate:
    """Whether the mouth takes part: shut in silence, whatever the motion model makes of it.

    It opens within three frames once the level is less than 40 dB under the loudest speech of late,
    and after a pause of 280 ms shuts within six. Not thread-safe.
    """

    _FLOOR_DB, _RANGE_DB, _FORGET_DB = -60.0, 40.0, 0.02
    _HOLD, _OPENS, _CLOSES = 7, 1 / 3, 1 / 6

    def __init__(self) -> None:
        self._loudest = -25.0
        self._quiet = self._HOLD
        self._open = 0.0

    def follow(self, levels: np.ndarray) -> np.ndarray:
        """How far the lips follow speech, frame by frame: (n,) dB to float32 (n,), 0 to 1."""
        weights = np.empty(len(levels), np.float32)
        for i, level in enumerate(levels.tolist()):
            self._loudest = max(level, self._loudest - self._FORGET_DB, self._FLOOR_DB + 20)
            speech = level > max(self._FLOOR_DB, self._loudest - self._RANGE_DB)
            self._quiet = 0 if speech else self._quiet + 1
            step = -self._CLOSES if self._quiet >= self._HOLD else self._OPENS
            self._open = min(1.0, max(0.0, self._open + step))
            weights[i] = smoothstep(np.array(self._open))
        return weights

    def shut(self) -> None:
        """The speech is over: the next begins with the mouth shut."""
        self._quiet, self._open = self._HOLD, 0.0


class MotionBlender:
    """One session's rows of motion as faces. Not thread-safe.

    The face shown is the photo's, plus idle motion, which never stops, plus what speech does. The
    last is eased in and out, and its slow part is taken away, so that the head comes back to where
    the photo has it. State: 250 rows of 69 numbers.

    Args:
        source: the person.
        seed: of the idle motion.
        how: gains of the performance; by default brows and cheeks follow a little.
        liveliness: of the idle motion.
        blinks_per_minute: of the idle motion.
        blink_strength: of the lids, where those of a photo need more or less to shut.
        settle_s: time constant in seconds in which a lasting turn of the head is taken back.
    """

    def __init__(
        self,
        source: Source,
        seed: int = 0,
        how: Retargeting = LIVELY,
        *,
        liveliness: float = 1.0,
        blinks_per_minute: float = 15.0,
        blink_strength: float = 1.0,
        settle_s: float = 30.0,
    ) -> None:
        if settle_s < 1:
            raise ValueError(f"settle_s must be at least a second, not {settle_s}")
        self.frame = 0
        """Frames acted: the clock of the idle motion."""
        self._source = source
        self._idle = IdleMotion(seed, liveliness, blinks_per_minute)
        self._how = how
        self._blink_strength = blink_strength
        self._keep = math.exp(-1 / (settle_s * FPS))
        self._mouth = MouthGate()
        own = source.face
        self._photo = _joined(own)
        self._none = torch.zeros_like(self._photo[0])
        # The lasting part of angles and shift. It waits while idling: the motion model goes on from
        # the pose it ended at.
        self._slow = self._none[63:]
        self._shown: deque[torch.Tensor] = deque()  # what speech did in the frames acted last
        self._remembered = 0  # frames of that
        self._before = self._none  # and in the one before those
        self._difference = self._none
        self._since = POSE_EASE  # frames since speech began or ended
        self._speaking = False

    @property
    def device(self) -> torch.device:
        """Where faces come to be."""
        return self._photo.device

    @torch.inference_mode()
    def speak(
        self, rows: torch.Tensor, zero: torch.Tensor, levels: np.ndarray | None = None
    ) -> Face:
        """Faces of the next frames, speaking.

        Args:
            rows: of motion, (n, 265), n at least 1.
            zero: the motion that means "as in the photo", (265,).
            levels: :func:`loudness` of these frames, (n,); without it the lips always take part.
        """
        mouth = None
        if levels is not None:
            mouth = torch.from_numpy(self._mouth.follow(levels)).to(self.device)
        still = self._none[None, :63]
        face = retarget(self._source, rows, zero, self._how, eyes=still, mouth=mouth)
        wanted = _joined(face) - self._photo
        wanted = torch.cat([wanted[:, :63], self._settled(wanted[:, 63:])], 1)
        if not self._speaking:
            self._change_over(wanted[0])
            self._speaking = True
        return self._faces(wanted)

    @torch.inference_mode()
    def idle(self, count: int) -> Face:
        """Faces of the next ``count`` frames, at least one, silent."""
        if self._speaking:
            self._change_over(self._none)
            self._speaking = False
            self._mouth.shut()
        return self._faces(self._none.expand(count, -1))

    def interrupt(self, unseen: int = 0) -> None:
        """Interrupt: the next face sets out from the one before the last ``unseen``, which nobody
        saw. More than 250 count as 250."""
        self.frame -= min(unseen, self.frame, self._remembered)
        while unseen > 0 and self._shown:
            last = self._shown.pop()
            self._remembered -= len(last)
            if unseen < len(last):
                self._shown.append(last[: len(last) - unseen])
                self._remembered += len(last) - unseen
            unseen -= len(last)
        self._change_over(self._none)
        self._speaking = False
        self._mouth.shut()

    def _settled(self, pose: torch.Tensor) -> torch.Tensor:
        """Angles and shift, (n, 6), without what lasts in them."""
        settled = []
        for block in pose.split(_BLOCK):
            weights, fading = _follower(len(block), self._keep, pose.dtype, pose.device)
            slow = weights @ block + fading * self._slow
            settled.append(block - slow)
            self._slow = slow[-1]
        return torch.cat(settled)

    def _change_over(self, wanted: torch.Tensor) -> None:
        """From the face last shown to one newly ``wanted``, (69,)."""
        self._difference = (self._shown[-1][-1] if self._shown else self._before) - wanted
        self._since = 0

    def _faces(self, wanted: torch.Tensor) -> Face:
        """What speech wants, (n, 69), eased, remembered, and idle motion put on top."""
        count = len(wanted)
        if self._since < POSE_EASE:
            ease = _change(self._speaking, wanted.dtype, wanted.device)
            ease = ease[self._since : self._since + count]
            eased = wanted[: len(ease)] + self._difference * ease
            wanted = torch.cat([eased, wanted[len(ease) :]])
        self._since = min(POSE_EASE, self._since + count)
        self._shown.append(wanted[-REMEMBERED_ROWS:].clone())
        self._remembered += len(self._shown[-1])
        while self._remembered - len(self._shown[0]) >= REMEMBERED_ROWS:
            oldest = self._shown.popleft()
            self._remembered -= len(oldest)
            self._before = oldest[-1]

        motion = self._idle.frames(self.frame, count)
        self.frame += count
        numbers = np.concatenate(
            [motion.angles, motion.shift, motion.blink[:, None], motion.gaze], 1
        )
        idle = torch.from_numpy(numbers).to(wanted)
        shown = self._photo + wanted
        face = Face(shown[:, :63], shown[:, 63:66] + idle[:, :3], shown[:, 66:] + idle[:, 3:6])
        face = look(hold_gaze(face, self._source), idle[:, 7], idle[:, 8])
        lids = lid_offsets(idle[:, 6], self._blink_strength)
        return replace(face, expression=face.expression + lids)


def _joined(face: Face) -> torch.Tensor:
    """Expression, angles and shift side by side: (n, 69)."""
    return torch.cat([face.expression, face.angles, face.shift], -1)


@cache
def _change(into_speech: bool, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What is left of a difference, frame by frame after a change over: (25, 69)."""
    frames = np.arange(1, POSE_EASE + 1)
    expression = EXPRESSION_IN if into_speech else EXPRESSION_OUT
    left = np.empty((POSE_EASE, 69), np.float32)
    left[:, :63] = 1 - smoothstep(frames / (expression + 1))[:, None]
    left[:, 63:] = 1 - smoothstep(frames / (POSE_EASE + 1))[:, None]
    return torch.from_numpy(left).to(device, dtype)


_BLOCK = 80
"""Frames that the follower below takes at once."""


@lru_cache(maxsize=4 * _BLOCK)
def _follower(
    count: int, keep: float, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """A first-order low-pass over a block at once: slow = weights @ block + fading * slow before.

    (count, count) and (count, 1); row i is ``slow[i] = keep * slow[i - 1] + (1 - keep) * block[i]``
    unrolled.
    """
    i = np.arange(count)
    ago = i[:, None] - i[None]
    weights = np.where(ago >= 0, (1 - keep) * keep ** np.maximum(ago, 0), 0)
    fading = keep ** (i[:, None] + 1)
    return (
        torch.from_numpy(weights).to(device, dtype),
        torch.from_numpy(fading).to(device, dtype),
    )
