"""A folder of Ditto's files with networks that are tiny: loaded the way the released ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from models.ditto.files import SPEECH_ENCODER, write_sizes
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from tests.fakes.parity_networks import write_file


def tiny_networks(seed: int = 0) -> DittoNetworks:
    """Tiny networks of random weights whose faces change plainly when the key points move."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = DittoNetworks.build(DittoSizes.tiny())
    # Fresh weights paint an even grey: what is painted has to depend on the key points.
    for name, weight in networks.decoder.named_parameters():
        if "conv_img" in name or "up_" in name:
            weight.data *= 3
    return networks


def write_tiny_files(folder: Path) -> Path:
    """Every file the engine wants, in the layouts of the release; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = tiny_networks()
    for name, network in networks:
        write_file(name, network.state_dict(), folder)
    write_sizes(networks.sizes, folder)
    onnx.save(tiny_encoder(), folder / SPEECH_ENCODER)
    return folder


def tiny_encoder() -> onnx.ModelProto:
    """A graph with the speech network's interface, (n, 6480) to (n, 20, 1024): one convolution of
    25 ms every 20 ms."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.5, (1024, 1, 400)).astype(np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["speech", "axis"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["heard"], strides=[320]),
        helper.make_node("Transpose", ["heard"], ["features"], perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("speech", TensorProto.FLOAT, ["n", 6480])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 20, 1024])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
