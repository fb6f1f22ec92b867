"""The speech network worked out in float64 over a whole stretch of speech, as its formulas say.

Nothing of the engine's own arithmetic is used but the constants and the filterbank.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import load_file

from models.warp.speech.log_mel import FFT, FLOOR, HOP, SILENCE, WINDOW, filterbank
from models.warp.speech.network import WEIGHTS
from models.warp.speech.rows import LOOKAHEAD, OUTPUTS, PROBABILITIES, ROW_SAMPLES

_erf = np.vectorize(math.erf, otypes=[float])


class Reference:
    """Listens with the weights of the repository."""

    def __init__(self) -> None:
        self._weights = {name: w.astype(float) for name, w in load_file(WEIGHTS).items()}

    def readings(self, pcm: np.ndarray) -> np.ndarray:
        """What is said of row s - d once row s is heard, at [s, d]: (rows, LOOKAHEAD + 1, OUTPUTS).

        Args:
            pcm: int16, (samples,); whole rows of it are heard, the rest is not.
        """
        heard = pcm[: len(pcm) // ROW_SAMPLES * ROW_SAMPLES]
        x = gelu(self._conv("listen", log_mel(heard), 5, before=SILENCE))
        x = self._conv("halve", x, 4, stride=2)
        for i, dilation in enumerate((1, 2, 4, 8)):
            name = f"blocks.{i}"
            y = self._conv(f"{name}.conv", self._norm(f"{name}.norm", x), 3, dilation)
            x = x + self._linear(f"{name}.mix", gelu(y))
        x = self._norm("norm", x)
        said = self._linear("motion", np.concatenate([x, self._gru(x)], axis=1))
        said = said.reshape(-1, LOOKAHEAD + 1, len(OUTPUTS))
        said[..., PROBABILITIES] = logistic(said[..., PROBABILITIES])
        return said

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _conv(
        self,
        name: str,
        x: np.ndarray,
        kernel: int,
        dilation: int = 1,
        stride: int = 1,
        before: float = 0.0,
    ) -> np.ndarray:
        """Tap ``i`` of an output hears ``(kernel - 1 - i) * dilation`` steps back."""
        past = (kernel - 1) * dilation + 1 - stride
        x = np.pad(x, ((past, 0), (0, 0)), constant_values=before)
        taps = sliding_window_view(x, (kernel - 1) * dilation + 1, axis=0)[::stride, :, ::dilation]
        return self._linear(f"{name}.linear", taps.transpose(0, 2, 1).reshape(len(taps), -1))

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _gru(self, x: np.ndarray) -> np.ndarray:
        weights = self._weights
        given = x @ weights["gru.weight_ih_l0"].T + weights["gru.bias_ih_l0"]
        memory, out = np.zeros(x.shape[1]), []
        for row in given:
            own = weights["gru.weight_hh_l0"] @ memory + weights["gru.bias_hh_l0"]
            (given_r, given_z, given_n), (own_r, own_z, own_n) = np.split(row, 3), np.split(own, 3)
            update = logistic(given_z + own_z)
            new = np.tanh(given_n + logistic(given_r + own_r) * own_n)
            memory = (1.0 - update) * new + update * memory
            out.append(memory)
        return np.array(out).reshape(x.shape)


def log_mel(pcm: np.ndarray) -> np.ndarray:
    """(ln(power) + 9) / 4 of each hop's 25 ms: (samples / HOP, BANDS)."""
    sound = np.pad(pcm / 32768.0, (WINDOW - HOP, 0))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    windows = sliding_window_view(sound, WINDOW)[::HOP] * hann
    power = np.abs(np.fft.rfft(windows, FFT)) ** 2 @ filterbank().astype(float)
    return (np.log(np.maximum(power, FLOOR)) + 9.0) / 4.0


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x)."""
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))
