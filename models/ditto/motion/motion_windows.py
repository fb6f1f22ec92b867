"""Features of speech to rows of motion: the loop of overlapping windows of one session.

The diffusion model answers with 80 rows of motion, 3.2 s, at once. Windows overlap by 70 or 75
rows; where they meet they are fused. The loop asks (:meth:`MotionWindows.request`) and is answered
(:meth:`MotionWindows.accept`), so that the windows of many sessions go through the model together.

A row of motion has 265 channels: scale - 1, the logits of pitch, yaw and roll (66 bins each), the
shift t (3) and the expression of the 21 key points (63).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional

from models.ditto.networks.diffusion import ROWS

if TYPE_CHECKING:
    from models.ditto.networks.motion_extractor import Motion

SCALE, PITCH, YAW, ROLL = slice(0, 1), slice(1, 67), slice(67, 133), slice(133, 199)
SHIFT, EXPRESSION = slice(199, 202), slice(202, 265)
POSE = slice(0, 202)
"""All but the expression."""
CHANNELS = 265
EMOTIONS = 8
"""0 angry, 1 disgust, 2 fear, 3 happy, 4 neutral, 5 sad, 6 surprise, 7 contempt."""

_KEPT_ROWS = 2 * ROWS
"""Rows of history the loop can look back on."""
REMEMBERED_ROWS = 250
"""Rows given out that an interrupt can take back: 10 s, more than any queue in front of a viewer
holds."""
_POSE_EASE, _EXPRESSION_EASE = 25, 6
"""Rows over which a new stretch of speech lets go of where the last one was left. The head is
heavy; the lips have to be in time."""


def motion_row(motion: Motion) -> torch.Tensor:
    """What the motion extractor saw as rows of motion: (n, 265)."""
    return torch.cat(
        [motion.scale - 1, motion.pitch, motion.yaw, motion.roll, motion.t, motion.exp], -1
    )


def emotion(*labels: int) -> torch.Tensor:
    """The condition of an emotion, or of several mixed: float32, (8,), sums to 1.

    Raises:
        ValueError: no label, or one that is not 0 to 7.
    """
    if not labels or not all(0 <= label < EMOTIONS for label in labels):
        raise ValueError(f"an emotion is one or more of 0 to {EMOTIONS - 1}, not {labels}")
    strength = torch.zeros(EMOTIONS)
    strength[list(labels)] = 8.0
    return strength.softmax(0)


def mirrored(frames: torch.Tensor, length: int) -> torch.Tensor:
    """Places in a sequence of ``length`` that is run forth and back for ever: the ends twice.

    Frames before the first count as the first. int64, shape of ``frames``.
    """
    place = frames.clamp(min=0) % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)


@dataclass(frozen=True)
class Condition:
    """What a window is told besides the speech. All float32 on the session's device."""

    emotion: torch.Tensor
    """(m, 8), one row per frame, from the start again after the last."""
    eye_open: torch.Tensor
    """(m, 2) as ``eyes.openness`` measures: of a photo (m = 1), or of a video, run forth and
    back."""
    eye_ball: torch.Tensor
    """(m, 6) as ``eyes.gaze`` measures; likewise."""
    canonical: torch.Tensor
    """(63,): the person's key points at rest."""

    def rows(self, features: torch.Tensor, first: int) -> torch.Tensor:
        """Condition of consecutive frames: (n, D + 79).

        Args:
            features: of the speech, (n, D).
            first: frame of the first row; negative before the speech.
        """
        n = len(features)
        frames = torch.arange(first, first + n, device=features.device)
        return torch.cat(
            [
                features,
                self.emotion[frames.clamp(min=0) % len(self.emotion)],
                self.eye_open[mirrored(frames, len(self.eye_open))],
                self.eye_ball[mirrored(frames, len(self.eye_ball))],
                self.canonical.expand(n, -1),
            ],
            -1,
        )


@dataclass(frozen=True)
class WindowRequest:
    """What the diffusion model is asked."""

    start: torch.Tensor
    """The motion before the window: (265,)."""
    condition: torch.Tensor
    """(80, 1103)."""


