"""How something is said, followed causally from frame to frame: pauses, effort, emphasis.

What is said moves the lips; how it is said decides how far they open, and moves head and brows
(``models.warp.motion.gesture``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from models.engine import FPS
from models.warp.speech.rows import COLUMN

PAUSE_ROWS = 7
"""Rows (140 ms) that have to be quiet before it counts as a pause: a "t" or "k" is silent for up to
100 ms."""

_SPEAKS = 0.35
"""Probability of speech below which a row counts as silent, too, however loud the noise."""
_SILENT_ROWS = 10
"""Rows (200 ms) of that which are a pause; while it is faint, ``PAUSE_ROWS`` are enough."""
_QUIET, _QUIET_BELOW, _FAINT_BELOW = 0.15, 0.45, 0.25
"""A row is quiet below this loudness, or this much (22 dB) below the voice's average; faint by
half that."""
_SETTLED = 0.06
"""A pause once begun bears this much more: breath and rooms are not even."""

_AVERAGE_S, _EFFORT_S = 1.5, 10.0
"""Time constants of the voice's average loudness and of the balance of its spectrum."""
_TYPICAL_ALPHA = -10.0
"""dB: energy of vowels at 1 to 5 kHz against that below 1 kHz, in ordinary recordings."""
_ALPHA_DOUBLES = 10.0
_FRICATIVE = 0.6
"""Share of energy above 1 kHz from which a sound is no vowel and says nothing about effort."""
EFFORT_LIMITS = (0.75, 1.35)

_DT = 1.0 / FPS


@dataclass(frozen=True)
class Prosody:
    """What is known of a voice after some frames. Immutable, so that an interrupt can go back."""

    heard_s: float = 0.0
    """Seconds of speech the averages rest on."""
    silent_rows: int = 0
    """Rows in a row in which nobody speaks, those ahead included."""
    quiet_rows: int = 0
    """Likewise of quiet rows."""
    in_pause: bool = False
    loud: float = 0.0
    average: float = 0.0
    treble: float = 0.0
    """Share of the energy at 1 to 5 kHz, averaged over energy."""
    energy: float = 0.0
    speech: float = 0.0
    """Probability that somebody speaks."""
    emphasis: float = 0.0
    """0 to 1: how far the voice rises over its average within the next 100 ms."""

    def hear(self, heard: np.ndarray, fresh: bool) -> Prosody:
        """The next frame of speech.

        Args:
            heard: float32, (2 or more, len(ROW)): the two rows the frame shows, and those after
                them as far as heard.
            fresh: the first frame of a stretch of speech.
        """
        rows = heard[:2]
        speech = float(rows[:, COLUMN["speech"]].max())
        loud = float(rows[:, COLUMN["loudness"]].max())
        near = heard[:PAUSE_ROWS].max(axis=0)
        below = self.average - float(near[COLUMN["loudness"]])
        bears = _SETTLED if self.in_pause else 0.0
        quiet = below > _QUIET_BELOW - bears or float(near[COLUMN["loudness"]]) < _QUIET
        silent = float(near[COLUMN["speech"]]) < _SPEAKS

        # Where little has been heard ahead, what was before vouches for the pause.
        def lasting(rows: int) -> int:
            return max(min(len(heard), PAUSE_ROWS), 0 if fresh or not rows else rows + 2)

        quiet_rows = lasting(self.quiet_rows) if quiet else 0
        silent_rows = lasting(self.silent_rows) if silent else 0
        in_pause = (
            silent_rows >= _SILENT_ROWS
            or (silent_rows >= PAUSE_ROWS and below > _FAINT_BELOW)
            or quiet_rows >= PAUSE_ROWS
        )

        # Noise in a pause may sound like an "s": a voice's average forgets it only slowly.
        faint = self.heard_s > 0.2 and self.average - loud > _FAINT_BELOW
        weight = speech * _DT * (0.1 if faint else 1.0)
        heard_s = self.heard_s + weight
        average = self.average + weight / max(1e-6, min(_AVERAGE_S, heard_s)) * (
            loud - self.average
        )
        # Loudness counts 50 dB from 0 to 1: as energy the loud vowels decide, as they should.
        power = speech * float(np.mean(10.0 ** (5.0 * rows[:, COLUMN["loudness"]])))
        treble = float(np.mean(rows[:, COLUMN["treble"]]))
        if treble > _FRICATIVE:
            power = 0.0
        energy = self.energy * (1.0 - speech * _DT / _EFFORT_S) + power
        share = self.treble + (power / energy if energy > 0 else 0.0) * (treble - self.treble)
        coming = float(heard[2:, COLUMN["loudness"]].max(initial=loud))
        louder = self.loud + min(1.0, _DT / 0.08) * (coming - self.loud)
        return replace(
            self, heard_s=heard_s, silent_rows=silent_rows, quiet_rows=quiet_rows,
            in_pause=in_pause, average=average, treble=share, energy=energy, speech=speech,
            loud=louder, emphasis=min(1.0, max(0.0, 5.0 * (louder - average))) * speech,
        )  # fmt: skip

    @property
    def effort(self) -> float:
        """How much wider than usual such a voice opens the mouth, as a factor around 1.

        Who speaks up opens the jaw further (Schulman, 1989) and has more treble, since the folds
        close more sharply: the *alpha measure* of the spectrum's balance (Sundberg and Nordenberg,
        2006), unlike loudness, survives any volume control. Twice the opening for 10 dB.
        """
        share = min(0.99, max(0.001, self.treble))
        alpha = 10.0 * math.log10(share / (1.0 - share))
        factor = 2.0 ** ((alpha - _TYPICAL_ALPHA) / _ALPHA_DOUBLES)
        low, high = EFFORT_LIMITS
        # Two seconds of a voice tell how it is; until then it is taken as usual.
        return 1.0 + min(1.0, self.heard_s / 2.0) * (min(high, max(low, factor)) - 1.0)
