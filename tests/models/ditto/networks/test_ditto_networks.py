import pytest
import torch

from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes


@pytest.fixture
def tiny() -> DittoNetworks:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny())


def picture(networks: DittoNetworks, batch: int = 2) -> torch.Tensor:
    """From a portrait to a rendered face."""
    generator = torch.Generator().manual_seed(1)
    side = networks.sizes.image
    image = torch.rand(batch, 3, side, side, generator=generator)
    source = networks.motion(image).kp.unflatten(1, (21, 3)) * 0.1
    driving = source + 0.05 * torch.randn(batch, 21, 3, generator=generator)
    volume = networks.appearance(image)
    return networks.decoder(networks.warp(volume, source, networks.stitch(source, driving)))


def test_the_render_is_twice_the_image(tiny):
    side = tiny.sizes.picture
    assert side == 128
    assert picture(tiny).shape == (2, 3, side, side)
    assert DittoSizes.official().picture == 512


def test_fresh_networks_paint_within_range_and_differ_by_seed(tiny):
    first = picture(tiny)
    assert first.isfinite().all()
    assert first.std() > 0.01
    torch.manual_seed(2)
    second = picture(DittoNetworks.build(DittoSizes.tiny()))
    assert (first - second).abs().max() > 0.01


def test_channels_last_changes_nothing(tiny):
    before = picture(tiny)
    tiny.channels_last()
    assert tiny.decoder.fc.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(picture(tiny), before, atol=1e-5, rtol=0)


def test_bfloat16_is_the_same_picture_coarser(tiny):
    precise = picture(tiny)
    tiny.decoder.fold_spectral_norm()
    # As the engine does: the portrait's and the stitching networks stay float32.
    tiny.warp.bfloat16()
    tiny.decoder.bfloat16()
    tiny.appearance.register_forward_hook(lambda _, __, volume: volume.bfloat16())
    coarse = picture(tiny)
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - precise).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("name", ["appearance", "motion", "warp", "decoder", "stitch", "lmdm"])
def test_one_graph_without_breaks(tiny, name):
    """What CUDA graphs need: no step of Python depends on the numbers."""
    points = torch.rand(1, 21, 3)
    image = torch.rand(1, 3, 64, 64)
    window = (torch.rand(1, 80, 265), torch.rand(1, 265), torch.rand(1, 80, 1103))
    arguments = {
        "appearance": (image,),
        "motion": (image,),
        "warp": (torch.rand(1, 4, 2, 16, 16), points, points + 0.1),
        "decoder": (torch.rand(1, 16, 16, 16),),
        "stitch": (points, points + 0.1),
        "lmdm": (*window, torch.tensor([499])),
    }[name]
    network = dict(tiny)[name]
    expected = network(*arguments)
    torch._dynamo.reset()
    found = torch.compile(network, fullgraph=True, backend="eager")(*arguments)
    torch.testing.assert_close(found, expected)
