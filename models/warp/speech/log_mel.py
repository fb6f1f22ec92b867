"""Log-mel spectrum of speech, causal and streaming: what the speech-to-motion network hears."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from models.engine import SPEECH_RATE
from models.warp.speech.layers import product

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

_HANN = 0.5 - 0.5 * np.cos(2.0 * np.pi / WINDOW * np.arange(WINDOW))


def mel(hz: np.ndarray | float) -> np.ndarray:
    """Mel value of a frequency in Hz: 2595 log10(1 + f / 700) (O'Shaughnessy, 1987)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


@cache
def filterbank() -> np.ndarray:
    """Triangular filters, evenly spaced in mel, peak 1: float32, shape (FFT / 2 + 1, BANDS)."""
    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)
    hz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = np.arange(FFT // 2 + 1)[:, None] * (SPEECH_RATE / FFT)
    rising = (bins - hz[:-2]) / (hz[1:-1] - hz[:-2])
    falling = (hz[2:] - bins) / (hz[2:] - hz[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(pcm: np.ndarray) -> np.ndarray:
    """Log-mel frames of every whole window in ``pcm``.

    Args:
        pcm: float64, shape (samples,), 16 kHz, full scale 1; begins with the ``WINDOW - HOP``
            samples (or zeros) that precede the first frame's hop.

    Returns:
        float32, shape ((samples - WINDOW) // HOP + 1, BANDS): ``(ln(power) + 9) / 4``, with no
        statistics of the utterance, so that a frame depends on its 25 ms alone.
    """
    bands = product(_power(pcm), filterbank())
    np.maximum(bands, FLOOR, out=bands)
    np.log(bands, out=bands)
    bands += 9.0
    bands *= 0.25
    return bands


def _power(pcm: np.ndarray) -> np.ndarray:
    """Power spectrum of every whole window in ``pcm``: float32, (frames, FFT / 2 + 1).

    The transform is in float64: in float32 it is off by 1e-7 of the loudest bin, which the
    logarithm makes large in a band 60 dB below. The sums of positive powers that follow need no
    more than float32.
    """
    frames, step = (len(pcm) - WINDOW) // HOP + 1, pcm.strides[0]
    windows = np.zeros((frames, FFT))
    overlapping = as_strided(pcm, (frames, WINDOW), (HOP * step, step), writeable=False)
    np.multiply(overlapping, _HANN, out=windows[:, :WINDOW])
    spectrum = np.fft.rfft(windows)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power.astype(np.float32)


class LogMelStream:
    """Log-mel of speech that arrives in pieces; the frames do not depend on the pieces."""

    def __init__(self) -> None:
        self._kept = np.zeros(WINDOW - HOP)

    def push(self, pcm: np.ndarray) -> np.ndarray:
        """Frames that ``pcm`` (int16, (samples,), 16 kHz) completes: float32, (frames, BANDS)."""
        sound = np.concatenate([self._kept, pcm / 32768.0])
        frames = (len(sound) - (WINDOW - HOP)) // HOP
        self._kept = sound[frames * HOP :]
        if frames == 0:
            return np.zeros((0, BANDS), np.float32)
        return log_mel(sound[: frames * HOP + WINDOW - HOP])
