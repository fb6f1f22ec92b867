import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.warp.speech.layers import GRU, CausalConv, LayerNorm, gelu, product

ROOT = Path(__file__).parents[4]


def chance(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 6, 13, 41, 42, 43, 100, 333])
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 128), (400, 96), (256, 42), (257, 80)])
def test_a_product_is_right_however_it_is_sliced(rows, inputs, outputs):
    x, weight = chance(rows, inputs), chance(inputs, outputs, seed=1)
    y = product(x, weight)
    assert y.shape == (rows, outputs)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, x.astype(float) @ weight.astype(float), atol=1e-4)


def test_products_stay_on_the_calling_thread():
    """OpenBLAS would share such products among threads, which wait for each other in vain."""
    program = """
import time
import numpy as np
from models.warp.speech.layers import product
sizes = [(t, k, n) for t in (2, 4, 12, 50, 64, 128) for k, n in ((384, 128), (400, 96), (128, 384))]
pairs = [(np.ones((t, k), np.float32), np.ones((k, n), np.float32)) for t, k, n in sizes]
time.sleep(1)  # OpenBLAS's threads wait busily for a while after they were started
process, own = time.process_time(), time.thread_time()
for _ in range(300):
    for x, weight in pairs:
        product(x, weight)
own = time.thread_time() - own
print((time.process_time() - process - own) / own)
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert float(run.stdout) < 0.1, "other threads worked, too"


def test_gelu_is_the_exact_one():
    x = np.linspace(-12.0, 12.0, 96_001)
    wanted = np.array([0.5 * v * math.erfc(-v / math.sqrt(2.0)) for v in x])
    assert np.abs(gelu(x) - wanted).max() < 1e-7
    in_single = gelu(x.astype(np.float32))
    assert in_single.dtype == np.float32
    assert np.abs(in_single - wanted).max() < 1e-6


@pytest.mark.parametrize("x", [1e4, 1e8, 1e19])
def test_gelu_of_anything_large_is_itself_or_nothing(x):
    with np.errstate(over="ignore"):
        x = np.float32(x)
        np.testing.assert_array_equal(gelu(np.array([x, -x, 0.0], np.float32)), [x, 0.0, 0.0])


def test_a_layer_norm_is_blind_to_level_and_scale():
    weights = {"norm.weight": np.ones(64, np.float32), "norm.bias": np.zeros(64, np.float32)}
    norm, x = LayerNorm(weights, "norm"), chance(5, 64)
    y = norm(x)
    np.testing.assert_allclose(y.mean(1), 0.0, atol=1e-6)
    np.testing.assert_allclose(y.std(1), 1.0, atol=1e-4)
    np.testing.assert_allclose(norm(3.0 * x + 7.0), y, atol=1e-4)


@pytest.mark.parametrize(("dilation", "stride"), [(1, 1), (4, 1), (1, 2)])
def test_a_convolution_hears_an_impulse_for_as_long_as_its_kernel(dilation, stride):
    weights = {
        "conv.linear.weight": np.array([[1.0, 2.0, 3.0, 4.0]], np.float32),
        "conv.linear.bias": np.zeros(1, np.float32),
    }
    conv = CausalConv(weights, "conv", kernel=4, dilation=dilation, stride=stride)
    x = np.zeros((40, 1), np.float32)
    x[8] = 1.0
    y, past = conv(x, np.zeros((conv.context, 1), np.float32))
    response = np.zeros(40)
    response[8 : 8 + 4 * dilation : dilation] = [4.0, 3.0, 2.0, 1.0]
    np.testing.assert_array_equal(y[:, 0], response[stride - 1 :: stride])
    assert past.shape == (conv.context, 1)


def gru_weights(width: int) -> dict[str, np.ndarray]:
    names = ("gru.weight_ih_l0", "gru.weight_hh_l0")
    weights = {name: np.zeros((3 * width, width), np.float32) for name in names}
    biases = ("gru.bias_ih_l0", "gru.bias_hh_l0")
    return weights | {name: np.zeros(3 * width, np.float32) for name in biases}


def test_a_gru_of_a_long_memory_does_not_drift():
    """1 - z is 1e-4 here: of a z rounded to float32 it would be wrong by 1e-4 of itself."""
    weights, steps = gru_weights(2), 5000
    weights["gru.bias_ih_l0"][2:4] = 9.3
    weights["gru.bias_ih_l0"][4:] = [0.3, -0.9]
    out, _ = GRU(weights, "gru")(np.zeros((steps, 2), np.float32), np.zeros(2, np.float32))
    z = 1.0 / (1.0 + math.exp(-np.float32(9.3)))
    wanted = (1.0 - z ** np.arange(1, steps + 1))[:, None] * np.tanh([0.3, -0.9])
    np.testing.assert_allclose(out, wanted, rtol=2e-5)


def test_a_gru_keeps_its_memory_where_the_update_gate_is_shut():
    width = 8
    weights = gru_weights(width)
    weights["gru.weight_ih_l0"] = chance(3 * width, width)
    weights["gru.weight_hh_l0"] = chance(3 * width, width, seed=1)
    memory = chance(width, seed=2)
    kept = memory.copy()
    weights["gru.bias_ih_l0"][width : 2 * width] = 60.0
    out, after = GRU(weights, "gru")(chance(4, width, seed=3), memory)
    np.testing.assert_allclose(out, np.tile(kept, (4, 1)), atol=1e-5)
    np.testing.assert_array_equal(after, out[-1])
    np.testing.assert_array_equal(memory, kept, "the memory passed in is the caller's")
    weights["gru.bias_ih_l0"][width : 2 * width] = -60.0
    weights["gru.bias_ih_l0"][2 * width :] = 60.0
    out, _ = GRU(weights, "gru")(chance(4, width, seed=3), memory)
    np.testing.assert_allclose(out, 1.0, atol=1e-5)
