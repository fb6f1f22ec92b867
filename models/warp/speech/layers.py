"""The layers of a small network in numpy, for one sequence at a time: (time, channels), float32.

A layer holds its weights, transposed once, and nothing that changes: what it remembers of the past
is passed in and handed back. So threads may share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
"""Tensors by name, as ``torch.nn`` names and shapes them."""

_ALONE = 1 << 18
"""Multiplications of a matrix product that OpenBLAS still does on the calling thread."""
_SLICE = 16
"""Columns a slice has at least: OpenBLAS works on as many at once."""
_FEW = 3
"""Rows up to which a product is fastest row by row."""


def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x (rows, inputs) @ weight (inputs, outputs), on the calling thread alone.

    OpenBLAS shares a product of more than 2^18 multiplications among threads (interface/gemm.c:
    ``SMP_THRESHOLD_MIN``, 65536, times ``GEMM_MULTITHREAD_THRESHOLD``, 4). The ones here are so
    small that the threads wait for each other longer than they work: on a busy machine one of
    13 x 384 x 128 took 25 times as long. Larger ones are therefore done in slices that stay below.
    (Row by row it shares from 460800 multiplications on, which no layer here has.)
    """
    rows, inputs = x.shape
    outputs = weight.shape[1]
    if rows <= _FEW:
        return np.matmul(x[:, None], weight)[:, 0]
    if rows * inputs * outputs <= _ALONE:
        return x.dot(weight)
    most = max(1, _ALONE // (inputs * _SLICE))
    height = math.ceil(rows / math.ceil(rows / most))
    slices = math.ceil(height * inputs * outputs / _ALONE)
    while outputs % slices:
        slices += 1
    sliced = weight.reshape(inputs, slices, -1).transpose(1, 0, 2)
    out = np.empty((rows, outputs), x.dtype)
    for i in range(0, rows, height):
        into = out[i : i + height].reshape(-1, slices, outputs // slices).transpose(1, 0, 2)
        np.matmul(x[i : i + height], sliced, out=into)
    return out


_GELU = (
    1.8093635961e-09,
    -1.3364688200e-07,
    3.9731134313e-06,
    -5.5277943366e-05,
    -3.2954754072e-05,
    3.6333911333e-02,
    0.79788449266,
)
"""p, highest power first, in Phi(x) = (1 + tanh(x p(x^2))) / 2, the normal distribution.

An own fit to artanh(erf(x / sqrt(2))) / x on 0 to 6.5 by Lawson's algorithm (1961: least squares,
weighted again and again by the error; here the error of x Phi(x)), off by at most 7e-8 for every x.
The first coefficient is positive: beyond the fit the tanh saturates at the right end. numpy has no
erf, and this takes fewer passes over an array than the rational approximations of it.
"""


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), Phi the normal distribution: the Gaussian error linear unit (Hendrycks and Gimpel,
    2016) in its exact form, torch's default. Any shape; off by at most 7e-8 plus rounding."""
    square = np.square(x)
    y = square * _GELU[0]
    for c in _GELU[1:-1]:
        y += c
        y *= square
    y += _GELU[-1]
    y *= x
    np.tanh(y, out=y)
    half = x * 0.5
    y *= half
    y += half
    return y


class Linear:
    """x W^T + b."""

    def __init__(self, weights: Weights, name: str) -> None:
        self.weight = np.ascontiguousarray(weights[f"{name}.weight"].T)
        self.bias = weights[f"{name}.bias"]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x (time, inputs) -> (time, outputs)."""
        y = product(x, self.weight)
        y += self.bias
        return y


class CausalConv:
    """Convolution over time that sees only the past, as one matrix product over its taps."""

    def __init__(
        self, weights: Weights, name: str, kernel: int, dilation: int = 1, stride: int = 1
    ) -> None:
        self.kernel, self.dilation, self.stride = kernel, dilation, stride
        self.context = (kernel - 1) * dilation + 1 - stride
        self.linear = Linear(weights, f"{name}.linear")

    def __call__(self, x: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (time, inputs), past (context, inputs) -> (time / stride, outputs), next ``past``."""
        span = len(x) // self.stride * self.stride
        x = np.concatenate([past, x])
        starts = range(0, self.kernel * self.dilation, self.dilation)
        taps = [x[start : start + span : self.stride] for start in starts]
        return self.linear(np.concatenate(taps, axis=1)), x[len(x) - self.context :]


class LayerNorm:
    """Normalises each moment over its channels (Ba, Kiros and Hinton, 2016)."""

    EPSILON = 1e-5

    def __init__(self, weights: Weights, name: str) -> None:
        self.weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        channels = len(self.weight)
        self._share = np.full((channels, 1), 1.0 / channels, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x (time, channels) -> the same shape."""
        y = x - x.dot(self._share)
        variance = np.square(y).dot(self._share)
        variance += self.EPSILON
        y /= np.sqrt(variance, out=variance)
        y *= self.weight
        y += self.bias
        return y


class GRU:
    """Gated recurrent unit (Cho et al., 2014), in torch's form: gates in the order reset, update,
    new, and the reset gate after the product with the memory.

    r = s(W_r x + U_r h + b_r), z = s(W_z x + U_z h + b_z), n = tanh(W_n x + c + r (U_n h + d)),
    h' = h + (1 - z) (n - h), with the logistic s(a) = 1 / (1 + exp(-a)). A memory of seconds has
    z so near 1 that 1 - z must not be taken from a rounded z: it is s(-a).
    """

    def __init__(self, weights: Weights, name: str) -> None:
        inputs, memory = weights[f"{name}.weight_ih_l0"], weights[f"{name}.weight_hh_l0"]
        input_bias, memory_bias = weights[f"{name}.bias_ih_l0"], weights[f"{name}.bias_hh_l0"]
        self.width = width = memory.shape[1]
        sign = np.ones((3 * width, 1), np.float32)
        sign[:width] = -1.0  # of the reset gate, so that both gates are 1 / (1 + exp(a))
        self._memory = np.ascontiguousarray((sign * memory).T)
        self._inputs = np.ascontiguousarray((sign * inputs).T)
        bias = input_bias.copy()
        bias[: 2 * width] += memory_bias[: 2 * width]
        self._bias = sign[:, 0] * bias
        self._new_bias = memory_bias[2 * width :]

    def __call__(self, x: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (time, inputs), memory (width,) -> (time, width), the next ``memory``."""
        width = self.width
        said = product(x, self._inputs)
        said += self._bias
        out = np.empty((len(x), width), x.dtype)
        heard = np.empty(3 * width, x.dtype)
        gates, new = heard[: 2 * width], heard[2 * width :]
        reset, change = gates[:width], gates[width:]
        with np.errstate(over="ignore"):  # of exp, where a gate is shut
            for said_gates, said_new, after in zip(
                said[:, : 2 * width], said[:, 2 * width :], out, strict=True
            ):
                memory.dot(self._memory, out=heard)
                gates += said_gates
                np.exp(gates, out=gates)
                gates += 1.0
                np.reciprocal(gates, out=gates)
                new += self._new_bias
                new *= reset
                new += said_new
                np.tanh(new, out=new)
                new -= memory
                new *= change
                memory = np.add(memory, new, out=after)
        return out, memory
