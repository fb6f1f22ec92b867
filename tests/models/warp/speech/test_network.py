"""The network's arithmetic: held against float64, and what it demands of its weights."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.warp.speech.log_mel import BANDS
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import WEIGHTS, SpeechToMotion
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS, ROW_SAMPLES
from tests.models.warp.speech.babble import babble
from tests.models.warp.speech.reference import Reference

ROOT = Path(__file__).parents[4]
CLOSE = 2e-5
"""Seen: 3e-6 in an hour of babble, 7e-6 in one of real speech."""


@pytest.fixture(scope="module")
def network() -> SpeechToMotion:
    return SpeechToMotion.load()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def worst(
    network: SpeechToMotion, reference: Reference, pcm: np.ndarray, chance: np.random.Generator
) -> float:
    """Largest error of the rows handed out of ``pcm``, heard and taken in pieces of random size."""
    finished = np.pad(pcm, (0, -len(pcm) % (2 * ROW_SAMPLES) + LOOKAHEAD * ROW_SAMPLES))
    readings = reference.readings(finished)
    stream, heard, taken, errors = MotionStream(network), 0, 0, []

    def take(rows: int) -> None:
        nonlocal taken
        end = heard // ROW_SAMPLES if not stream.finished else len(readings)
        last = np.minimum(np.arange(taken, taken + rows) + LOOKAHEAD, end - 1)
        if chance.random() < 0.5:
            got = stream.take(rows)[:, : len(OUTPUTS)]
            wanted = readings[last, last - np.arange(taken, taken + rows)]
        else:
            got = np.concatenate([view[:, : len(OUTPUTS)] for view in stream.take_views(rows)])
            wanted = np.concatenate(
                [readings[at, at - row :: -1] for row, at in enumerate(last, taken)]
            )
        errors.append(np.abs(got - wanted).max())
        taken += rows

    while heard < len(pcm):
        size = int(chance.choice([37, 320, 640, 640, 1024, 5000, 16_000, 100_000]))
        stream.hear(pcm[heard : heard + size])
        heard = min(heard + size, len(pcm))
        rows = int(chance.choice([stream.ready, stream.heard, chance.integers(stream.heard + 1)]))
        if rows:
            take(rows)
    stream.finish()
    if stream.heard:
        take(stream.heard)
    return max(errors)


def test_rows_are_those_of_float64_however_the_speech_was_cut(network, reference):
    chance = np.random.default_rng(0)
    for _ in range(6):
        pcm = babble(20.0, chance)
        assert worst(network, reference, pcm, chance) < CLOSE


@pytest.mark.slow
def test_so_they_are_for_an_hour(network, reference):
    chance = np.random.default_rng(1)
    for _ in range(20):
        pcm = babble(180.0, chance)
        assert worst(network, reference, pcm, chance) < CLOSE


@pytest.mark.parametrize("loudest", [0, 1, 32_767])
def test_silence_whispers_and_clipping_noise_are_exact(network, reference, loudest):
    chance = np.random.default_rng(2)
    pcm = chance.integers(-loudest, loudest + 1, 48_000).astype(np.int16)
    assert worst(network, reference, pcm, chance) < CLOSE


def test_streams_in_several_threads_share_a_network(network):
    speech = [babble(5.0, np.random.default_rng(seed)) for seed in range(8)]

    def rows(pcm: np.ndarray) -> np.ndarray:
        stream = MotionStream(network)
        stream.hear(pcm)
        return np.concatenate([stream.take(2) for _ in range(stream.ready // 2)])

    alone = [rows(pcm) for pcm in speech]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(rows, speech))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_hears_without_torch():
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
stream = MotionStream(SpeechToMotion.load())
stream.hear(np.zeros(16_000, np.int16))
print(stream.take(stream.ready).shape)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "(45, 9)\n", run.stderr


def test_a_state_can_be_gone_back_to(network):
    chance = np.random.default_rng(3)
    first, second = (chance.standard_normal((20, BANDS)).astype(np.float32) for _ in range(2))
    _, state = network(first, network.initial_state())
    said, _ = network(second, state)
    network(first, state)
    np.testing.assert_array_equal(network(second, state)[0], said)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors.*train_speech_to_motion\.py"):
        SpeechToMotion.load(tmp_path / "none.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    path, weights = tmp_path / "other.safetensors", load_file(WEIGHTS)
    del weights["blocks.2.mix.bias"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"other\.safetensors.*blocks\.2\.mix\.bias.*missing"):
        SpeechToMotion.load(path)
    weights = load_file(WEIGHTS) | {"motion.bias": np.zeros(7, np.float32)}
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"motion\.bias must be float32 of shape \(42,\)"):
        SpeechToMotion.load(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=r"other\.safetensors holds other weights.*restore"):
        SpeechToMotion.load(path)
