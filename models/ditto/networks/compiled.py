"""The networks made fast: fewer bits, joined kernels, and one launch for a whole batch.

What runs at frame rate are two functions of tensors: :func:`painter` (warp and decoder) and
:func:`window_sampler` (the denoiser with all its steps). :func:`fixed_batches` makes either fast on
a GPU: it is compiled and recorded as a CUDA graph for a few batch sizes, and a batch in between is
filled up to the next. On a CPU it calls the function as it is. Which of the two is decided once,
when it is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from models.ditto.networks.diffusion import DdimSampler
from models.ditto.networks.ditto_networks import DittoNetworks
from models.ditto.networks.lmdm import Conditioning, MotionDenoiser

log = logging.getLogger(__name__)

Function = Callable[..., Tensor]
"""Takes tensors and gives one; the first axis of all of them is the batch."""

BATCHES = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are recorded. A batch in between wastes up to half of the next one's time, so
the sizes lie close enough for a renderer that takes what is due."""

WARM_CALLS = 3
"""Calls before a graph is recorded: compiling, choosing algorithms and allocating workspaces must
be behind it."""


def rendering_dtype(device: str | torch.device) -> torch.dtype:
    """What warp and decoder compute in on a device: float16, as the release itself does, except on
    a CPU, most of which are slower at it.

    With seeded weights of true shape the picture is 65 dB from float32's in float16, and 47 dB in
    bfloat16 (``tests/models/ditto/networks/test_precision.py``); both are as fast.
    """
    return torch.float32 if torch.device(device).type == "cpu" else torch.float16


