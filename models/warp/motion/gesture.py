"""How a speaker's head and brows go along with the voice.

Heads of speakers do two things at once (Hadar and others, 1983): they take another posture where a
phrase begins, and beat on what is stressed. Both pass through critically damped springs, so that
nothing jumps, overshoots or repeats; chance is hashed from the seed and the count of what happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from models.engine import FPS
from models.warp.motion.idle import hashed, smooth_noise
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.motion.prosody import Prosody

_DT = 1.0 / FPS

POSTURE = {"yaw": 4.0, "pitch": 1.8, "roll": 2.0, "sway_x": 0.030, "sway_y": 0.012}
"""How far a posture lies from the middle at most: degrees, and shares of the pupils' distance."""
_POSTURE_HERTZ, _REST_HERTZ = 0.95, 0.35
"""How quickly a posture is taken while speaking, and left afterwards."""
_HOLDS_S = (0.9, 1.4)
"""A posture is held so long at least, and up to so much longer: then the next stress ends it."""
_PHRASE_S = 0.5
"""A phrase that begins after a pause ends it sooner."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

_BEAT = {"pitch": 7.0, "yaw": 4.5, "roll": 3.0}
"""Pull of a beat: about half as many degrees of turn."""
_BEAT_S, _BEAT_HERTZ = 0.16, 1.7
_STRESSED = 0.2
"""Emphasis from which on a rise is a beat."""
_BETWEEN_BEATS_S = (0.32, 0.4)
"""Beats are apart so long at least, and up to so much longer."""

_SWAYS = {
    "yaw": (2.2, 1.8),
    "pitch": (1.4, 1.4),
    "roll": (1.4, 1.4),
    "sway_x": (0.045, 0.036),
    "sway_y": (0.025, 0.024),
}
_SWAYS_S = (1.0, 0.42)
"""What goes on between beats: reach of a slow and a quick wandering, and their time scales. With
less of it, pictures in short pauses look alike beside those of the words."""

_REACH = {"yaw": 4.4, "pitch": 3.8, "roll": 3.0, "sway_x": 0.08, "sway_y": 0.05}
"""All of it together stays within."""


@dataclass(frozen=True)
class Spring:
    """Follows a target like a damped mass without overshoot, exactly at any frame rate."""

    value: float = 0.0
    speed: float = 0.0

    def towards(self, target: float, hertz: float) -> Spring:
        """A frame later."""
        rate = 2.0 * math.pi * hertz
        left, off = math.exp(-rate * _DT), self.value - target
        push = (self.speed + rate * off) * _DT
        return Spring(target + (off + push) * left, (self.speed - rate * push) * left)


@dataclass(frozen=True)
class Gestures:
    """Where the gestures stand. Immutable, so that an interrupt can go back."""

    seed: int
    activity: float = 0.0
    """0 listening to 1 speaking: rises in a third of a second, fades in two, as a head comes to
    rest later than the mouth."""
    postures: int = 0
    """Postures taken so far."""
    held_s: float = math.inf
    posture: tuple[Spring, ...] = (Spring(),) * len(POSTURE)
    beats: int = 0
    since_beat_s: float = math.inf
    beat: tuple[Spring, ...] = (Spring(),) * len(_BEAT)
    lift: Spring = Spring()
    """Of the brows, slower and only for strong emphasis."""

    def idle(self) -> Gestures:
        """The next frame, in which nothing is said."""
        return self._moved(0.0, 0.0)

    def speak(self, before: Prosody, voice: Prosody) -> Gestures:
        """The next frame of speech; ``before`` is what was known of the voice a frame ago."""
        stressed = voice.emphasis > max(_STRESSED, before.emphasis)
        least, more = _BETWEEN_BEATS_S
        beats = stressed and self.since_beat_s > least + more * self._chance(1, self.beats)
        least, more = _HOLDS_S
        tired = self.held_s > least + more * self._chance(2, self.postures)
        phrase = before.in_pause and not voice.in_pause and self.held_s > _PHRASE_S
        now = self
        if phrase or (beats and tired):
            now = replace(now, postures=now.postures + 1, held_s=0.0)
        if beats:
            now = replace(now, beats=now.beats + 1, since_beat_s=0.0)
        return now._moved(voice.speech, voice.emphasis)

    @property
    def turn(self) -> float:
        """Degrees of turn between the head and the posture it is on its way to."""
        return self._aim()[0] - self.posture[0].value

    def _moved(self, speech: float, emphasis: float) -> Gestures:
        rise = 0.3 if speech > self.activity else 2.0
        activity = self.activity + _DT / rise * (speech - self.activity)
        hertz = _REST_HERTZ + (_POSTURE_HERTZ - _REST_HERTZ) * activity
        posture = zip(self.posture, self._aim(), strict=True)
        pull = zip(self.beat, self._pull(), strict=True)
        lifted = max(0.0, emphasis * activity - 0.4) / 0.6
        return replace(
            self,
            activity=activity,
            held_s=self.held_s + _DT,
            since_beat_s=self.since_beat_s + _DT,
            posture=tuple(spring.towards(activity * aim, hertz) for spring, aim in posture),
            beat=tuple(spring.towards(activity * aim, _BEAT_HERTZ) for spring, aim in pull),
            lift=self.lift.towards(lifted, 1.1),
        )

    def _aim(self) -> list[float]:
        """The posture taken last, by channel. Sideways, steps of the golden ratio never come near
        the posture before; nor do they repeat."""
        if not self.postures:
            return [0.0] * len(POSTURE)
        n = self.postures
        share = n * _GOLDEN + self._chance(3, 0) + 0.15 * self._chance(4, n)
        sideways = 2.0 * (share - math.floor(share)) - 1.0
        aims = []
        for stream, (channel, reach) in enumerate(POSTURE.items(), 5):
            turned = channel in ("yaw", "sway_x")
            aims.append(reach * (sideways if turned else 2.0 * self._chance(stream, n) - 1.0))
        return aims

    def _pull(self) -> list[float]:
        """Of the last beat, while it lasts: a nod, now and then upwards, never quite straight."""
        if self.since_beat_s > _BEAT_S:
            return [0.0] * len(_BEAT)
        n = self.beats
        down = 0.45 + 0.55 * self._chance(11, n) if self._chance(10, n) < 0.8 else -0.5
        across, tilt = 2.0 * self._chance(12, n) - 1.0, 2.0 * self._chance(13, n) - 1.0
        if self.held_s == self.since_beat_s:  # the head turns already
            across = 0.0
        return [_BEAT["pitch"] * down, _BEAT["yaw"] * across, _BEAT["roll"] * tilt]

    def _chance(self, stream: int, count: int) -> float:
        return hashed(self.seed, 210 + stream, count)

    def motion(self, frame: int, liveliness: float) -> np.ndarray:
        """What speaking adds to the idle motion: float32, (len(CHANNELS),)."""
        t = frame / FPS
        turns = dict.fromkeys(_REACH, 0.0)
        for stream, (channel, reaches) in enumerate(_SWAYS.items()):
            for k, (reach, scale_s) in enumerate(zip(reaches, _SWAYS_S, strict=True)):
                noise = smooth_noise(self.seed, 240 + 2 * stream + k, t / scale_s)
                turns[channel] += self.activity * reach * noise
        for springs, channels in ((self.posture, POSTURE), (self.beat, _BEAT)):
            for channel, spring in zip(channels, springs, strict=True):
                turns[channel] += spring.value
        motion = rest()
        for channel, limit in _REACH.items():
            motion[INDEX[channel]] = limit * math.tanh(liveliness * turns[channel] / limit)
        nod = max(0.0, self.beat[0].value)
        motion[INDEX["sway_y"]] += liveliness * 0.006 * nod
        motion[INDEX["brow"]] = liveliness * (0.06 * nod + 0.45 * self.lift.value)
        return motion
