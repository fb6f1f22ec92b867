import pytest
import torch

from models.ditto.networks.appearance import AppearanceExtractor
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from tests.fakes.parity_networks import Reference


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("appearance")
    network = AppearanceExtractor()
    reference.load_into(network, tmp_path)
    with reference.watch(network) as stages:
        volume = network(*reference.inputs())
    assert volume.shape == (1, 32, 16, 64, 64)
    reference.check({"pred": volume}, stages)


@pytest.mark.parity
def test_double_precision(tmp_path):
    reference = Reference.of("appearance")
    network = AppearanceExtractor().double()
    reference.load_into(network, tmp_path)
    reference.check_double({"pred": network(*reference.inputs(torch.float64))})


def test_a_batch_is_its_members():
    torch.manual_seed(0)
    network = DittoNetworks.build(DittoSizes.tiny()).appearance
    images = torch.rand(3, 3, 64, 64)
    together = network(images)
    assert together.shape == (3, 4, 2, 16, 16)
    for image, volume in zip(images, together, strict=True):
        torch.testing.assert_close(network(image[None])[0], volume, atol=1e-5, rtol=0)
