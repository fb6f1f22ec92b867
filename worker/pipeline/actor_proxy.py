"""A session's actor as the render pool drives it.

The event loop never waits for a network to run: it leaves notes (audio, end of segment, interrupt)
in a queue, and a render thread carries them out in order before the actor's next frame. One
render thread at a time is at work on a session (``worker.pipeline.render_pool``), so that there
is no lock: a deque's two ends may be used by two threads.
"""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from models.engine import Actor, Pose

_numbers = itertools.count()

RESTS_AFTER = 8
"""Frames after speech in which a face still comes to rest, and counts as speaking."""


class ActorProxy:
    """Feeds one actor. ``push_audio``, ``end_segment`` and ``interrupt`` belong to the event loop's
    thread, the rest to the render thread that is at work on the session."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._notes: deque[tuple[str, np.ndarray | int | None]] = deque()
        self._generation = 0
        self._acted = 0
        self.dropped_in_a_row = 0
        """Frames that were not rendered since the last one that was; the render pool's count."""
        self.fault: Exception | None = None
        """What went wrong while motion was worked out; the next frame raises it."""
        self._number = next(_numbers)
        self._idle = 0

    def push_audio(self, pcm: np.ndarray) -> None:
        """Speech for the actor, int16 at 16 kHz, any length."""
        self._notes.append(("push_audio", pcm))

    def end_segment(self) -> None:
        """The segment is complete."""
        self._notes.append(("end_segment", None))

    def interrupt(self, shown: int) -> None:
        """Interrupt. ``shown`` frames of the session reached the room since it began."""
        self._notes.append(("interrupt", shown))

    @property
    def actor(self) -> Actor:
        """The actor; the render pool's, as soon as there is one."""
        return self._actor

    def perform(self, generation: int, speaking: bool) -> Pose | None:
        """The session's next pose, or None when an interrupt has overtaken the request."""
        self.listen()
        if generation != self._generation:
            return None
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        self._acted += 1
        self._idle = 0 if speaking else self._idle + 1
        return self._actor.next_poses(1, speaking)[0]

    @property
    def motion_headroom(self) -> int | None:
        """Frames that can be posed before motion has to be generated; None: nothing is to be."""
        headroom: int | None = getattr(self._actor, "motion_headroom", None)
        return headroom

    def gives_up(self, stride: int) -> bool:
        """Whether the frame acted last goes without a picture if of ``stride`` frames of an idle
        face one is rendered. Sessions take turns; whose turn came to nothing tries again."""
        resting = self._idle > RESTS_AFTER and self.dropped_in_a_row == 0
        return resting and (self._acted + self._number) % stride != 0

    def listen(self) -> None:
        """Carry out what the event loop left notes of. The render pool's."""
        while self._notes:
            kind, value = self._notes.popleft()
            if kind == "push_audio":
                assert isinstance(value, np.ndarray)
                self._actor.push_audio(value)
            elif kind == "end_segment":
                self._actor.end_segment()
            else:
                assert isinstance(value, int)
                self._actor.interrupt(max(0, self._acted - value))
                self._acted = value
                self._generation += 1
