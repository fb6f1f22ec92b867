import sys

import numpy as np
import pytest

from models.ditto.audio.hubert import FEATURES, WINDOW_ROWS, WINDOW_SAMPLES, HubertError, OnnxHubert

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def write_graph(path, batch="n", samples=WINDOW_SAMPLES, features=FEATURES, mixes=False):
    """A little network: row r of the features is 400 samples from 320 r on, times a matrix.

    ``batch`` and ``samples`` are axes, fixed or named; ``mixes`` makes the windows of a batch
    influence each other, as an export does that was traced with one.
    """
    weights = np.random.default_rng(0).normal(0, 0.05, (features, 1, 400)).astype(np.float32)
    make = onnx.helper.make_node
    nodes = [
        make("Unsqueeze", ["input_values", "one"], ["mono"]),
        make("Conv", ["mono", "weights"], ["columns"], strides=[320], kernel_shape=[400]),
        make("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        make("ReduceMean", ["rows"], ["mean"], axes=[0], keepdims=1),
        make("Add", ["rows", "mean"] if mixes else ["rows", "zero"], ["last_hidden_state"]),
    ]
    constant = onnx.numpy_helper.from_array
    graph = onnx.helper.make_graph(
        nodes,
        "little",
        [
            onnx.helper.make_tensor_value_info(
                "input_values", onnx.TensorProto.FLOAT, [batch, samples]
            )
        ],
        [onnx.helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, None)],
        [
            constant(np.array([1], np.int64), "one"),
            constant(weights, "weights"),
            constant(np.zeros(1, np.float32), "zero"),
        ],
    )
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path, weights


def expected(windows, weights):
    """The same by numpy."""
    starts = 320 * np.arange(WINDOW_ROWS)
    pieces = np.stack([windows[:, start : start + 400] for start in starts], axis=1)
    return pieces @ weights[:, 0].T


@pytest.fixture
def windows():
    return np.random.default_rng(1).normal(0, 0.3, (3, WINDOW_SAMPLES)).astype(np.float32)


@pytest.mark.parametrize("batch", ["n", 1])
def test_windows_become_rows_together_or_one_by_one(tmp_path, windows, batch):
    path, weights = write_graph(tmp_path / "hubert.onnx", batch=batch)
    encoder = OnnxHubert(path, threads=1)
    assert encoder.batched == (batch == "n")
    rows = encoder(windows)
    assert rows.shape == (3, WINDOW_ROWS, FEATURES)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected(windows, weights), atol=1e-4)


def test_no_windows_make_no_rows(tmp_path):
    path, _ = write_graph(tmp_path / "hubert.onnx")
    empty = OnnxHubert(path, threads=1)(np.empty((0, WINDOW_SAMPLES), np.float32))
    assert empty.shape == (0, WINDOW_ROWS, FEATURES)


def test_a_graph_that_mixes_its_batch_is_run_one_by_one(tmp_path, windows):
    path, _ = write_graph(tmp_path / "hubert.onnx", mixes=True)
    encoder = OnnxHubert(path, threads=1)
    assert not encoder.batched
    np.testing.assert_allclose(encoder(windows)[:1], encoder(windows[:1]), atol=1e-6)


def test_strided_windows_are_understood(tmp_path, windows):
    path, weights = write_graph(tmp_path / "hubert.onnx")
    speech = windows.reshape(-1)
    view = np.lib.stride_tricks.sliding_window_view(speech, WINDOW_SAMPLES)[::3200]
    found = OnnxHubert(path, threads=1)(view)
    np.testing.assert_allclose(found, expected(view, weights), atol=1e-4)


@pytest.mark.parametrize("shape", [(WINDOW_SAMPLES,), (2, 6400)])
def test_windows_of_another_length_are_refused(tmp_path, shape):
    path, _ = write_graph(tmp_path / "hubert.onnx")
    with pytest.raises(ValueError, match="6480"):
        OnnxHubert(path, threads=1)(np.zeros(shape, np.float32))


def test_a_missing_file_names_itself_and_what_fetches_it(tmp_path):
    with pytest.raises(HubertError, match=r"hubert\.onnx is missing; run: python scripts/download"):
        OnnxHubert(tmp_path / "hubert.onnx")


def test_a_damaged_file(tmp_path):
    path = tmp_path / "hubert.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(HubertError, match=r"cannot load it.*Delete it and run"):
        OnnxHubert(path)


@pytest.mark.parametrize(
    ("difference", "says"),
    [({"features": 768}, "768"), ({"samples": 16000}, "16000 samples"), ({"batch": 4}, "batches")],
)
def test_another_network(tmp_path, difference, says):
    path, _ = write_graph(tmp_path / "hubert.onnx", **difference)
    with pytest.raises(HubertError, match=f"is not the released HuBERT.*{says}"):
        OnnxHubert(path)


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    path, _ = write_graph(tmp_path / "hubert.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(HubertError, match=r"pip install 'avatar-server\[gpu\]'"):
        OnnxHubert(path)


def test_cuda_is_asked_for_where_there_is_none(tmp_path):
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    path, _ = write_graph(tmp_path / "hubert.onnx")
    with pytest.raises(HubertError, match="no CUDA provider"):
        OnnxHubert(path, device="cuda:0")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_does_not_start_is_no_quiet_fallback(tmp_path, monkeypatch):
    path, _ = write_graph(tmp_path / "hubert.onnx")
    everything = [*ort.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: everything)
    with pytest.raises(HubertError, match="did not start"):
        OnnxHubert(path, device="cuda")


def test_other_devices_are_refused(tmp_path):
    path, _ = write_graph(tmp_path / "hubert.onnx")
    with pytest.raises(HubertError, match="not on 'mps'"):
        OnnxHubert(path, device="mps")
