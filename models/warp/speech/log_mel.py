"""Log-mel spectrum of speech, causal and streaming: what the speech-to-motion network hears."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from models.engine import SPEECH_RATE

BANDS = 80
"""Mel bands."""
LOWEST_HZ, HIGHEST_HZ = 50.0, 7800.0
WINDOW = 400
"""Samples of one Hann window: 25 ms."""
HOP = 160
"""Samples between windows: 10 ms. Frame *j* ends with the sample before ``160 * (j + 1)``."""
FFT = 512
FLOOR = 1e-7
"""Power below which a band counts as silent; digital silence lands exactly here."""
SILENCE = (float(np.log(FLOOR)) + 9.0) / 4.0
"""Value of every band in digital silence."""


def mel(hz: np.ndarray | float) -> np.ndarray:
    """Mel value of a frequency in Hz: 2595 log10(1 + f / 700) (O'Shaughnessy, 1987)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


@cache
def filterbank(device: torch.device) -> Tensor:
    """Triangular filters, evenly spaced in mel, peak 1: float32, shape (FFT / 2 + 1, BANDS)."""
    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)
    hz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = np.arange(FFT // 2 + 1)[:, None] * (SPEECH_RATE / FFT)
    rising = (bins - hz[:-2]) / (hz[1:-1] - hz[:-2])
    falling = (hz[2:] - bins) / (hz[2:] - hz[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return torch.from_numpy(filters.astype(np.float32)).to(device)


@cache
def window(device: torch.device) -> Tensor:
    """Hann window: float32, shape (WINDOW,)."""
    return torch.hann_window(WINDOW, device=device)


def log_mel(pcm: Tensor) -> Tensor:
    """Log-mel frames of every whole window in ``pcm``.

    Args:
        pcm: float32, shape (..., samples), 16 kHz, full scale 1; begins with the
            ``WINDOW - HOP`` samples (or zeros) that precede the first frame's hop.

    Returns:
        float32, shape (..., (samples - WINDOW) // HOP + 1, BANDS): ``(ln(power) + 9) / 4``, with
        no statistics of the utterance, so that a frame depends on its 25 ms alone.
    """
    windows = pcm.unfold(-1, WINDOW, HOP) * window(pcm.device)
    power = torch.fft.rfft(windows, FFT).abs().square() @ filterbank(pcm.device)
    return (power.clamp_min(FLOOR).log() + 9.0) / 4.0


class LogMelStream:
    """Log-mel of speech that arrives in pieces; the frames do not depend on the pieces."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._kept = torch.zeros(WINDOW - HOP, device=device)

    def push(self, pcm: np.ndarray) -> Tensor:
        """Frames that ``pcm`` (int16, shape (samples,), 16 kHz) completes: (frames, BANDS)."""
        heard = torch.from_numpy(pcm.astype(np.float32) / 32768.0).to(self._kept.device)
        sound = torch.cat([self._kept, heard])
        frames = (len(sound) - (WINDOW - HOP)) // HOP
        self._kept = sound[frames * HOP :]
        if frames == 0:
            return sound.new_zeros(0, BANDS)
        return log_mel(sound[: frames * HOP + WINDOW - HOP])
