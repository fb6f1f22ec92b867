"""A session's actor as the render thread drives it.

The event loop never waits for a network to run: it leaves notes (speech heard, segment finished,
cut) in a queue, and the render thread carries them out in order before the actor's next frame.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from models.engine import Actor, Pose


class Performer:
    """Feeds one actor. ``hear``, ``finish`` and ``cut`` belong to the event loop's thread,
    the rest to the render thread."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._notes: deque[tuple[str, np.ndarray | int | None]] = deque()
        self._generation = 0
        self._acted = 0
        self.dropped_in_a_row = 0
        """Frames that were not rendered since the last one that was; the render thread's count."""

    def hear(self, pcm: np.ndarray) -> None:
        """Speech for the actor, int16 at 16 kHz, any length."""
        self._notes.append(("hear", pcm))

    def finish(self) -> None:
        """The segment is complete."""
        self._notes.append(("finish", None))

    def cut(self, shown: int) -> None:
        """Interrupt. ``shown`` frames of the session reached the room since it began."""
        self._notes.append(("cut", shown))

    @property
    def actor(self) -> Actor:
        """The actor; the render thread's, as soon as there is one."""
        return self._actor

    def perform(self, generation: int, speaking: bool) -> Pose | None:
        """The session's next pose, or None when an interrupt has overtaken the request."""
        self.listen()
        if generation != self._generation:
            return None
        self._acted += 1
        return self._actor.act(1, speaking)[0]

    def listen(self) -> None:
        """Carry out what the event loop left notes of. The render thread's."""
        while self._notes:
            kind, value = self._notes.popleft()
            if kind == "hear":
                assert isinstance(value, np.ndarray)
                self._actor.hear(value)
            elif kind == "finish":
                self._actor.finish()
            else:
                assert isinstance(value, int)
                self._actor.cut(max(0, self._acted - value))
                self._acted = value
                self._generation += 1
