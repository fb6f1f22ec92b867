import numpy as np
import pytest
import torch

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
        frames = torch.cat([stream.push(piece) for piece in pieces])
        torch.testing.assert_close(frames, whole[: len(frames)], atol=1e-4, rtol=0)
        assert len(frames) == sum(map(len, pieces)) // HOP


def test_a_frame_ends_where_its_hop_ends():
    pcm = noise(8000)
    changed = pcm.copy()
    changed[HOP * 20 :] = 0
    before, after = LogMelStream().push(pcm), LogMelStream().push(changed)
    assert torch.equal(before[:20], after[:20])
    assert not torch.equal(before[20], after[20])


def test_silence_has_one_known_value():
    frames = LogMelStream().push(np.zeros(3200, np.int16))
    assert frames.shape == (20, BANDS)
    torch.testing.assert_close(frames, torch.full_like(frames, SILENCE))


@pytest.mark.parametrize("hz", [200.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_is_loudest_in_its_own_band(hz):
    tone = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(WINDOW * 4) / 16_000)
    edges = np.linspace(mel(50.0), mel(7800.0), BANDS + 2)
    band = int(log_mel(tone).mean(0).argmax())
    assert edges[band] - 1 <= mel(hz) <= edges[band + 2] + 1


def test_ten_times_the_amplitude_is_twenty_decibels_more():
    quiet, loud = (log_mel(torch.randn(4000, generator=g) * a) for a, g in amplitudes())
    difference = (loud - quiet).mean() * 4 / np.log(10) * 10
    assert difference == pytest.approx(20.0, abs=0.1)


def amplitudes():
    return [(a, torch.Generator().manual_seed(0)) for a in (0.05, 0.5)]
