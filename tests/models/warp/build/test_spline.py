from __future__ import annotations

import numpy as np
import pytest

from models.warp.build.spline import ThinPlateSpline


def exact(points: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bookstein's formula, word for word, in float64."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = ((a[:, None] - b[None]) ** 2).sum(-1)
        return np.where(square > 0, square * np.log(np.maximum(square, 1e-300)), 0.0)

    n = len(points)
    affine = np.column_stack([np.ones(n), points])
    system = np.block([[kernel(points, points), affine], [affine.T, np.zeros((3, 3))]])
    solution = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))
    return (
        kernel(at, points) @ solution[:n] + np.column_stack([np.ones(len(at)), at]) @ solution[n:]
    )


@pytest.mark.parametrize("count", [1, 5, 511, 512, 1300])
@pytest.mark.parametrize("channels", [1, 28])
def test_fields_are_those_of_the_formula(count, channels) -> None:
    random = np.random.default_rng(3)
    points = random.uniform(-2, 2, (60, 2))
    values = np.sin(points @ random.normal(size=(2, channels)))
    at = random.uniform(-4, 4, (count, 2))
    spline = ThinPlateSpline(points, smoothing=0.0)
    found = spline(spline.solve(values), at)
    assert found.dtype == np.float32
    assert found.shape == (count, channels)
    expected = exact(points, values, at)
    assert np.abs(found - expected).max() < 1e-3


def test_the_values_at_the_points_are_hit() -> None:
    points = np.random.default_rng(4).uniform(-1, 1, (40, 2))
    values = np.sin(3 * points)
    spline = ThinPlateSpline(points, smoothing=0.0)
    assert np.allclose(spline(spline.solve(values), points), values, atol=1e-3)
