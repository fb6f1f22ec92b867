import os
import pickle
import zlib

import pytest
import torch

from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.weights.reader import FETCH, FILES, WeightsError, load_weights
from tests.fakes.parity_networks import Reference, write_file
from tests.fakes.parity_rules import fill


@pytest.fixture
def tiny() -> DittoNetworks:
    torch.manual_seed(0)
    return DittoNetworks.build(DittoSizes.tiny())


@pytest.fixture
def folder(tmp_path, tiny):
    """A folder of files in the released layouts, for tiny networks."""
    for name, network in tiny:
        write_file(name, fill(network.state_dict()), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_every_key_of_the_released_files_has_its_place(name):
    state = dict(DittoNetworks.build(device="meta"))[name].state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == Reference.of(name).shapes()


def test_the_rotary_table_of_a_fresh_denoiser_is_the_released_one():
    reference = Reference.of("lmdm")
    checksums = {key: checksum for key, _, checksum in reference.about["entries"]}
    freqs = DittoNetworks.build().lmdm.rotary.freqs
    assert zlib.crc32(freqs.numpy().tobytes()) == checksums["rotary.freqs"]


def test_a_folder_of_files_makes_the_networks(folder, tiny):
    loaded = DittoNetworks.load(folder, sizes=DittoSizes.tiny())
    for _, network in tiny:
        network.load_state_dict(fill(network.state_dict()))
    image = torch.rand(1, 3, 64, 64)
    volume = loaded.appearance(image)
    torch.testing.assert_close(volume, tiny.appearance(image), atol=0, rtol=0)
    points = torch.rand(1, 21, 3)
    moved = loaded.stitch(points, points + 0.1)
    torch.testing.assert_close(moved, tiny.stitch(points, points + 0.1), atol=0, rtol=0)
    picture = loaded.decoder(loaded.warp(volume, points, moved))
    expected = tiny.decoder(tiny.warp(volume, points, moved))
    assert picture.shape == (1, 3, 128, 128)
    torch.testing.assert_close(picture, expected, atol=1e-5, rtol=0)
    assert not [key for key in loaded.decoder.state_dict() if key.endswith("weight_orig")]
    assert not any(p.requires_grad for _, network in loaded for p in network.parameters())
    assert not any(module.training for _, network in loaded for module in network.modules())


def refused(name, network, folder) -> str:
    """The message, which must name the file and the command that fetches it."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, name, folder)
    message = str(caught.value)
    assert str(folder / FILES[name].name) in message
    assert FETCH in message
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), "a refused file must leave the network alone"
    return message


def test_a_missing_file(tiny, tmp_path):
    assert "is missing" in refused("warp", tiny.warp, tmp_path)


def test_a_file_cut_short(tiny, folder):
    path = folder / "warp_network.pth"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "cannot be read" in refused("warp", tiny.warp, folder)


def test_a_web_page_instead_of_a_file(tiny, folder):
    (folder / "decoder.pth").write_text("<!doctype html><title>Not found</title>")
    refused("decoder", tiny.decoder, folder)


class Command:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_in_it_runs_nothing(tiny, tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "decoder.pth"
    if zipped:
        torch.save({"fc.weight": Command()}, path)
    else:
        path.write_bytes(pickle.dumps({"fc.weight": Command()}, protocol=2))
    assert "more than tensors" in refused("decoder", tiny.decoder, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_wrong_entries_are_all_named(tiny, tmp_path):
    state = fill(tiny.decoder.state_dict())
    del state["G_middle_0.conv_0.weight_u"]
    state["fc.weight"] = state["fc.weight"][:-1]
    state["fc.bias"][0] = torch.nan
    state["discriminator.weight"] = torch.zeros(3)
    write_file("decoder", state, tmp_path)
    message = refused("decoder", tiny.decoder, tmp_path)
    assert "G_middle_0.conv_0.weight_u is missing" in message
    assert "discriminator.weight is unexpected" in message
    assert "fc.weight is (15, 16, 3, 3) instead of (16, 16, 3, 3)" in message
    assert "fc.bias holds values that are not finite" in message


def test_many_wrong_entries_are_counted(tiny, tmp_path):
    write_file("warp", fill(tiny.appearance.state_dict()), tmp_path)
    message = refused("warp", tiny.warp, tmp_path)
    assert "is missing" in message
    assert " more" in message


def test_an_entry_of_another_kind(tiny, tmp_path):
    state = fill(tiny.stitch.state_dict())
    state["mlp.0.bias"] = state["mlp.0.bias"].to(torch.int64)
    write_file("stitch", state, tmp_path)
    assert "mlp.0.bias is torch.int64" in refused("stitch", tiny.stitch, tmp_path)


def test_a_wrapped_file_without_its_entry(tiny, tmp_path):
    torch.save(fill(tiny.lmdm.state_dict()), tmp_path / "lmdm_v0.4_hubert.pth")
    assert "no entry 'model_state_dict'" in refused("lmdm", tiny.lmdm, tmp_path)


def test_keys_that_become_the_same(tiny, tmp_path):
    state = fill(tiny.stitch.state_dict())
    both = state | {f"module.{key}": value for key, value in state.items()}
    torch.save({"retarget_shoulder": both}, tmp_path / "stitch_network.pth")
    assert "two of its entries" in refused("stitch", tiny.stitch, tmp_path)


def test_something_else_among_the_tensors(tiny, tmp_path):
    state = fill(tiny.appearance.state_dict())
    torch.save({**state, "epoch": 3}, tmp_path / "appearance_extractor.pth")
    assert "'epoch' is no tensor" in refused("appearance", tiny.appearance, tmp_path)


def test_half_precision_files_fill_float32_networks(tiny, tmp_path):
    state = {key: value.half() for key, value in fill(tiny.stitch.state_dict()).items()}
    write_file("stitch", state, tmp_path)
    load_weights(tiny.stitch, "stitch", tmp_path)
    assert tiny.stitch.mlp[0].weight.dtype == torch.float32
    assert torch.equal(tiny.stitch.mlp[0].weight, state["mlp.0.weight"].float())
