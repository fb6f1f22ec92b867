import torch

from models.ditto.networks.stitch import StitchNetwork
from tests.fakes.parity_networks import Reference


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("stitch")
    network = StitchNetwork()
    reference.load_into(network, tmp_path)
    with reference.watch(network) as stages:
        points = network(*reference.inputs())
    reference.check({"out": points}, stages)


def test_double_precision(tmp_path):
    reference = Reference.of("stitch")
    network = StitchNetwork().double()
    reference.load_into(network, tmp_path)
    reference.check_double({"out": network(*reference.inputs(torch.float64))})


def test_the_common_offset_leaves_depth_alone():
    network = StitchNetwork(widths=())
    network.requires_grad_(False)
    last = network.mlp[-1]
    last.weight.zero_()
    last.bias.zero_()
    last.bias[63:] = torch.tensor([0.25, -0.5])
    driving = torch.rand(2, 21, 3)
    moved = network(torch.rand(2, 21, 3), driving) - driving
    expected = torch.tensor([0.25, -0.5, 0.0]).expand(2, 21, 3)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
