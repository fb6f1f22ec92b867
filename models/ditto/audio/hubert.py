"""Speech to features: HuBERT (Hsu et al. 2021, the large size), as released with Ditto in ONNX.

The graph is run by onnxruntime as it is: `transformers.HubertModel` and torchaudio's `hubert_large`
are networks of this width in torch, but neither reads ONNX, and the release does not say which of
their checkpoints the graph was exported from, so that equal features cannot be promised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.ditto.weights.reader import FETCH
from models.engine import EngineError

WINDOW_SAMPLES = 6480
"""Samples of one window at 16 kHz: 3 frames of the past, 5 of now, 2 of the future, 5 ms more."""

WINDOW_ROWS = 20
"""Rows of features the network makes of it, one every 20 ms."""

FEATURES = 1024
"""Values of a row."""


class SpeechEncoder(Protocol):
    """What hears: windows of speech in, rows of features out."""

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """float32 (n, 6480) at 16 kHz, -1 to 1 → float32 (n, 20, 1024)."""
        ...


class HubertError(EngineError):
    """The speech network cannot be run; the message says what to do."""


class OnnxHubert:
    """``SpeechEncoder`` on onnxruntime. Thread-safe, as its sessions are.

    Windows go through it as one batch if the graph lets the batch axis vary, else one by one; so
    that a batch of n costs n times one window then.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int = 0) -> None:
        """Load the graph and try it once, on silence.

        Args:
            path: the ``.onnx`` file.
            device: ``cpu``, ``cuda`` or ``cuda:<index>``.
            threads: of the CPU provider; 0 leaves it to onnxruntime.

        Raises:
            HubertError: onnxruntime or its CUDA provider is missing, the file is missing or is
                not the network that is wanted; the message says how to put it right.
        """
        self.path = Path(path)
        ort = _onnxruntime()
        if not self.path.is_file():
            raise HubertError(f"{self.path} is missing; run: {FETCH}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session: Any = ort.InferenceSession(
                str(self.path), sess_options=options, providers=_providers(ort, device)
            )
        except Exception as error:  # onnxruntime has no common base of its errors
            raise self._wrong(f"onnxruntime cannot load it: {_first_line(error)}") from error
        self._check_device(device)
        self._check_graph()

    def _check_device(self, device: str) -> None:
        """onnxruntime falls back to the CPU with no more than a line in the log."""
        if device != "cpu" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise HubertError(
                f"onnxruntime cannot use {device}: its CUDA provider did not start, most often "
                "because CUDA or cuDNN is not the version it was built for. Its log says which "
                "library it missed; or set the device of the speech network to cpu."
            )

    def _check_graph(self) -> None:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise self._wrong(f"its input is {found}, not one float tensor (batch, samples)")
        self._input = inputs[0].name
        self._output = self._session.get_outputs()[0].name
        batch, samples = inputs[0].shape
        if isinstance(samples, int) and samples != WINDOW_SAMPLES:
            raise self._wrong(f"it wants {samples} samples, not {WINDOW_SAMPLES}")
        if isinstance(batch, int) and batch != 1:
            raise self._wrong(f"it wants batches of {batch}")
        self.batched = self._can_batch() if not isinstance(batch, int) else False
        if not self.batched:
            self._check_rows(self._run(np.zeros((1, WINDOW_SAMPLES), np.float32)), 1)

    def _can_batch(self) -> bool:
        """A free batch axis is a promise that some exports do not keep: two windows that differ
        must give what each gives alone."""
        two = np.random.default_rng(0).normal(0, 0.1, (2, WINDOW_SAMPLES)).astype(np.float32)
        alone = np.concatenate([self._run(window[None]) for window in two])
        self._check_rows(alone, 2)
        try:
            together = self._run(two)
        except Exception:
            return False
        if together.shape != alone.shape:
            return False
        # A GPU may take other kernels for other batches, and rounds to TF32 by default.
        return bool(np.linalg.norm(together - alone) <= 0.01 * np.linalg.norm(alone))

    def _check_rows(self, rows: np.ndarray, windows: int) -> None:
        if rows.shape != (windows, WINDOW_ROWS, FEATURES):
            raise self._wrong(
                f"it makes {rows.shape[1:]} of a window, not ({WINDOW_ROWS}, {FEATURES})"
            )

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """float32 (n, 6480) at 16 kHz, -1 to 1 → float32 (n, 20, 1024).

        Raises:
            ValueError: the windows have another length.
        """
        if windows.ndim != 2 or windows.shape[1] != WINDOW_SAMPLES:
            raise ValueError(f"windows must be (n, {WINDOW_SAMPLES}), not {windows.shape}")
        if not len(windows):
            return np.empty((0, WINDOW_ROWS, FEATURES), np.float32)
        windows = np.ascontiguousarray(windows, np.float32)
        if self.batched:
            return self._run(windows)
        return np.concatenate([self._run(window[None]) for window in windows])

    def _run(self, windows: np.ndarray) -> np.ndarray:
        rows = np.asarray(self._session.run([self._output], {self._input: windows})[0])
        # Some exports drop the batch axis of a single window.
        return rows[None] if rows.ndim == 2 and len(windows) == 1 else rows

    def _wrong(self, what: str) -> HubertError:
        return HubertError(
            f"{self.path} is not the released HuBERT: {what}. Delete it and run: {FETCH}"
        )


def _onnxruntime() -> Any:
    """Imported late: the embedded engine does without it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise HubertError(
            "the speech network needs onnxruntime: pip install 'avatar-server[gpu]' for a GPU, "
            "or pip install onnxruntime for the CPU"
        ) from error
    return onnxruntime


def _providers(ort: Any, device: str) -> list[Any]:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind != "cuda" or not (index or "0").isdigit():
        raise HubertError(f"the speech network runs on cpu or cuda, not on {device!r}")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise HubertError(
            "this onnxruntime has no CUDA provider: pip uninstall onnxruntime, then "
            "pip install 'avatar-server[gpu]'; or set the device of the speech network to cpu"
        )
    return [
        ("CUDAExecutionProvider", {"device_id": int(index or 0)}),
        "CPUExecutionProvider",
    ]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
