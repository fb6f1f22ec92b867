"""The sampler against the reference's numbers, and many sessions against one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ditto.networks.diffusion import DdimSampler, alphas_cumprod, ddim_steps
from tests.fakes.parity_rules import pipeline_normal

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
RESULTS = np.load(FIXTURES / "diffusion.npz")
STEPS = json.loads((FIXTURES / "diffusion.json").read_text())["steps"]
STRIDE = 7
"""The fixture holds every seventh value of a result."""


def tensor(name: str, shape: tuple[int, ...], gain: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.float32(gain) * pipeline_normal(name, shape))


def fake_denoiser(cond_frame: torch.Tensor, cond: torch.Tensor):
    """Stands for the network: depends on everything, guided by 2."""

    def one_pass(x, time, keep):
        speech = cond.mean(-1, keepdim=True)
        inside = 0.5 * x + keep * 0.1 * speech + 0.05 * cond_frame[:, None]
        return torch.tanh(inside + 0.0003 * time[:, None, None])

    def denoise(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        without = one_pass(x, time, 0.0)
        return without + 2 * (one_pass(x, time, 1.0) - without)

    return denoise


def fixture_noise(count: int) -> torch.Tensor:
    drawn = [tensor(f"sampler.K{count}.noise{i}", (1, 80, 265)) for i in range(count - 1)]
    return torch.stack(drawn, 1)


def test_the_schedule_is_the_reference_one():
    np.testing.assert_array_equal(alphas_cumprod(), RESULTS["alphas_cumprod"])


@pytest.mark.parametrize("count", [5, 10])
def test_the_steps_are_the_reference_ones(count):
    ours, theirs = ddim_steps(count), STEPS[str(count)]
    assert [(s.t, s.t_next) for s in ours] == [(s["t"], s["t_next"]) for s in theirs]
    for i, (step, want) in enumerate(zip(ours[:-1], theirs[:-1], strict=True)):
        assert step.sigma == pytest.approx(want["sigma"], abs=1e-6)
        assert step.sqrt_alpha_next == pytest.approx(want["sqrt_alpha_bar_next"], abs=1e-6)
        assert step.noise_scale == pytest.approx(want["c_exact_float64"], abs=1e-6)
        if want["c"] is not None:
            assert step.noise_scale == pytest.approx(want["c"], abs=5e-4 if i == 0 else 1e-6)


@pytest.mark.parametrize("count", [5, 10])
def test_the_sampler_gives_the_reference_motion(count):
    denoise = fake_denoiser(
        tensor("sampler.cond_frame", (1, 265), 0.5), tensor("sampler.cond", (1, 80, 1103))
    )
    x = tensor(f"sampler.K{count}.x_init", (1, 80, 265))
    result = DdimSampler(count).sample(denoise, x, fixture_noise(count))
    got = result.numpy().ravel()[::STRIDE]
    np.testing.assert_allclose(got, RESULTS[f"K{count}.result"], rtol=0, atol=1e-4)


def test_sessions_in_a_batch_do_not_see_each_other():
    sampler = DdimSampler(5)
    cond_frames, conds = torch.randn(3, 265), torch.randn(3, 80, 1103)
    sessions = [sampler.noise(265, seed) for seed in range(3)]
    starts = torch.stack([s.start() for s in sessions])
    fixed = torch.stack([s.fixed for s in sessions])
    together = sampler.sample(fake_denoiser(cond_frames, conds), starts, fixed)
    for i in range(3):
        one = slice(i, i + 1)
        alone = sampler.sample(fake_denoiser(cond_frames[one], conds[one]), starts[one], fixed[one])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_session_repeats_with_its_seed_and_starts_each_window_anew():
    one, same, other = (DdimSampler(5).noise(265, seed) for seed in (1, 1, 2))
    assert torch.equal(one.fixed, same.fixed)
    assert not torch.equal(one.fixed, other.fixed)
    first = one.start()
    assert torch.equal(first, same.start())
    assert not torch.equal(first, one.start())


def test_noise_of_another_step_count_is_refused():
    with pytest.raises(ValueError, match="does not serve 1 windows of 10 steps"):
        DdimSampler(10).sample(lambda x, t: x, torch.zeros(1, 80, 265), torch.zeros(1, 4, 80, 265))


@pytest.mark.parametrize("count", [0, 1001])
def test_a_senseless_step_count_is_refused(count):
    with pytest.raises(ValueError, match="1 to 1000 steps"):
        ddim_steps(count)


@pytest.mark.parametrize("count", [1, 2, 3, 50, 1000])
def test_no_step_count_yields_a_nan(count):
    for step in ddim_steps(count):
        assert np.isfinite([step.noise_scale, step.sigma, step.noise_from_start]).all()
        assert step.noise_scale >= 0
