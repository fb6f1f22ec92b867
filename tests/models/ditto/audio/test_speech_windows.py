"""Windows of speech against the reference's numbers, and a stream against a whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ditto.audio.speech_windows import (
    SpeechWindows,
    features,
    frames_of,
    offline_windows,
    online_windows,
    silence_windows,
)
from tests.fakes.parity_rules import audio

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "audio.npz")
SAMPLES = 33234
DIMS = (0, 1, 1023)


def fake_network(windows: np.ndarray) -> torch.Tensor:
    """Stands for the speech network: a row is its loudness and its place, (n, 20, 1024)."""
    rows = np.stack(
        [
            windows[:, 320 * r : 320 * r + 400].mean(1, dtype=np.float64) + 0.01 * r
            for r in range(20)
        ],
        1,
    )
    return torch.from_numpy((rows[..., None] * (1 + np.arange(1024) / 1024)).astype(np.float32))


def assert_features(got: torch.Tensor, want: np.ndarray) -> None:
    np.testing.assert_allclose(got.numpy()[..., DIMS], want, rtol=0, atol=1e-5)


def test_one_window():
    rows = fake_network(audio(SAMPLES)[None, :6480])
    np.testing.assert_allclose(rows[0, :, 0], WANT["one_window_rows20_dim0"], rtol=0, atol=1e-5)
    got = features(rows)
    assert got.shape == (1, 5, 1024)
    np.testing.assert_allclose(got[0, :, 0], WANT["one_window_features_dim0"], rtol=0, atol=1e-5)


def test_the_windows_of_a_stream():
    windows = online_windows(audio(SAMPLES))
    assert windows.shape == (11, 6480)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[1, :100], audio(SAMPLES)[1280:1380])
    assert_features(features(fake_network(windows)), WANT["online_features"])


def test_the_windows_of_a_file():
    windows = offline_windows(audio(SAMPLES))
    assert windows.shape == (11, 6480)
    np.testing.assert_array_equal(windows[1, :100], audio(SAMPLES)[1200:1300])
    got = features(fake_network(windows)).flatten(0, 1)[: frames_of(SAMPLES)]
    assert_features(got, WANT["offline_features"])


def test_the_silence_before_a_stream():
    got = features(fake_network(silence_windows(70))).flatten(0, 1)[:70]
    assert got.shape == (70, 1024)
    assert_features(got, WANT["silence70_features"])


def test_windows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="20 rows, not 19"):
        features(torch.zeros(1, 19, 4))


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 30_000),
    pieces=st.lists(st.integers(1, 9_000), max_size=12),
    lookahead=st.booleans(),
)
def test_a_stream_in_any_pieces_gives_the_windows_of_the_whole(samples, pieces, lookahead):
    speech = audio(samples)
    stream, got = SpeechWindows(), []
    bounds = [0, *np.minimum(np.cumsum(pieces), samples).tolist(), samples]
    for start, stop in pairwise(bounds):
        stream.hear(speech[start:stop])
        while window := stream.take():
            got.append(window)
        assert sum(w.frames for w in got) + stream.waiting == stream.frames
    stream.finish()
    while window := stream.take(lookahead):
        got.append(window)
    assert stream.drained
    assert sum(w.frames for w in got) == frames_of(samples)
    want = online_windows(speech)
    assert len(want) - len(got) in (0, 1)  # the reference may add one without any speech in it
    np.testing.assert_array_equal([w.samples for w in got], want[: len(got)])


def test_a_window_waits_for_its_lookahead_unless_the_stream_starves():
    speech = audio(6400)
    stream = SpeechWindows()
    stream.hear(speech[:4559])
    assert stream.take() is None
    stream.hear(speech[4559:4560])
    first = stream.take()
    assert first is not None
    assert first.frames == 5
    stream.hear(speech[4560:])
    assert stream.take() is None
    starved = stream.take(lookahead=False)
    assert starved is not None
    np.testing.assert_array_equal(starved.samples[:5120], speech[1280:])
    assert not starved.samples[5120:].any()
    assert stream.take(lookahead=False) is None


def test_integers_are_scaled():
    stream = SpeechWindows()
    stream.hear(np.full(5000, -32768, np.int16))
    window = stream.take()
    assert window is not None
    np.testing.assert_array_equal(window.samples[:1920], 0)
    np.testing.assert_array_equal(window.samples[1920:], -1)


def test_after_a_cut_and_after_the_end_a_new_stretch_begins():
    stream = SpeechWindows()
    stream.hear(audio(9000))
    stream.take()
    stream.cut()
    assert (stream.frames, stream.waiting) == (0, 0)
    stream.hear(audio(700))
    stream.finish()
    assert stream.frames == 2
    with pytest.raises(ValueError, match="has to be taken before"):
        stream.hear(audio(10))
    last = stream.take()
    assert last is not None
    assert last.frames == 2
    np.testing.assert_array_equal(last.samples, online_windows(audio(700))[0])
    assert stream.take() is None
    stream.hear(audio(5000))
    assert stream.frames == 7


def test_a_stretch_of_nothing_gives_nothing():
    stream = SpeechWindows()
    stream.finish()
    assert stream.take() is None
    assert stream.drained


@pytest.mark.parametrize("pcm", [np.zeros(3, np.float64), np.zeros((2, 3), np.int16)])
def test_other_types_and_shapes_are_refused(pcm):
    with pytest.raises(ValueError, match="int16 or float32 of shape"):
        SpeechWindows().hear(pcm)


def test_an_hour_of_speech_leaves_nothing_behind():
    stream = SpeechWindows()
    taken = 0
    for _ in range(360):
        stream.hear(np.zeros(160_000, np.int16))
        while stream.take():
            taken += 1
        held = sum(len(a) for a in stream._arrived) + len(stream._buffer) - stream._next
        assert held < 6480 + 160_000 // 50
    assert taken == (3600 * 16_000 - 1360) // 3200
