import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.ditto.networks.decoder import Decoder, EnlargedConv2d, SpectralConv2d
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from tests.fakes.parity_networks import Reference


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("decoder")
    network = Decoder()
    reference.load_into(network, tmp_path)
    network.fold_spectral_norm()
    with reference.watch(network) as stages:
        picture = network(*reference.inputs())
    assert picture.shape == (1, 3, 512, 512)
    reference.check({"output": picture}, stages)


@pytest.mark.parity
def test_numbers_of_the_reference_when_fused(tmp_path):
    reference = Reference.of("decoder")
    network = Decoder()
    reference.load_into(network, tmp_path)
    network.fold_spectral_norm()
    network.fuse()
    error = reference.error("output", network(*reference.inputs()))
    assert error <= reference.about["outputs"]["output"]["limit"]


@pytest.mark.parity
def test_double_precision(tmp_path):
    reference = Reference.of("decoder")
    network = Decoder().double()
    reference.load_into(network, tmp_path)
    network.fold_spectral_norm()
    reference.check_double({"output": network(*reference.inputs(torch.float64))})


@pytest.fixture
def tiny() -> Decoder:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny()).decoder


def test_a_batch_is_its_members(tiny):
    features = torch.randn(3, 16, 16, 16)
    together = tiny(features)
    assert together.shape == (3, 3, 128, 128)
    for feature, picture in zip(features, together, strict=True):
        torch.testing.assert_close(tiny(feature[None])[0], picture, atol=1e-5, rtol=0)


def test_folding_and_fusing_change_nothing_and_may_be_repeated(tiny):
    feature = torch.randn(1, 16, 16, 16)
    plain = tiny(feature)
    for step in (tiny.fold_spectral_norm, tiny.fuse, tiny.fold_spectral_norm, tiny.fuse):
        step()
        torch.testing.assert_close(tiny(feature), plain, atol=1e-6, rtol=0)
    keys = tiny.state_dict().keys()
    assert not [key for key in keys if key.endswith(("_orig", "_u", "_v", "gamma.weight"))]


def test_the_spectral_norm_is_the_stored_vectors_and_not_the_true_one():
    conv = SpectralConv2d(2, 3, kernel_size=1, bias=False).requires_grad_(False)
    conv.weight_orig.copy_(torch.arange(6.0).view(3, 2, 1, 1))
    conv.weight_u.copy_(torch.tensor([1.0, 0.0, 2.0]))
    conv.weight_v.copy_(torch.tensor([0.5, 1.0]))
    # [1 0 2] · [[0 1] [2 3] [4 5]] = [8 11]; times [0.5 1] = 15
    expected = torch.arange(6.0).view(3, 2, 1, 1) / 15
    torch.testing.assert_close(conv.normalised(), expected)
    conv.fold()
    assert conv.weight is not None
    torch.testing.assert_close(conv.weight.data, expected)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_an_enlarged_convolution_is_the_convolution_of_the_enlarged(times):
    torch.manual_seed(0)
    conv = EnlargedConv2d(3, 5, times).double().requires_grad_(False)
    small = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    large = F.interpolate(small, scale_factor=times, mode="nearest")
    expected = F.conv2d(large, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(small), expected, atol=1e-14, rtol=0)
    conv.fuse()
    conv.fuse()
    torch.testing.assert_close(conv(small), expected, atol=1e-14, rtol=0)


def test_enlarged_convolutions_cost_less_than_half():
    """Counted at the size of the last block."""
    conv = EnlargedConv2d(256, 128, 4).requires_grad_(False).to("meta")
    with FlopCounterMode(display=False) as counter:
        conv(torch.empty(1, 256, 64, 64, device="meta"))
    plain = 2 * 9 * 256 * 128 * 256**2
    assert counter.get_total_flops() < plain / 2.1
