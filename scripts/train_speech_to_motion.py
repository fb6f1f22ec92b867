"""Trains the warp engine's speech-to-motion network from nothing, on speech made here.

    python scripts/train_speech_to_motion.py             # the weights in the repository
    python scripts/train_speech_to_motion.py --quick     # a rough network in two minutes

Speech synthesisers from Debian say sentences from Debian's word lists; their phone timings give
the lips' targets. No recording of a person goes in. The speech is kept under build/ for the next
run. The same seed, packages and machine give the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from speech_to_motion import corpus, evaluation, synthesis, training

from models.warp.speech.network import WEIGHTS

CACHE = Path(__file__).parents[1] / "build" / "speech_to_motion"
CORPUS_SEED, HELD_OUT_SEED = 1, 1001
"""What is said to every network, and to judge it: the same whatever the seed of the training."""
HELD_OUT = 120
"""Sentences to judge it by."""


def main() -> int:
    """Synthesise, train, validate, save. Exit code 0, or 2 if something is not installed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4000, help="training steps of 51 s of speech")
    parser.add_argument("--sentences", type=int, default=6000, help="sentences to synthesise")
    parser.add_argument("--quick", action="store_true", help="300 sentences, 150 steps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.sentences = 150, 300

    if absent := synthesis.missing():
        print(
            f"not installed: {', '.join(absent)}\nremedy: apt-get install {synthesis.PACKAGES}",
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(arguments.threads)
    began = time.monotonic()
    # In this order: espeak-ng draws from the C library's random numbers, so that what is made
    # second depends on what was made first in the process.
    held_out = corpus.load(HELD_OUT, HELD_OUT_SEED, CACHE)
    heard = corpus.load(arguments.sentences, CORPUS_SEED, CACHE)
    print(f"{len(heard.phone) * 0.02 / 3600:.2f} hours of speech with pauses")

    # Denormal numbers are slow. For the whole process, so not a library's to decide.
    torch.set_flush_denormal(True)
    network = training.train(heard, arguments.steps, arguments.seed)
    figures = evaluation.hear(network, held_out, "varied", HELD_OUT_SEED)
    network.save(arguments.out)
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(json.dumps(asdict(figures), indent=2))
    print(f"{arguments.out}: sha256 {digest}, {time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
