"""Thin-plate splines: smooth displacement fields through scattered points."""

from __future__ import annotations

import cv2
import numpy as np

_SLICE = 512
"""Places evaluated at once: their part of the kernel matrix fits a core's cache."""
_ZERO_AT = 3.0
"""Distance at which the kernel is 0. Any distance gives the same field: it adds a multiple of r^2
to the kernel, and of that the sum over all points is constant. One as large as the distances that
occur keeps the terms small, which cancel in float32."""
_NOTHING = np.empty((0, 0), np.float32)
"""To be added to a product."""


class ThinPlateSpline:
    """Interpolates values known at scattered points of the plane.

    F. L. Bookstein, "Principal Warps", 1989: kernel r^2 log r plus an affine part. The factor of
    the system is kept, so many sets of values over the same points cost one solve.
    """

    def __init__(self, points: np.ndarray, smoothing: float = 1e-5) -> None:
        """Set the points, float (n, 2), in units in which distances are about 1.

        Args:
            points: no three alone on a line; nearly equal points are fine with ``smoothing``.
            smoothing: how far values may be missed to keep the field smooth; 0 hits each.
        """
        n = len(points)
        self._points = points.astype(np.float64)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = _kernel(self._points, self._points)
        system[:n, :n] += smoothing * np.eye(n)
        system[:n, n] = system[n, :n] = 1.0
        system[:n, n + 1 :] = self._points
        system[n + 1 :, :n] = self._points.T
        self._system = system

    def solve(self, values: np.ndarray) -> np.ndarray:
        """Coefficients, (n + 3, k), for ``values`` (n, k) at the points."""
        padded = np.zeros((len(self._points) + 3, values.shape[1]))
        padded[: len(self._points)] = values
        return np.linalg.solve(self._system, padded)

    def __call__(self, coefficients: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Values at the points ``at`` (m, 2): float32 (m, k)."""
        n = len(self._points)
        out = np.empty((len(at), coefficients.shape[1]), np.float32)
        kernel_part = coefficients[:n].astype(np.float32)
        for start in range(0, len(at), _SLICE):
            part = at[start : start + _SLICE]
            affine = coefficients[n] + part @ coefficients[n + 1 :]
            kernel = _kernel(part, self._points)
            if kernel_part.shape[1] == 1:
                # Summed in pairs, which rounds less.
                curved = (kernel * kernel_part[:, 0]).sum(1)[:, None]
            else:
                # Not numpy's product: its threads wait for each other, which takes many times as
                # long as products of this size on a machine that has more to do.
                curved = cv2.gemm(kernel, kernel_part, 1.0, _NOTHING, 0.0)
            out[start : start + len(part)] = affine + curved
        return out


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """r^2 log(r / _ZERO_AT) between all points of ``a`` and ``b``: float32 (len(a), len(b))."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    square = a[:, :1] - b[:, 0]
    square *= square
    other = a[:, 1:] - b[:, 1]
    other *= other
    square += other
    square += 1e-12
    np.log(square, out=other)
    other -= np.float32(2 * np.log(_ZERO_AT))
    square *= other
    square *= 0.5
    return square
