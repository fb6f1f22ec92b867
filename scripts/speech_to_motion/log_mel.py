"""The log-mel of ``models.warp.speech.log_mel`` in torch, as the network is trained on it."""

from __future__ import annotations

import torch
from torch import Tensor

from models.warp.speech.log_mel import FFT, FLOOR, HOP, WINDOW, filterbank


def log_mel(pcm: Tensor) -> Tensor:
    """Log-mel frames of every whole window in ``pcm``.

    Args:
        pcm: float, shape (..., samples), 16 kHz, full scale 1; begins with the ``WINDOW - HOP``
            samples (or zeros) that precede the first frame's hop.

    Returns:
        Of the dtype of ``pcm``, shape (..., (samples - WINDOW) // HOP + 1, BANDS).
    """
    windows = pcm.unfold(-1, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=pcm.dtype)
    filters = torch.from_numpy(filterbank()).to(pcm.dtype)
    power = torch.fft.rfft(windows, FFT).abs().square() @ filters
    return (power.clamp_min(FLOOR).log() + 9.0) / 4.0
