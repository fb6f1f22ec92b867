"""Thin-plate splines: smooth displacement fields through scattered points."""

from __future__ import annotations

import numpy as np


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
        # In slices: the whole kernel matrix of a fine grid would take hundreds of megabytes.
        for start in range(0, len(at), 4096):
            part = at[start : start + 4096]
            out[start : start + len(part)] = _kernel(part, self._points) @ kernel_part
        out += (coefficients[n] + at @ coefficients[n + 1 :]).astype(np.float32)
        return out


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """r^2 log r between all points of ``a`` and ``b``: float32 (len(a), len(b))."""
    square = ((a[:, None] - b[None]) ** 2).sum(-1).astype(np.float32)
    return 0.5 * square * np.log(square + 1e-12)