def painter(networks: DittoNetworks, dtype: torch.dtype | None = None) -> Function:
    """Prepare warp and decoder, in place, and join them.

    Spectral norm is folded, kernels are fused, weights are laid out channels-last and lowered;
    files can no longer be loaded into the two networks. Sampling places, the norms' means and
    variances stay float32 whatever the dtype.

    Args:
        networks: loaded.
        dtype: of weights and activations; default: ``rendering_dtype`` of their device.

    Returns:
        ``paint(volume, kp_source, kp_driving) -> picture``: (B, C, D, H, W) of any float dtype,
        (B, 21, 3) float32 twice → RGB from 0 to 1, (B, 3, S, S), of ``dtype``.
    """
    warp, decoder = networks.warp, networks.decoder
    device = next(decoder.parameters()).device
    dtype = dtype or rendering_dtype(device)
    decoder.fold_spectral_norm()
    decoder.fuse()
    warp.to(dtype)
    decoder.to(dtype)
    networks.channels_last()

    def paint(volume: Tensor, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        volume = volume.to(dtype, memory_format=torch.channels_last_3d)
        picture: Tensor = decoder(warp(volume, kp_source, kp_driving))
        return picture

    return paint


class WindowSampler:
    """The denoiser and its sampler as one function; it keeps the denoiser's float32.

    ``think(x, cond_frame, cond, noise) -> motion``: where each window starts (B, 80, 265), the
    motion it starts from (B, 265), what is heard (B, 80, 1103), the steps' noise
    (B, steps - 1, 80, 265) → (B, 80, 265).
    """

    def __init__(
        self,
        sampler: DdimSampler,
        guidance: float,
        encode: Callable[[Tensor], Conditioning],
        denoise: Callable[[Tensor, Tensor, Conditioning, Tensor, float], Tensor],
    ) -> None:
        self._sampler = sampler
        self._guidance = guidance
        self._encode = encode
        self._denoise = denoise

    def __call__(self, x: Tensor, cond_frame: Tensor, cond: Tensor, noise: Tensor) -> Tensor:
        """Motion of windows, as above."""
        heard = self._encode(cond)

        def denoise(noisy: Tensor, time: Tensor) -> Tensor:
            return self._denoise(noisy, cond_frame, heard, time, self._guidance)

        return self._sampler.sample(denoise, x, noise)

    def compiled(self) -> WindowSampler:
        """The same with one compiled step, called for each: compiling all of them as one piece
        would take ten times as long and win nothing."""
        encode = torch.compile(self._encode, fullgraph=True)
        denoise = torch.compile(self._denoise, fullgraph=True)
        return WindowSampler(self._sampler, self._guidance, encode, denoise)


def window_sampler(
    lmdm: MotionDenoiser, sampler: DdimSampler, guidance: float = 2.0
) -> WindowSampler:
    """The denoiser with the steps of ``sampler``, pushed ``guidance`` times towards what it
    hears."""
    return WindowSampler(sampler, guidance, lmdm.encode, lmdm.denoise)


class FixedBatches(Protocol):
    """A function of batches, ready to be called at frame rate. Thread-safe, as long as all threads
    use one CUDA stream: they do unless told otherwise."""

    def __call__(self, *arguments: Tensor) -> Tensor:
        """As the function it was made of."""
        ...

    def warm(self, *example: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Have everything ready before the first call counts: seconds to minutes on a GPU, nothing
        on a CPU.

        Args:
            example: arguments of any batch size; only shapes (without the batch) and dtypes count.
            sizes: of batches; default: all it was made for.
        """
        ...


def fixed_batches(
    function: Function,
    device: str | torch.device,
    sizes: Sequence[int] = BATCHES,
    compile: bool = True,
) -> FixedBatches:
    """The function, as fast as the device lets it be.

    Args:
        function: no step of its Python may depend on values of tensors; one answer per row. If it
            has a method ``compiled``, that is asked for its compiled form.
        device: where its tensors are.
        sizes: of the batches that are recorded; larger ones are called in parts.
        compile: whether ``torch.compile`` may write its kernels: once for all sizes, and once more
            for 1. Where that cannot be (no triton, no C compiler) the log says so,
            and what is recorded are torch's own kernels.
    """
    if torch.device(device).type == "cpu":
        return Direct(function)
    return Recorded(function, device, sizes, compile=compile)


class Direct:
    """Calls the function as it is."""

    def __init__(self, function: Function) -> None:
        self._function = function

    @torch.inference_mode()
    def __call__(self, *arguments: Tensor) -> Tensor:
        """As the function."""
        return self._function(*arguments)

    def warm(self, *example: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Nothing needs to be ready."""


Replay = Callable[[], None]
Recorder = Callable[[Function, Sequence[Tensor]], tuple[Replay, Tensor]]
"""Records ``function(*inputs)``: gives what runs it again on what the inputs then hold, and the
tensor in which the answer then lies."""


class Recorded:
    """Runs batches of a few sizes, each recorded once, in memory of its own.

    Args:
        function: as for ``fixed_batches``, as are ``sizes`` and ``compile``.
        device: where the function runs. Arguments may be elsewhere: they are copied in any case.
        recorder: default: CUDA graphs.
    """

    def __init__(
        self,
        function: Function,
        device: str | torch.device,
        sizes: Sequence[int] = BATCHES,
        *,
        compile: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"batch sizes must be 1 or more, not {tuple(sizes)}")
        self._function = function
        self._device = device
        self._sizes = sorted(set(sizes))
        self._compiled: Function | None = None
        if compile:
            by_itself = getattr(function, "compiled", None)
            self._compiled = by_itself() if by_itself else torch.compile(function, fullgraph=True)
        self._record = recorder or CudaGraphs()
        self._recorded: dict[int, tuple[list[Tensor], Replay, Tensor]] = {}
        # Rows of two callers must not meet in the same buffers.
        self._lock = threading.Lock()

    def __call__(self, *arguments: Tensor) -> Tensor:
        """As the function.

        Raises:
            ValueError: an empty batch, arguments of several batch sizes, or an argument of another
                shape or dtype than when its size was recorded.
        """
        counts = {len(x) for x in arguments}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(f"one batch size of 1 or more, not {sorted(counts)}")
        parts = zip(*(x.split(self._sizes[-1]) for x in arguments), strict=True)
        answers = [self._part(part) for part in parts]
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def warm(self, *example: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Record batches, largest first, so that smaller ones find memory to share."""
        for size in sorted(self._sizes if sizes is None else sizes, reverse=True):
            with self._lock:
                self._of(size, example)

    @torch.inference_mode()
    def _part(self, rows: Sequence[Tensor]) -> Tensor:
        count = len(rows[0])
        size = next(size for size in self._sizes if size >= count)
        with self._lock:
            inputs, replay, answer = self._of(size, rows)
            for buffer, x in zip(inputs, rows, strict=True):
                if buffer.shape[1:] != x.shape[1:] or buffer.dtype != x.dtype:
                    raise ValueError(
                        f"recorded for rows of {tuple(buffer.shape[1:])} {buffer.dtype}, called "
                        f"with {tuple(x.shape[1:])} {x.dtype}"
                    )
                # Rows behind the batch keep what they last held: they are computed and not read.
                buffer[:count].copy_(x, non_blocking=True)
            replay()
            return answer[:count].clone()

    @torch.inference_mode()
    def _of(self, size: int, like: Sequence[Tensor]) -> tuple[list[Tensor], Replay, Tensor]:
        if size not in self._recorded:
            inputs = [
                x[:1]
                .to(self._device)
                .expand(size, *x.shape[1:])
                .clone(memory_format=torch.contiguous_format)
                for x in like
            ]
            self._recorded[size] = (inputs, *self._record(self._fastest(inputs), inputs))
        return self._recorded[size]

    def _fastest(self, inputs: Sequence[Tensor]) -> Function:
        """The compiled function, if there can be one for these shapes."""
        if self._compiled is not None:
            for x in inputs:
                if len(x) > 1:  # one program for all sizes but 1, which is another in any case
                    torch._dynamo.maybe_mark_dynamic(x, 0)
            try:
                self._compiled(*inputs)
            except Exception as error:  # the compiler's back ends raise whatever they like
                said = str(error).strip().splitlines() or [""]
                log.warning("not compiled, slower: %s: %s", type(error).__name__, said[0])
                self._compiled = None
        return self._compiled or self._function


class CudaGraphs:
    """Records on a CUDA device. The graphs of one recorder share their memory, so one of them runs
    at a time, and its answer is to be taken before the next does."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> tuple[Replay, Tensor]:
        """As ``Recorder``."""
        device = inputs[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        # cuDNN tries its algorithms once for each shape, and keeps to the fastest.
        before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_CALLS):
                    function(*inputs)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads go on talking to the device while this one records.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
            ):
                answer = function(*inputs)
        finally:
            torch.backends.cudnn.benchmark = before
        self._pool = graph.pool()
        return graph.replay, answer
