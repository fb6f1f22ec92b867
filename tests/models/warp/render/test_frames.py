"""The kernels' frames against those of the renderer they replaced, which computed in torch.

``torch_frames.npz`` holds a prepared identity (the sample portrait anna, 120 x 160), motions of
speech, blinks and turns, and the frames that the torch renderer of commit e2088f9 made of the same
person. What a portrait is prepared into may change; how it is rendered is held here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.warp.pose import WarpPose
from models.warp.render import render
from tests.models.warp.render.stored_identity import restore


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "torch_frames.npz") as file:
        return dict(file)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = ((a.astype(float) - b) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_frames_are_those_of_the_torch_renderer(stored) -> None:
    person = restore({k.removeprefix("identity."): v for k, v in stored.items()})
    frames = render([WarpPose(person, motion) for motion in stored["motions"]])
    height, width = person.canvas.height, person.canvas.width
    for frame, expected in zip(frames, stored["frames"], strict=True):
        for plane in (
            slice(height),
            slice(height, height * 5 // 4),
            slice(height * 5 // 4, None),
        ):
            assert psnr(frame[plane], expected[plane]) > 50
    # The frames differ from each other by far more than that.
    still, *moved = stored["frames"]
    assert max(psnr(still, other) for other in moved) < 45
    assert frames[0].shape == (height * 3 // 2, width)
