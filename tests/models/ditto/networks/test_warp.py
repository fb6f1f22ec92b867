import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.networks.warp import WarpNetwork, heat_maps, sample
from tests.fakes.parity_networks import Reference


def run(network: WarpNetwork, inputs: list[Tensor]) -> dict[str, Tensor]:
    """The network's output and what dense motion told it."""
    told = []
    hook = network.dense_motion_network.register_forward_hook(lambda _, __, out: told.append(out))
    out = network(*inputs)
    hook.remove()
    deformation, occlusion, mask = told[0]
    return {"out": out, "deformation": deformation, "occlusion_map": occlusion, "mask": mask}


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("warp")
    network = WarpNetwork()
    reference.load_into(network, tmp_path)
    with reference.watch(network) as stages:
        outputs = run(network, reference.inputs())
    reference.check(outputs, stages)


class SliceBySlice(nn.Module):
    """A 3-D convolution, one slice of depth at a time: in double precision it would take 25 GB."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        kernel, _, half = self.conv.kernel_size[0], *self.conv.padding[1:]
        padded = F.pad(x, (0, 0, 0, 0, half, half))
        slices = [
            F.conv3d(
                padded[:, :, z : z + kernel],
                self.conv.weight,
                self.conv.bias,
                padding=(0, half, half),
            )
            for z in range(x.shape[2])
        ]
        return torch.cat(slices, dim=2)


@pytest.mark.parity
def test_double_precision(tmp_path):
    reference = Reference.of("warp")
    network = WarpNetwork().double()
    reference.load_into(network, tmp_path)
    motion = network.dense_motion_network
    motion.mask = SliceBySlice(motion.mask)
    reference.check_double(run(network, reference.inputs(torch.float64)))


@pytest.fixture
def tiny() -> WarpNetwork:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny()).warp


def tiny_inputs(batch: int) -> list[Tensor]:
    points = torch.rand(batch, 21, 3) * 1.6 - 0.8
    return [torch.randn(batch, 4, 2, 16, 16), points, points + 0.1 * torch.randn(batch, 21, 3)]


def test_a_batch_is_its_members(tiny):
    inputs = tiny_inputs(3)
    together = tiny(*inputs)
    assert together.shape == (3, 16, 16, 16)
    for i in range(3):
        alone = tiny(*(x[i : i + 1] for x in inputs))
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_coordinates_stay_float32_in_lower_precision(tiny):
    inputs = tiny_inputs(1)
    precise = run(tiny, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = run(tiny, inputs)
    assert rough["deformation"].dtype == torch.float32
    # A grid in bfloat16 would be off by up to 2 ** -9 in each coordinate.
    steps = rough["deformation"] - precise["deformation"]
    assert steps.abs().max() < 2e-4


def test_no_shift_means_the_volume_resampled_in_place(tiny):
    volume, points, _ = tiny_inputs(1)
    told = run(tiny, [volume, points, points])
    axes = [torch.linspace(-1, 1, n) for n in (2, 16, 16)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y, z], dim=-1)
    torch.testing.assert_close(told["deformation"][0], grid, atol=1e-6, rtol=0)


def test_heat_maps_are_gaussians_around_the_points():
    points = torch.tensor([[[0.3, -0.2, 0.1], [0.0, 0.9, -0.4]]])
    axes = [torch.linspace(-1, 1, n) for n in (4, 6, 8)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y, z], dim=-1)
    distance = (grid - points[:, :, None, None, None]).square().sum(dim=-1)
    expected = torch.exp(-0.5 * distance / 0.01)
    torch.testing.assert_close(heat_maps(points, axes), expected, atol=1e-6, rtol=0)


def test_sampling_reads_x_along_the_width_and_zero_outside():
    volume = torch.arange(24.0).view(1, 1, 2, 3, 4)
    # Corners are not aligned: the middle of the first cell of 4 is at -0.75.
    places = torch.tensor([[-0.75, 0.0, -0.5], [0.75, 0.0, 0.5], [-0.75, 0.0, 3.0]])
    read = sample(volume, places.view(1, 1, 1, 3, 3))
    torch.testing.assert_close(read.flatten(), torch.tensor([4.0, 19.0, 0.0]))
