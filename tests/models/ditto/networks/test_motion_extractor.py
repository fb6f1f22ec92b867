import pytest
import torch

from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.networks.motion_extractor import MotionExtractor, ResponseNorm
from tests.fakes.parity_networks import Reference


def test_numbers_of_the_reference(tmp_path):
    reference = Reference.of("motion")
    network = MotionExtractor()
    reference.load_into(network, tmp_path)
    with reference.watch(network) as stages:
        motion = network(*reference.inputs())
    assert motion._fields == ("pitch", "yaw", "roll", "t", "exp", "scale", "kp")
    reference.check(motion._asdict(), stages)


@pytest.mark.parity
def test_double_precision(tmp_path):
    reference = Reference.of("motion")
    network = MotionExtractor().double()
    reference.load_into(network, tmp_path)
    reference.check_double(network(*reference.inputs(torch.float64))._asdict())


def test_response_norm_is_per_picture():
    norm = ResponseNorm(2)
    torch.nn.init.ones_(norm.gamma)
    # Energies of one pixel are 3 and 1, their mean 2: shares of 1.5 and 0.5, plus x itself.
    x = torch.tensor([3.0, 1.0]).view(1, 1, 1, 2)
    expected = torch.tensor([3 * 1.5 + 3, 1 * 0.5 + 1]).view(1, 1, 1, 2)
    other = torch.tensor([2.0, 8.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(norm(torch.cat([x, other]))[:1], expected, atol=1e-5, rtol=0)


def test_a_batch_is_its_members():
    torch.manual_seed(0)
    network = DittoNetworks.build(DittoSizes.tiny()).motion
    images = torch.rand(3, 3, 64, 64)
    together = network(images)
    assert [tuple(head.shape) for head in together] == [
        (3, 66), (3, 66), (3, 66), (3, 3), (3, 63), (3, 1), (3, 63),
    ]  # fmt: skip
    for i, image in enumerate(images):
        for alone, head in zip(network(image[None]), together, strict=True):
            torch.testing.assert_close(alone[0], head[i], atol=1e-5, rtol=0)
