"""Where the eyes look, and when they blink.

Eyes keep to the viewer while the head turns, as the vestibulo-ocular reflex makes them; they dart
aside now and then, and ahead of the head where it turns. Blinks come at varied intervals, most
readily where a phrase ends (Nakano and Kitazawa, 2010) and with turns of eyes and head (Evinger and
others, 1994).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from models.engine import FPS
from models.warp.motion.idle import hashed, smoothstep
from models.warp.motion.motion_vector import INDEX

_DT = 1.0 / FPS

_SACCADE_S = 0.05
_AT_VIEWER, _AT_VIEWER_S = (0.8, 0.5), (0.6, 2.2)
"""Where a viewer is looked at, degrees to either side: an eye, the other, the mouth; and for how
long at least, and how much longer at most."""
_ASIDE, _ASIDE_S = (4.0, 2.2), (0.35, 0.7)
_ASIDES = 0.25
"""Share of glances that go aside; the next one comes back."""
_LEADS, _LEAD, _LEAD_S = 0.5, 2.2, 0.36
"""Share of the head's turns that the eyes lead, by how many degrees, and for how long."""
_FARTHEST = 7.0
"""The eyes turn no further in the head, degrees."""

_BLINKS_S = (2.8, 8.0)
"""Seconds from blink to blink: at least, and how much longer at most, which is rare."""
_DOUBLE_BLINKS, _DOUBLE_S = 0.07, 0.44
_READY_S, _AT_PHRASE_END, _AT_TURN = 1.8, 0.22, 0.05
"""So long after a blink an occasion may bring on the next one, and the chance that it does: the end
of a phrase, and a turn of head or eyes."""
_SHUT_S, _STAY_S, _OPEN_S = 0.11, 0.045, (0.16, 0.24)


@dataclass(frozen=True)
class Gaze:
    """How the eyes stand. Immutable, so that an interrupt can go back."""

    seed: int
    glances: int = 0
    aside: bool = False
    place: tuple[float, float] = (0.0, 0.0)
    """What is looked at: degrees from the viewer to the right and down."""
    last_place: tuple[float, float] = (0.0, 0.0)
    glance_s: float = 0.0
    """Since the eyes set off for ``place``."""
    glance_ends_s: float = 0.5
    blinks: int = 0
    blink_s: float = 0.9
    """Since the last blink began. A face first shown has blinked not long ago."""
    blink_due_s: float = 4.0

    def moved(self, turn: float = 0.0, phrase_ends: bool = False) -> Gaze:
        """The next frame.

        Args:
            turn: > 0 the head begins to turn to the picture's right, < 0 to its left, 0 it does
                not.
            phrase_ends: a pause begins.
        """
        now = replace(self, glance_s=self.glance_s + _DT, blink_s=self.blink_s + _DT)
        if turn and now._chance(1, now.glances) < _LEADS:
            now = now._glance((math.copysign(_LEAD, turn), 0.0), _LEAD_S, aside=True)
        elif now.glance_s > now.glance_ends_s:
            aside = not now.aside and now._chance(2, now.glances) < _ASIDES
            x, y, longer = (now._chance(k, now.glances) for k in (3, 4, 5))
            reach, (least, more) = (_ASIDE, _ASIDE_S) if aside else (_AT_VIEWER, _AT_VIEWER_S)
            place = reach[0] * (2.0 * x - 1.0), reach[1] * (2.0 * y - 1.0)
            now = now._glance(place, least + more * longer, aside)
        turns = turn or (now.glances > self.glances and now.aside)
        readily = _AT_PHRASE_END if phrase_ends else _AT_TURN if turns else 0.0
        brought_on = now._chance(6, now.glances + 100 * now.blinks) < readily
        if now.blink_s > now.blink_due_s or (brought_on and now.blink_s > _READY_S):
            now = now._blink()
        return now

    def _glance(self, place: tuple[float, float], seconds: float, aside: bool) -> Gaze:
        return replace(
            self, glances=self.glances + 1, aside=aside, place=place, last_place=self.place,
            glance_s=0.0, glance_ends_s=seconds,
        )  # fmt: skip

    def _blink(self) -> Gaze:
        n = self.blinks + 1
        least, more = _BLINKS_S
        # Steps of the golden ratio: long and short ones take turns, yet follow no pattern.
        share = (self._chance(7, 0) + 0.618034 * n + 0.2 * self._chance(7, n)) % 1.0
        due = least + more * share**2
        if n > 3 and self._chance(8, n) < _DOUBLE_BLINKS:
            due = _DOUBLE_S
        return replace(self, blinks=n, blink_s=0.0, blink_due_s=due)

    def _chance(self, stream: int, count: int) -> float:
        return hashed(self.seed, 100 + stream, count)

    def show(self, motion: np.ndarray, liveliness: float) -> None:
        """Set eyes and lids of a motion vector, whose head is turned already. A blink is whole at
        any liveliness but 0."""
        if liveliness == 0.0:
            return
        gone = smoothstep(self.glance_s / _SACCADE_S)
        turned = motion[[INDEX["yaw"], INDEX["pitch"]]]
        places = zip(self.last_place, self.place, strict=True)
        looks = [liveliness * (a + gone * (b - a)) for a, b in places]
        eyes = [INDEX["gaze_x"], INDEX["gaze_y"]]
        motion[eyes] = np.clip(np.array(looks) - turned, -_FARTHEST, _FARTHEST)
        motion[[INDEX["blink_left"], INDEX["blink_right"]]] = self._lids()

    def _lids(self) -> float:
        """How far the lids are shut, 0 to 1."""
        if not self.blinks:
            return 0.0
        if self.blink_s < _SHUT_S + _STAY_S:
            return smoothstep(self.blink_s / _SHUT_S)
        least, most = _OPEN_S
        opening_s = least + (most - least) * self._chance(9, self.blinks)
        return 1.0 - smoothstep((self.blink_s - _SHUT_S - _STAY_S) / opening_s)