class MotionWindows:
    """The loop of one session. Not thread-safe.

    Its state is bounded: 160 rows of motion, 250 rows given out, and the features of one window
    besides those not yet acted on; under 2 MB.

    A stretch of speech is ``hear`` … ``finish``; the next ``hear`` begins another one, with silence
    before it, at the pose where the last one was left. Rows count from the stretch's first frame.

    Args:
        reference: the motion of the photo, (265,).
        condition: of the session.
        silence: features of silence, (overlap, D).
        overlap: rows a window shares with the one before: 70 or 75. With 75 the first row
            comes 10 frames earlier, for twice the windows.
        clip: smallest and largest value of each channel that is given out, (265,) each.
        hold_expression: every window starts at the photo's expression; only the pose is handed on.
        pull: share of the way back to the reference that the pose a window starts from is taken,
            for each row a window advances by. 0 is as released, and drifts; ``1 / (25 * tau)``
            brings the head back with a time constant of tau seconds.
        eager: give out every row of a window at once and ease the next window towards it, rather
            than wait for the next window and fuse both: the first row takes 10 (at 75: 5)
            frames less to hear.
        released: also where the released pipeline errs: more rows than frames were heard, and none
            at all of less than 10 (5) frames.
    """

    def __init__(
        self,
        reference: torch.Tensor,
        condition: Condition,
        silence: torch.Tensor,
        *,
        overlap: int = 70,
        clip: tuple[torch.Tensor, torch.Tensor] | None = None,
        hold_expression: bool = True,
        pull: float = 0.0,
        eager: bool = False,
        released: bool = False,
    ) -> None:
        if not ROWS // 2 <= overlap < ROWS:
            raise ValueError(f"windows overlap by {ROWS // 2} to {ROWS - 1} rows, not {overlap}")
        if len(silence) != overlap:
            raise ValueError(f"{overlap} rows of silence are needed, not {len(silence)}")
        if eager and released:
            raise ValueError("the released pipeline is not eager")
        self.zero: torch.Tensor | None = None
        """The session's first row of motion, (265,): what its motion is relative to."""
        self._reference = reference
        self._condition = condition
        self._silence = silence
        self._overlap = overlap
        self._step = ROWS - overlap
        self._clip = clip
        self._hold_expression = hold_expression
        self._pull = 1 - (1 - pull) ** self._step
        self._eager = eager
        self._released = released
        # Fusion and easing weights: made once, so that no row costs a copy to the device.
        self._fuse = (torch.arange(self._step) / self._step)[:, None].to(reference)
        ease = torch.zeros(_POSE_EASE, CHANNELS)
        ease[:, POSE] = _ease(_POSE_EASE)[:, None]
        ease[:_EXPRESSION_EASE, EXPRESSION] = _ease(_EXPRESSION_EASE)[:, None]
        self._ease = ease.to(reference)
        self._window_ease = _ease(self._step)[:, None].to(reference)
        self._given: list[torch.Tensor] = []  # rows given out last, in the pieces they were given
        self._before: torch.Tensor | None = None  # the row before those
        self._left_at: torch.Tensor | None = None
        self._begin()

    def _begin(self) -> None:
        """Before the first frame of a stretch."""
        self._features = self._silence
        self._waiting: list[torch.Tensor] = []
        self._first = -self._overlap  # frame of the first row of features
        self._finished = False
        self._windows = 0
        self._history: torch.Tensor | None = None
        self._next = 0  # where in the history the next row to give out is
        self._offset: torch.Tensor | None = None  # where the last stretch was left, from here
        self._start = self._reference
        if self._left_at is not None:
            self._start = self._start_from(self._left_at)
        self.frames = 0
        """Frames heard in this stretch."""
        self.rows = 0
        """Rows given out in this stretch."""

    @property
    def pending(self) -> int:
        """Frames heard whose rows were not given out."""
        return max(0, self.frames - self.rows)

    def hear(self, features: torch.Tensor) -> None:
        """Take in features of the next frames, (n, D), on the session's device.

        Raises:
            ValueError: the stretch was finished and its rows were not all taken.
        """
        if self._finished:
            if self.ready:
                raise ValueError("the last stretch has to be acted before the next is heard")
            self._rest()
        self._waiting.append(features)
        self.frames += len(features)

    def finish(self) -> None:
        """No more frames belong to this stretch."""
        self._finished = True

    @property
    def ready(self) -> bool:
        """Whether :meth:`request` has a window to ask for."""
        if self._last_due:
            return True
        return not self._finished and self._known >= ROWS

    @property
    def _known(self) -> int:
        """Frames at hand from the next window's first on."""
        return self.frames - self._first

    @property
    def _last_due(self) -> bool:
        """Whether the stretch has ended and one window at least is left to ask for."""
        if not self._finished or self.frames == 0:
            return False
        if self._released:
            return self._known >= ROWS or (self.rows < self.frames and self._known > 0)
        return self.rows < self.frames

    def request(self) -> WindowRequest:
        """The next window to ask the diffusion model for; :meth:`accept` takes its answer.

        Raises:
            RuntimeError: not :attr:`ready`.
        """
        if not self.ready:
            raise RuntimeError("no window is ready: too few frames were heard")
        if self._waiting:
            self._features = torch.cat([self._features, *self._waiting])
            self._waiting = []
        window = self._features[:ROWS]
        if len(window) < ROWS:
            window = torch.cat([window, window[-1:].expand(ROWS - len(window), -1)])
        return WindowRequest(self._start, self._condition.rows(window, self._first))

    def accept(self, motion: torch.Tensor) -> torch.Tensor:
        """Take the model's answer to the last request, (80, 265), and go on by one window.

        Returns:
            the rows that are final now, (n, 265): n is 0 after the first window, unless eager.
        """
        # At the end the released pipeline asks once more than is needed, about nothing new.
        last = self._finished and self._known <= ROWS - self._released
        real = min(ROWS, self._known)
        if self._history is None:
            history = _smoothed(motion, 0, ROWS)
            self._next = self._overlap
            if self.zero is None:
                self.zero = self._clipped(history[0])
            if self._left_at is not None:
                self._offset = self._left_at - self._clipped(history[self._overlap - 1])
        elif self._eager:
            history = self._eased_on(self._history, motion)
        else:
            history = self._fused_on(self._history, motion)
        first_window = self._windows == 0
        self._windows += 1
        self._start = self._start_from(history[len(history) - self._overlap - 1])
        count = self._due(first_window, last, real)
        rows = history[self._next : self._next + count]
        self._next += len(rows)
        dropped = max(0, len(history) - _KEPT_ROWS)
        self._history = history[dropped:]
        self._next -= dropped
        self._features = self._features[self._step :]
        self._first += self._step
        if last and self._released:
            self._first = self.frames  # whatever was left: this was the last window
        return self._give(rows)

    def _due(self, first_window: bool, last: bool, real: int) -> int:
        """Rows to give out after a window."""
        if self._released:
            if first_window:
                return 0
            return min(real, 2 * self._step) if last else self._step
        # Never more than were heard: behind them the model made up its mind about nothing.
        left = self.frames - self.rows
        if last:
            return left
        if first_window and not self._eager:
            return 0
        return min(self._step, left)

    def _fused_on(self, history: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """The history with a window added: where both know a row, from the one to the other."""
        step, overlap = self._step, self._overlap
        known = torch.lerp(history[-step:], motion[overlap - step : overlap], self._fuse)
        history = torch.cat([history[:-step], known, motion[overlap:]])
        end = len(history) - step
        return _smoothed(history, end - step, end + 1)

    def _eased_on(self, history: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """The history, all of it given out, with a window added that sets out from its end."""
        overlap = self._overlap
        off = history[-1] - motion[overlap - 1]
        history = torch.cat([history, motion[overlap:] + off * self._window_ease])
        return _smoothed(history, len(history) - self._step, len(history))

    def _start_from(self, row: torch.Tensor) -> torch.Tensor:
        """The start of a window behind ``row``."""
        if self._pull:
            row = torch.lerp(row, self._reference, self._pull)
        if not self._hold_expression:
            return row
        return torch.cat([row[POSE], self._reference[EXPRESSION]])

    def _clipped(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.clone() if self._clip is None else rows.clamp(*self._clip)

    def _give(self, rows: torch.Tensor) -> torch.Tensor:
        """Ease rows in, clip and remember them."""
        if self._offset is not None and len(rows):
            ease = self._ease[self.rows : self.rows + len(rows)]
            eased = rows[: len(ease)] + self._offset * ease
            rows = torch.cat([eased, rows[len(ease) :]])
        rows = self._clipped(rows)
        self.rows += len(rows)
        if len(rows):
            self._given.append(rows)
        # Whole pieces go: at most one window's more than needed stays.
        while sum(map(len, self._given[1:])) >= REMEMBERED_ROWS:
            self._before = self._given.pop(0)[-1]
        return rows

    def _rest(self) -> None:
        self._left_at = self._given[-1][-1] if self._given else self._before
        self._begin()

    def cut(self, unseen: int = 0) -> None:
        """Interrupt: forget the speech that was not acted, and go back to the row last shown.

        Args:
            unseen: of the rows given out, those that never reached a viewer. More than the last
                250 count as 250.

        The next stretch of speech sets out from the row before them.
        """
        while unseen > 0 and self._given:
            last = self._given.pop()
            if unseen < len(last):
                self._given.append(last[: len(last) - unseen])
            unseen -= len(last)
        self._rest()


def _ease(rows: int) -> torch.Tensor:
    """What is left of a difference, row by row: smoothly from nearly 1 to nearly 0, (rows,)."""
    x = torch.arange(1, rows + 1) / (rows + 1)
    return 1 - x * x * (3 - 2 * x)


def _smoothed(history: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The history with the pose of rows ``start`` … ``stop - 1`` averaged with its neighbours'.

    At the ends of the history a row has one neighbour.
    """
    low, high = max(0, start - 1), min(len(history), stop + 1)
    around = history[low:high, POSE].T
    mean = functional.avg_pool1d(around, 3, stride=1, padding=1, count_include_pad=False).T
    smooth = history.clone()
    smooth[start:stop, POSE] = mean[start - low : stop - low]
    return smooth
