import numpy as np
import pytest

from models.warp.speech.log_mel import BANDS, HOP, SILENCE, WINDOW, LogMelStream, log_mel, mel


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3000, samples).astype(np.int16)


def test_frames_do_not_depend_on_the_pieces():
    pcm = noise(16_000)
    whole = LogMelStream().push(pcm)
    for size in (1, 7, 159, 160, 161, 640, 5000):
        if size == 1:
            pieces = np.array_split(pcm[:1600], 1600)
        else:
            pieces = [pcm[i : i + size] for i in range(0, len(pcm), size)]
        stream = LogMelStream()
        frames = np.concatenate([stream.push(piece) for piece in pieces])
        np.testing.assert_allclose(frames, whole[: len(frames)], atol=1e-5)
        assert len(frames) == sum(map(len, pieces)) // HOP


def test_a_frame_ends_where_its_hop_ends():
    pcm = noise(8000)
    changed = pcm.copy()
    changed[HOP * 20 :] = 0
    before, after = LogMelStream().push(pcm), LogMelStream().push(changed)
    np.testing.assert_array_equal(before[:20], after[:20])
    assert np.abs(before[20] - after[20]).max() > 0.01


def test_silence_has_one_known_value():
    frames = LogMelStream().push(np.zeros(3200, np.int16))
    assert frames.shape == (20, BANDS)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, SILENCE, atol=1e-6)


def test_a_faint_band_beside_a_loud_one_is_exact():
    """In float32 the transform's own rounding would drown what is 90 dB below."""
    t = np.arange(WINDOW * 4) / 16_000
    faint = 1.5e-5 * np.sin(2 * np.pi * 5000.0 * t)
    loud = 0.9 * np.sin(2 * np.pi * 400.0 * t)
    bins = np.arange(WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * bins / WINDOW)
    # One frame by the definition of the Fourier transform.
    turn = np.exp(-2j * np.pi * np.outer(np.arange(257), bins) / 512)
    power = np.abs(turn @ ((loud + faint)[:WINDOW] * hann)) ** 2
    hz = 700.0 * (10.0 ** (np.linspace(mel(50.0), mel(7800.0), BANDS + 2) / 2595.0) - 1.0)
    at = np.arange(257) * 31.25
    wanted = [
        np.log(max(1e-7, float(np.interp(at, hz[i : i + 3], [0, 1, 0]) @ power)))
        for i in range(BANDS)
    ]
    frame = log_mel(loud + faint)[0]
    np.testing.assert_allclose(frame, (np.array(wanted) + 9.0) / 4.0, atol=2e-6)


@pytest.mark.parametrize("hz", [200.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_is_loudest_in_its_own_band(hz):
    tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(WINDOW * 4) / 16_000)
    edges = np.linspace(mel(50.0), mel(7800.0), BANDS + 2)
    band = int(log_mel(tone).mean(0).argmax())
    assert edges[band] - 1 <= mel(hz) <= edges[band + 2] + 1


def test_ten_times_the_amplitude_is_twenty_decibels_more():
    sound = np.random.default_rng(0).standard_normal(4000)
    quiet, loud = log_mel(0.05 * sound), log_mel(0.5 * sound)
    difference = (loud - quiet).mean() * 4 / np.log(10) * 10
    assert difference == pytest.approx(20.0, abs=0.1)
