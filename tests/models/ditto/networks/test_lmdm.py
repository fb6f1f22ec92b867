import pytest
import torch
from torch import Tensor

from models.ditto.networks.diffusion import alphas_cumprod
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.networks.lmdm import MotionDenoiser, Rotary
from tests.fakes.parity_networks import Reference


def run(network: MotionDenoiser, inputs: list[Tensor], step: int) -> dict[str, Tensor]:
    x, cond_frame, cond = inputs
    time = torch.tensor([step])
    conditional, unconditional = network(x, cond_frame, cond, time)
    x_start = network.denoise(x, cond_frame, network.encode(cond), time)
    outputs = {f"t{step}.x_start": x_start}
    if step == 499:
        outputs |= {"t499.cond": conditional, "t499.uncond": unconditional}
    return outputs


def pred_noise(x: Tensor, x_start: Tensor, step: int) -> Tensor:
    """The noise that belongs to a prediction of the clean motion."""
    alpha = torch.as_tensor(alphas_cumprod())[step]
    return (x * (1 / alpha).sqrt() - x_start) / (1 / alpha - 1).sqrt()


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("lmdm")
    network = MotionDenoiser()
    reference.load_into(network, tmp_path)
    inputs = reference.inputs()
    memory: list[Tensor] = []  # of the window, then of each step: the reference norms them as one
    hook = network.norm_cond.register_forward_hook(lambda _, __, tokens: memory.append(tokens))
    with reference.watch(network) as stages:
        outputs = run(network, inputs, 499)
    hook.remove()
    stages["norm_cond"] = torch.cat([memory[0][:1], memory[1]], dim=1)
    outputs |= run(network, inputs, 999) | run(network, inputs, 99)
    for step in (999, 499, 99):
        x_start = outputs[f"t{step}.x_start"]
        outputs[f"t{step}.pred_noise"] = pred_noise(inputs[0], x_start, step)
    reference.check(outputs, stages)


def test_double_precision(tmp_path):
    reference = Reference.of("lmdm")
    network = MotionDenoiser().double()
    reference.load_into(network, tmp_path)
    inputs = reference.inputs(torch.float64)
    outputs = run(network, inputs, 499) | run(network, inputs, 999) | run(network, inputs, 99)
    reference.check_double(outputs)


def test_keys_made_once_a_window_are_those_made_at_every_step():
    """Against attention over the whole memory, as the paper has it, in double precision."""
    torch.manual_seed(0)
    network = MotionDenoiser(width=32, heads=2, feedforward=32, layers=3, encoder_layers=1).double()
    network.eval().requires_grad_(False)
    x, cond_frame, cond, time = window(2)
    x, cond_frame, cond = x.double(), cond_frame.double(), cond.double()

    heard = network.encode(cond)
    t = network.time_mlp(time)
    tokens = torch.cat([heard.tokens, network.to_time_tokens(t).repeat(2, 1, 1)], dim=1)
    memory = network.norm_cond(tokens)
    placed = network.rotary(memory)
    tau = torch.nn.functional.mish(network.to_time_cond(t).repeat(2, 1) + heard.pooled)
    start = cond_frame.unsqueeze(1).expand(-1, 80, -1)
    rows = network.input_projection(torch.cat([x, start], dim=2)).repeat(2, 1, 1)
    for layer in network.seqTransDecoder.stack:
        rows = layer(rows, *layer.multihead_attn.project(placed, memory), tau)
    expected = network.final_layer(rows).chunk(2)

    found = network(x, cond_frame, heard, time)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)


@pytest.fixture
def tiny() -> MotionDenoiser:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny()).lmdm


def window(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.randn(batch, 80, 265),
        torch.randn(batch, 265),
        torch.randn(batch, 80, 1103),
        torch.randint(0, 1000, (batch,)),
    )


def test_a_batch_is_its_members(tiny):
    arguments = window(3)
    together = tiny.denoise(*arguments)
    assert together.shape == (3, 80, 265)
    for i in range(3):
        alone = tiny.denoise(*(x[i : i + 1] for x in arguments))
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_guidance_pushes_from_unheard_to_heard(tiny):
    x, cond_frame, cond, time = window(2)
    heard, unheard = tiny(x, cond_frame, cond, time)
    assert (heard - unheard).abs().max() > 0.01
    for guidance, expected in ((0.0, unheard), (1.0, heard), (2.0, 2 * heard - unheard)):
        found = tiny.denoise(x, cond_frame, cond, time, guidance=guidance)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_what_was_not_heard_does_not_depend_on_the_condition(tiny):
    x, cond_frame, cond, time = window(1)
    _, unheard = tiny(x, cond_frame, cond, time)
    _, other = tiny(x, cond_frame, torch.zeros_like(cond), time)
    torch.testing.assert_close(unheard, other, atol=0, rtol=0)


def test_the_table_follows_a_loaded_file():
    rotary = Rotary(4, positions=3)
    rotary.load_state_dict({"freqs": torch.tensor([0.5, 0.0])})
    x = torch.tensor([1.0, 0.0, 2.0, 3.0]).expand(1, 3, 4)
    angle = torch.tensor(0.5 * 2)
    expected = torch.stack([angle.cos(), angle.sin(), torch.tensor(2.0), torch.tensor(3.0)])
    torch.testing.assert_close(rotary(x)[0, 2], expected)
    torch.testing.assert_close(rotary(x)[0, 0], x[0, 0])
