"""A photo's motion made of seeded numbers, as the parity fixtures of the pipeline have it."""

from __future__ import annotations

import numpy as np
import torch

from models.ditto.networks.motion_extractor import Motion
from tests.fakes.parity_rules import pipeline_normal


def seeded_motion(prefix: str) -> Motion:
    """What a motion extractor might have seen, one photo, float32; ``prefix`` names the photo."""

    def drawn(name: str, width: int, gain: float) -> torch.Tensor:
        return torch.from_numpy(np.float32(gain) * pipeline_normal(f"{prefix}.{name}", (1, width)))

    return Motion(
        pitch=drawn("pitch", 66, 2),
        yaw=drawn("yaw", 66, 2),
        roll=drawn("roll", 66, 2),
        t=drawn("t", 3, 0.1),
        exp=drawn("exp", 63, 0.05),
        scale=1 + drawn("scale", 1, 0.2),
        kp=drawn("kp", 63, 0.3),
    )
