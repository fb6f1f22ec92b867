"""How well the warp engine's speech-to-motion network hears: the figures of its model card.

    python scripts/evaluate_speech_to_motion.py [WEIGHTS ...] [--clips CLIPS]

Without ``--clips``: on held-out synthesised speech, by kind of sound; that speech is made here, or
taken from the training's. With it: against lips measured in videos, CLIPS being a folder as
``scripts/quality.py`` takes it, with tracks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import quality  # noqa: E402
from face_quality import track  # noqa: E402
from speech_to_motion import corpus, evaluation, synthesis  # noqa: E402
from speech_to_motion.network import SpeechToMotionModule  # noqa: E402
from train_speech_to_motion import CACHE, HELD_OUT, HELD_OUT_SEED  # noqa: E402

from models.warp.speech.network import WEIGHTS, SpeechToMotion  # noqa: E402


def table(rows: dict[str, evaluation.Heard] | dict[str, evaluation.Agreement]) -> str:
    """Markdown of all rows and their mean."""
    names = [field.name.replace("_", " ") for field in fields(next(iter(rows.values())))]
    values = np.array([astuple(row) for row in rows.values()], float)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name, row in [*zip(rows, values, strict=True), ("**mean**", np.nanmean(values, axis=0))]:
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, nargs="*", default=[WEIGHTS])
    parser.add_argument("--clips", type=Path, help="folder of speech and tracks of lips")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        networks = {path: SpeechToMotion.load(path) for path in arguments.weights}
        clips = quality.clips(arguments.clips) if arguments.clips else []
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not arguments.clips and (absent := synthesis.missing()):
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
        return 2
    for path, network in networks.items():
        if arguments.clips:
            rows = {
                clip.name: evaluation.agree(
                    network, quality.speech(clip), track.load(clip.reference)
                )
                for clip in clips
                if clip.reference
            }
            print(f"{path}\n\n{table(rows)}\n")
        else:
            held_out = corpus.load(HELD_OUT, HELD_OUT_SEED, CACHE)
            module = SpeechToMotionModule.load(path)
            heard = {
                kind: evaluation.hear(module, held_out, kind, HELD_OUT_SEED)
                for kind in evaluation.KINDS
            }
            print(f"{path}\n\n{table(heard)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
