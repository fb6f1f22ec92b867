"""The fast paths against the plain ones. A recorder on the CPU stands in for CUDA graphs: it keeps
their rule that an answer lies where it lay when recorded."""

import logging
import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from models.ditto.networks.compiled import (
    BATCHES,
    Direct,
    Function,
    Recorded,
    Replay,
    fixed_batches,
    painter,
    rendering_dtype,
    window_sampler,
)
from models.ditto.networks.diffusion import DdimSampler
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes


class FakeGraphs:
    """Runs a recorded function again on the very tensors it was recorded with."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> tuple[Replay, Tensor]:
        self.sizes.append(len(inputs[0]))
        answer = function(*inputs)

        def replay() -> None:
            answer.copy_(function(*inputs))

        return replay, answer


def weighted(x: Tensor, y: Tensor) -> Tensor:
    """Some function of rows."""
    return x * 2 + y.sum(1, keepdim=True)


def rows(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3), torch.randn(count, 5)


@pytest.fixture
def graphs() -> FakeGraphs:
    return FakeGraphs()


@pytest.fixture
def recorded(graphs) -> Recorded:
    return Recorded(weighted, "cpu", (1, 2, 4), compile=False, recorder=graphs)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 11])
def test_any_batch_gets_its_own_answers(recorded, count):
    for _ in range(2):
        arguments = rows(count)
        torch.testing.assert_close(recorded(*arguments), weighted(*arguments))


def test_sizes_are_recorded_once_and_batches_filled_up_to_them(recorded, graphs):
    recorded(*rows(3))
    recorded(*rows(4))
    recorded(*rows(3))
    assert graphs.sizes == [4]
    recorded(*rows(6))
    assert graphs.sizes == [4, 2]


def test_warming_records_all_sizes_the_largest_first(recorded, graphs):
    recorded.warm(*rows(1))
    recorded.warm(*rows(7))
    assert graphs.sizes == [4, 2, 1]
    recorded(*rows(3))
    assert graphs.sizes == [4, 2, 1]


def test_an_answer_outlives_the_next_call(recorded):
    first = rows(2)
    answer = recorded(*first)
    recorded(*rows(2))
    torch.testing.assert_close(answer, weighted(*first))


def test_what_does_not_fit_is_named(recorded):
    recorded(*rows(2))
    with pytest.raises(ValueError, match=r"\(3,\) torch.float32, called with \(4,\)"):
        recorded(torch.randn(2, 4), torch.randn(2, 5))
    with pytest.raises(ValueError, match="float64"):
        recorded(*(x.double() for x in rows(2)))
    with pytest.raises(ValueError, match=r"not \[0\]"):
        recorded(*rows(0))
    with pytest.raises(ValueError, match=r"not \[2, 3\]"):
        recorded(rows(2)[0], rows(3)[1])
    with pytest.raises(ValueError, match="1 or more"):
        Recorded(weighted, "cpu", (0, 2))


def test_threads_do_not_mix_their_rows(recorded):
    wrong = []

    def call() -> None:
        for count in (1, 2, 3) * 30:
            arguments = rows(count)
            if not torch.allclose(recorded(*arguments), weighted(*arguments)):
                wrong.append(count)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch, caplog, graphs):
    calls = []

    def compiler(function: Function, **_: object) -> Function:
        def broken(*arguments: Tensor) -> Tensor:
            calls.append(len(arguments[0]))
            raise RuntimeError("Cannot find a working triton installation\nand more")

        return broken

    monkeypatch.setattr(torch, "compile", compiler)
    recorded = Recorded(weighted, "cpu", (1, 2), recorder=graphs)
    with caplog.at_level(logging.WARNING):
        for count in (2, 1):
            arguments = rows(count)
            torch.testing.assert_close(recorded(*arguments), weighted(*arguments))
    assert calls == [2], "the compiler is asked once"
    assert "working triton" in caplog.text
    assert "and more" not in caplog.text


def test_a_function_that_knows_how_is_asked_to_compile_itself(graphs):
    class Knows:
        def __call__(self, x: Tensor) -> Tensor:
            return x

        def compiled(self) -> Function:
            return lambda x: x + 1

    recorded = Recorded(Knows(), "cpu", (1,), recorder=graphs)
    assert recorded(torch.zeros(1)) == 1


def test_a_cpu_calls_the_function_itself():
    direct = fixed_batches(weighted, "cpu")
    assert isinstance(direct, Direct)
    arguments = rows(BATCHES[-1] + 3)
    direct.warm(*arguments)
    torch.testing.assert_close(direct(*arguments), weighted(*arguments))


@pytest.fixture
def tiny() -> DittoNetworks:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny())


def portrait(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(batch, 21, 3, generator=generator) - 0.5
    volume = torch.randn(batch, 4, 2, 16, 16, generator=generator)
    return volume, points, points + 0.05


def test_painting_is_warp_and_decoder(tiny):
    arguments = portrait(3)
    expected = tiny.decoder(tiny.warp(*arguments))
    paint = painter(tiny)
    assert rendering_dtype("cpu") == torch.float32
    torch.testing.assert_close(paint(*arguments), expected, atol=1e-5, rtol=0)
    recorded = Recorded(paint, "cpu", (2, 4), compile=False, recorder=FakeGraphs())
    torch.testing.assert_close(recorded(*arguments), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_painting_in_fewer_bits_keeps_the_places_precise(tiny, dtype):
    arguments = portrait(1)
    expected = tiny.decoder(tiny.warp(*arguments))
    picture = painter(tiny, dtype)(*arguments)
    assert picture.dtype == dtype
    # What rounds to eight bits of picture at the end: half a step of 2^-9 or 2^-12 is not all of it
    assert (picture.float() - expected).abs().max() < 0.03


def test_a_window_is_the_sampler_s(tiny):
    sampler = DdimSampler(steps=3)
    noise = [sampler.noise(265, seed=seed) for seed in (1, 2)]
    x = torch.stack([n.start() for n in noise])
    steps = torch.stack([n.fixed for n in noise])
    start, cond = torch.randn(2, 265), torch.randn(2, 80, 1103)
    heard = tiny.lmdm.encode(cond)
    expected = sampler.sample(lambda x, t: tiny.lmdm.denoise(x, start, heard, t), x, steps)
    think = window_sampler(tiny.lmdm, sampler)
    torch.testing.assert_close(think(x, start, cond, steps), expected)
    recorded = Recorded(think, "cpu", (1, 4), compile=False, recorder=FakeGraphs())
    torch.testing.assert_close(recorded(x, start, cond, steps), expected, atol=1e-5, rtol=0)


def test_both_functions_are_one_graph_for_every_batch(tiny, monkeypatch):
    """What the compiler and the recorder need; no compiler runs here."""
    paint = painter(tiny)
    sampler = DdimSampler(steps=2)
    think = window_sampler(tiny.lmdm, sampler)
    torch._dynamo.reset()
    with torch.inference_mode():
        traced = torch.compile(paint, fullgraph=True, backend="eager")
        for batch in (4, 2):
            arguments = portrait(batch)
            torch.testing.assert_close(traced(*arguments), paint(*arguments))
        compile = torch.compile
        monkeypatch.setattr(torch, "compile", lambda f, **o: compile(f, **o, backend="eager"))
        traced = think.compiled()
        for batch in (4, 2):
            window = (
                torch.randn(batch, 80, 265),
                torch.randn(batch, 265),
                torch.randn(batch, 80, 1103),
                torch.randn(batch, 1, 80, 265),
            )
            torch.testing.assert_close(traced(*window), think(*window))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graphs_give_the_plain_answers():
    networks = DittoNetworks.build(DittoSizes.tiny(), "cuda")
    paint = painter(networks, torch.float32)
    recorded = fixed_batches(paint, "cuda", (1, 4), compile=False)
    for count in (1, 3, 4, 6):
        arguments = [x.cuda() for x in portrait(count)]
        with torch.inference_mode():
            expected = paint(*arguments)
        torch.testing.assert_close(recorded(*arguments), expected, atol=1e-3, rtol=0)
