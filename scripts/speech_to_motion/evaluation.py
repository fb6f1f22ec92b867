"""Figures of a network: on held-out synthesised speech, by kind of sound, and on measured lips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from face_quality.score import area_under_curve, at, correlation
from face_quality.track import Track
from torch import Tensor

from models.engine import SPEECH_RATE
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import COLUMN, LOOKAHEAD, ROW_SAMPLES
from speech_to_motion import augmentation
from speech_to_motion.corpus import Corpus
from speech_to_motion.network import SpeechToMotionModule
from speech_to_motion.training import ROWS, WARM_ROWS

_RATE = 25  # Hz at which lips are compared
_SHUT_SHARE = 0.14
"""Share of the reference's 95th percentile below which its lips count as shut."""
_NEAR_S = 0.04
_SHORT_S = 0.2
"""Lips shut for longer rest; shorter, they say p, b or m."""

Change = Callable[[Tensor, torch.Generator], Tensor]


def _on_power(change: Change) -> Change:
    """``change`` of power spectra, for log-mels."""

    def on_mel(mels: Tensor, generator: torch.Generator) -> Tensor:
        power = change((4.0 * mels - 9.0).exp(), generator)
        return (power.clamp_min(1e-7).log() + 9.0) / 4.0

    return on_mel


KINDS: dict[str, Change] = {
    "clean": lambda mels, _: mels,
    "varied": lambda mels, chance: augmentation.augment(
        mels, torch.full((len(mels),), 0.5), chance
    ),
    "child": lambda mels, _: augmentation.stretch_frequency(mels, torch.full((len(mels),), 0.74)),
    "sung": lambda mels, chance: (augmentation.sing(4.0 * mels - 9.0, chance) + 9.0) / 4.0,
    "telephone": _on_power(lambda power, _: augmentation.narrow_band(power, 320.0, 3400.0)),
    "codec": _on_power(lambda power, chance: augmentation.code(power, -25.0, -20.0, chance)),
    "noise": _on_power(lambda power, chance: power + augmentation.hiss(power, 10.0, 1.0, chance)),
}
"""Ways to sound: as synthesised; with half the augmentation; a child's vocal tract (x 0.74); sung
pitch; 320 to 3400 Hz; a codec; white noise 10 dB below the voice."""


@dataclass(frozen=True)
class Heard:
    """How well a network hears one kind of sound."""

    aperture_r: float | None
    width_r: float | None
    aperture_r_at_once: float | None
    """Without lookahead."""
    closure_auc: float | None
    labiodental_auc: float | None
    phone_accuracy: float


@torch.inference_mode()
def hear(
    network: SpeechToMotionModule, corpus: Corpus, kind: str, seed: int, pieces: int = 96
) -> Heard:
    """Figures on speech the network was not trained on; the same ``seed`` picks the same pieces."""
    generator = torch.Generator().manual_seed(seed)
    mels, motion, phone = augmentation.crop(corpus, ROWS, torch.zeros(pieces), generator)
    said, phones, _ = network(KINDS[kind](mels, generator), network.initial_state(pieces))
    first = LOOKAHEAD + WARM_ROWS
    truth, named = (
        motion[:, first - LOOKAHEAD : -LOOKAHEAD],
        phone[:, first - LOOKAHEAD : -LOOKAHEAD],
    )
    final, at_once = said[:, first:, LOOKAHEAD], said[:, first:, 0]

    def series(values: Tensor, column: str) -> np.ndarray:
        return values[..., COLUMN[column]].flatten().numpy()

    return Heard(
        correlation(series(final, "aperture"), series(truth, "aperture")),
        correlation(series(final, "width"), series(truth, "width")),
        correlation(series(at_once, "aperture"), series(motion[:, first:], "aperture")),
        area_under_curve(series(final, "closure"), series(truth, "closure") > 0.5),
        area_under_curve(series(final, "labiodental"), series(truth, "labiodental") > 0.5),
        float((phones[:, first:].argmax(-1) == named).float().mean()),
    )


@dataclass(frozen=True)
class Agreement:
    """How a network's lips go with measured ones of the same speech."""

    aperture_r: float | None
    width_r: float | None
    closure_auc: float | None
    """Chance that a moment of shut lips has the smaller aperture of two moments."""
    precision: float
    """Share of the closures heard that are seen, too, at most 40 ms away."""
    recall: float
    """Share of the short closures seen that are heard."""


def agree(
    network: SpeechToMotion, speech: np.ndarray, reference: Track, fires: float = 0.5
) -> Agreement:
    """Compare at 25 Hz.

    Args:
        network: listens.
        speech: int16, (samples,), 16 kHz.
        reference: lips of a video of that speech.
        fires: probability from which on a closure counts as heard.
    """
    stream = MotionStream(network)
    stream.hear(speech)
    stream.finish()
    rows = stream.take(stream.heard)
    centres = (np.arange(len(rows)) + 0.5) * ROW_SAMPLES / SPEECH_RATE
    times = np.arange(int(min(reference["t"][-1], centres[-1]) * _RATE)) / _RATE
    gap, wide = at(reference, "lip_gap", times), at(reference, "mouth_width", times)
    aperture, width, closure = (
        np.interp(times, centres, rows[:, COLUMN[name]])
        for name in ("aperture", "width", "closure")
    )
    shut = gap < _SHUT_SHARE * np.nanpercentile(gap, 95)
    heard = np.array([centres[run].mean() for run in _runs(rows[:, COLUMN["closure"]] > fires)])
    seen = [times[run] for run in _runs(shut)]
    short = [run for run in seen if run[-1] - run[0] < _SHORT_S]
    return Agreement(
        correlation(aperture, gap),
        correlation(width, wide),
        area_under_curve(-aperture * (1.0 - closure), shut),
        _share([any(_near(h, run) for run in seen) for h in heard]),
        _share([any(_near(h, run) for h in heard) for run in short]),
    )


def _runs(true: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.pad(true.astype(int), 1))).reshape(-1, 2)
    return [slice(first, end) for first, end in edges]


def _near(time: float, run: np.ndarray) -> bool:
    return bool(run[0] - _NEAR_S <= time <= run[-1] + _NEAR_S)


def _share(found: list[bool]) -> float:
    return sum(found) / len(found) if found else float("nan")
