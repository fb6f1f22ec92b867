"""Seeded weights and inputs: what a network of true shape is fed where no trained file is at hand.

The parity fixtures hold what the released networks' reference implementation answers when its
weights and inputs come from these rules. Every array is drawn from its own generator, which is
seeded with the checksum of a text that names it, so that no order of drawing matters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

Shape = Sequence[int]
SALT = 1
"""The salt that the committed fixtures were made with."""


def generator(seed_text: str) -> np.random.Generator:
    """The generator that belongs to a text."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(seed_text.encode())))


def normal(seed_text: str, shape: Shape) -> np.ndarray:
    """Standard normal float32 values in C order."""
    return generator(seed_text).standard_normal(math.prod(shape), dtype=np.float32).reshape(shape)


def uniform(seed_text: str, shape: Shape) -> np.ndarray:
    """Uniform float32 values of [0, 1) in C order."""
    return generator(seed_text).random(math.prod(shape), dtype=np.float32).reshape(shape)


def pipeline_normal(name: str, shape: Shape, salt: int = SALT) -> np.ndarray:
    """Standard normal input of a fixture of the pipeline's arithmetic."""
    return normal(f"pipe:{salt}:{name}", shape)


def pipeline_uniform(name: str, shape: Shape, salt: int = SALT) -> np.ndarray:
    """Uniform input of a fixture of the pipeline's arithmetic."""
    return uniform(f"pipe:{salt}:{name}", shape)


def audio(samples: int, salt: int = SALT) -> np.ndarray:
    """Two slow tones, float32: the sound of the audio window fixture."""
    i = np.arange(samples, dtype=np.float64)
    tone = 0.5 * np.sin(2 * np.pi * i / 977 + salt) + 0.3 * np.sin(i / 5000)
    return tone.astype(np.float32)


def network_input(network: str, name: str, salt: int = SALT) -> np.ndarray:
    """One input of a network, float32, batch of one. Pictures and features are drawn coarse and
    enlarged, so that neighbouring values are alike as in life."""
    seed_text = f"input:{salt}:{network}:{name}"
    match name:
        case "image":
            return _enlarge(uniform(seed_text, (1, 3, 32, 32)), 1, 1, 8, 8)
        case "feature_3d":
            return _enlarge(normal(seed_text, (1, 32, 8, 16, 16)), 1, 1, 2, 4, 4)
        case "feature":
            return _enlarge(normal(seed_text, (1, 256, 32, 32)), 1, 1, 2, 2)
        case "kp_source":
            return np.float32(1.6) * uniform(seed_text, (1, 21, 3)) - np.float32(0.8)
        case "kp_driving":
            shift = np.float32(0.1) * normal(seed_text, (1, 21, 3))
            return network_input(network, "kp_source", salt) + shift
        case "x":
            return normal(seed_text, (1, 80, 265))
        case "cond_frame":
            return np.float32(0.5) * normal(seed_text, (1, 265))
        case "cond":
            return np.float32(0.5) * normal(seed_text, (1, 80, 1103))
    raise KeyError(f"no rule for an input named {name!r}")


def _enlarge(values: np.ndarray, *factors: int) -> np.ndarray:
    return np.kron(values, np.ones(factors, dtype=values.dtype))


def fill(
    spec: Mapping[str, torch.Tensor] | Mapping[str, Shape], salt: int = SALT
) -> dict[str, torch.Tensor]:
    """Values for the entries of a network, float32.

    Args:
        spec: a ``state_dict``, or the shape of every entry by its key. Tensors of integers and
            the rotary tables are constants: they are handed back as they are (from shapes alone
            they cannot be, and are left out).
        salt: another salt, other weights.
    """
    filled = {}
    for key, entry in spec.items():
        tensor = entry if isinstance(entry, torch.Tensor) else None
        shape = tuple(tensor.shape if tensor is not None else entry)  # type: ignore[arg-type]
        if is_constant(key) or (tensor is not None and not tensor.is_floating_point()):
            if tensor is not None:
                filled[key] = tensor.clone()
            continue
        filled[key] = torch.from_numpy(entry_value(key, shape, salt))
    return filled


def is_constant(key: str) -> bool:
    """Whether the rule leaves this entry alone."""
    return key.endswith(("rotary.freqs", "num_batches_tracked"))


def entry_value(key: str, shape: tuple[int, ...], salt: int = SALT) -> np.ndarray:
    """The value of one entry that is not a constant, float32. Scales keep the signal's size about
    the same from layer to layer."""
    z = normal(f"{salt}:{key}", shape)
    parent, _, name = key.rpartition(".")
    fan_in = math.prod(shape[1:])
    if name == "running_mean":
        return z * np.float32(0.1)
    if name == "running_var":
        return np.float32(1) + np.float32(0.1) * np.clip(z, np.float32(-3), np.float32(3))
    if key.endswith(("grn.gamma", "grn.beta")):
        return z * np.float32(0.3)
    if name in ("null_cond_embed", "null_cond_hidden"):
        return z
    if name in ("weight_u", "weight_v"):
        return z * np.float32(1 / math.sqrt(shape[0]))
    if name == "weight_orig":
        # The outer product of the stored singular vectors brings their singular value close to 1.
        u = entry_value(f"{parent}.weight_u", (shape[0],), salt)
        v = entry_value(f"{parent}.weight_v", (fan_in,), salt)
        return z * np.float32(1.4 / math.sqrt(fan_in)) + np.outer(u, v).reshape(shape)
    if len(shape) >= 2:
        if key.startswith("conv_img."):
            gain = 0.4  # the last sigmoid stays clear of its ends
        elif key.startswith("final_layer."):
            gain = 0.2
        else:
            gain = 1.4 if len(shape) >= 4 else 1.0
        return z * np.float32(gain / math.sqrt(fan_in))
    if name == "weight":
        return np.float32(1) + np.float32(0.1) * z
    return z * np.float32(0.1)
