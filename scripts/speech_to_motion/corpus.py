"""The training material: spoken sentences in a row, as log-mel with the target of every row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.warp.speech.log_mel import HOP, WINDOW
from speech_to_motion import phones, synthesis, targets, texts
from speech_to_motion.log_mel import log_mel

_SENTENCES_PER_TRACK = 16
_LOUDNESS = 0.06  # RMS of the parts that sound


@dataclass(frozen=True)
class Corpus:
    """All speech end to end.

    ``mel`` float16 (2 * rows, BANDS), ``motion`` float32 (rows, OUTPUTS), ``phone`` int64 (rows,).
    """

    mel: Tensor
    motion: Tensor
    phone: Tensor


def load(count: int, seed: int, folder: Path) -> Corpus:
    """The corpus of ``count`` sentences: from ``folder``, or made and then kept there."""
    recipe = [Path(m.__file__).read_bytes() for m in (phones, synthesis, targets, texts)]
    recipe += [Path(__file__).read_bytes(), f"{count} {seed}".encode()]
    path = folder / f"corpus-{hashlib.sha256(b''.join(recipe)).hexdigest()[:12]}.pt"
    if not path.exists():
        corpus = make(count, seed)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((corpus.mel, corpus.motion, corpus.phone), path)
    return Corpus(*torch.load(path))


def make(count: int, seed: int) -> Corpus:
    """Synthesise ``count`` sentences, shuffle them, and line them up with pauses between."""
    wanted = texts.sentences(count, seed)
    spoken = list(tqdm(synthesis.speak(wanted, seed), "speech", len(wanted), unit="sentence"))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(spoken))
    tracks = [
        order[i : i + _SENTENCES_PER_TRACK] for i in range(0, len(order), _SENTENCES_PER_TRACK)
    ]
    mels, motions, named = [], [], []
    for track in tqdm(tracks, "targets", unit="track"):
        mel, motion, phone = _track([spoken[i] for i in track], rng)
        mels.append(mel), motions.append(motion), named.append(phone)
    return Corpus(torch.cat(mels), torch.cat(motions), torch.cat(named))


def _track(
    spoken: list[synthesis.Utterance], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Sentences one after the other, 0.05 to 1.5 s apart."""
    sound: list[np.ndarray] = []
    timed: list[tuple[int, float]] = []
    now = 0.0

    def add(pcm: np.ndarray, named: list[tuple[int, float]]) -> None:
        nonlocal now
        sound.append(pcm)
        length = len(pcm) / synthesis.RATE
        timed.extend((name, now + min(end, length)) for name, end in named)
        now += length
        timed[-1] = (timed[-1][0], now)

    silence = phones.INDEX["silence"]
    for utterance in spoken:
        gap = np.zeros(int(rng.uniform(0.05, 1.5) ** 1.5 * synthesis.RATE), np.float32)
        add(gap, [(silence, len(gap) / synthesis.RATE)])
        loud = np.abs(utterance.pcm) > 0.02 * np.abs(utterance.pcm).max()
        rms = float(np.sqrt(np.mean(np.square(utterance.pcm[loud])))) if loud.any() else 1.0
        add(utterance.pcm * (_LOUDNESS / rms), list(utterance.phones))

    pcm = np.concatenate(sound)
    rows = len(pcm) // (2 * HOP)
    padded = np.pad(pcm[: rows * 2 * HOP], (WINDOW - HOP, 0))
    mel = torch.cat(
        [
            log_mel(torch.from_numpy(padded[i : i + 16_000 + WINDOW - HOP]))
            for i in range(0, rows * 2 * HOP, 16_000)
        ]
    )

    merged: list[tuple[int, float]] = []
    for name, end in timed:  # neighbouring silences are one
        if merged and merged[-1][0] == name == silence:
            merged[-1] = (name, end)
        elif not merged or end > merged[-1][1]:
            merged.append((name, end))
    classes = np.array([name for name, _ in merged])
    ends = np.array([end for _, end in merged])
    motion, phone = targets.targets(classes, ends, rows)
    return mel.half(), torch.from_numpy(motion), torch.from_numpy(phone)
