"""What a picture loses when warp and decoder compute in 16 bits, as tensor cores do: every layer's
answer is rounded, its sums are float32. Seeded weights of true shape; trained ones may differ."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models.ditto.networks.decoder import Decoder, Spade, SpadeBlock
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.networks.warp import WarpNetwork
from tests.fakes.parity_networks import Reference


def rounding(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose weights and every layer's answer are rounded to ``dtype``."""
    network = copy.deepcopy(network)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype).float()

    def rounded(_: nn.Module, __: object, answer: Tensor) -> Tensor:
        return answer.to(dtype).float()

    for module in network.modules():
        if isinstance(module, Spade | SpadeBlock) or not list(module.children()):
            module.register_forward_hook(rounded)
    return network


def psnr(picture: Tensor, exact: Tensor) -> float:
    """Of pictures from 0 to 1, in decibels."""
    return float(-10 * torch.log10((picture.double() - exact.double()).square().mean()))


@torch.inference_mode()
def losses(
    warp: WarpNetwork, decoder: Decoder, inputs: list[Tensor], dtype: torch.dtype
) -> dict[str, float]:
    """PSNR with warp, decoder or both in ``dtype``."""
    feature = warp(*inputs)
    exact = decoder(feature)
    volume, *points = inputs
    coarse = rounding(warp, dtype)(volume.to(dtype).float(), *points)
    painted = rounding(decoder, dtype)
    return {
        "warp": psnr(decoder(coarse), exact),
        "decoder": psnr(painted(feature), exact),
        "both": psnr(painted(coarse), exact),
    }


@pytest.mark.parity
def test_sixteen_bits_of_the_true_shape(tmp_path):
    """65 dB in float16, which is why it is the default; 47 in bfloat16."""
    warp, decoder = WarpNetwork(), Decoder()
    Reference.of("warp").load_into(warp, tmp_path)
    Reference.of("decoder").load_into(decoder, tmp_path)
    decoder.fold_spectral_norm()
    decoder.fuse()
    inputs = Reference.of("warp").inputs()
    half = losses(warp, decoder, inputs, torch.float16)
    brain = losses(warp, decoder, inputs, torch.bfloat16)
    print(half, brain)
    assert half["both"] >= 60
    assert brain["both"] >= 45
    assert min(half["warp"], half["decoder"]) >= half["both"]


def test_sixteen_bits_of_tiny_networks():
    torch.manual_seed(0)
    networks = DittoNetworks.build(DittoSizes.tiny())
    networks.decoder.fold_spectral_norm()
    points = torch.rand(1, 21, 3) - 0.5
    inputs = [torch.randn(1, 4, 2, 16, 16), points, points + 0.05]
    half = losses(networks.warp, networks.decoder, inputs, torch.float16)
    brain = losses(networks.warp, networks.decoder, inputs, torch.bfloat16)
    assert half["both"] >= 60
    assert brain["both"] >= 45
    assert half["both"] > brain["both"] + 10


def test_sixteen_bits_on_the_device_lose_no_more_than_rounding_says():
    """The real dtype against the imitation above."""
    torch.manual_seed(0)
    networks = DittoNetworks.build(DittoSizes.tiny())
    networks.decoder.fold_spectral_norm()
    feature = torch.randn(1, 16, 16, 16)
    with torch.inference_mode():
        exact = networks.decoder(feature)
        imitated = psnr(rounding(networks.decoder, torch.bfloat16)(feature), exact)
        real = psnr(networks.decoder.bfloat16()(feature.bfloat16()), exact)
    assert real > imitated - 6
