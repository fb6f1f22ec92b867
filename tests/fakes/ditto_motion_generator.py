"""A motion generator without networks: its motion can be told from the speech."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.ditto.engine import loudness_encoder
from models.ditto.identity import DittoIdentity
from models.ditto.motion.actor import DittoActor
from models.ditto.motion.key_points import LIPS, POINTS, Source
from models.ditto.motion.motion_generator import MotionGenerator
from models.ditto.motion.motion_windows import EXPRESSION, YAW, Condition, emotion, motion_row
from models.ditto.networks.diffusion import DdimSampler
from models.ditto.render.paste_back import Placement
from models.engine import Canvas
from tests.fakes.ditto_motion import seeded_motion

LIP = EXPRESSION.start + 3 * LIPS[0] + 1
"""The channel of motion that opens the mouth."""


class FakeEncoder:
    """The encoder: hears how loud it is. Counts its calls, and fails when it is told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failure: Exception | None = None

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.batches.append(len(windows))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return loudness_encoder(windows)


class FakeDiffusion:
    """The diffusion model: lips open by how loud each frame is; the head turns ever further, by
    ``turn`` logits a window, for it goes on from where it started."""

    def __init__(self, turn: float = 0.0) -> None:
        self.batches: list[int] = []
        self.turn = turn

    def __call__(
        self, x: torch.Tensor, start: torch.Tensor, condition: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        self.batches.append(len(x))
        motion = start[:, None].repeat(1, 80, 1)
        motion[:, :, LIP] += condition[:, :, 0]
        motion[:, :, YAW.start + 40] += self.turn * torch.arange(80) / 80
        return motion


def fake_generator(encoder: Any = None, diffusion: Any = None, **options: Any) -> MotionGenerator:
    """A motion generator on the CPU, with two steps of noise."""
    return MotionGenerator(
        encoder or FakeEncoder(), diffusion or FakeDiffusion(), DdimSampler(2), **options
    )


SMALL = Canvas(64, 64)


def fake_identity(canvas: Canvas = SMALL, seed: int = 0) -> DittoIdentity:
    """A person of seeded numbers whose face fills the middle of a grey picture."""
    motion = seeded_motion("src")
    source = Source.of(motion)
    to_picture = np.array([[0.08, 0, 10], [0, 0.08, 10], [0, 0, 1]], np.float32)
    picture = np.full((canvas.height, canvas.width, 3), 90 + seed, np.uint8)
    return DittoIdentity(
        canvas=canvas,
        volume=torch.full((1, 1, 2, 2), float(seed)),
        points=source.points[0],
        placement=Placement.of(picture, to_picture),
        source=source,
        reference=motion_row(motion)[0],
        condition=Condition(emotion(4)[None], torch.zeros(1, 2), torch.zeros(1, 6), motion.kp[0]),
    )


def points(poses: Any) -> np.ndarray:
    """Key points of poses: (n, 21, 3)."""
    assert all(pose.points.shape == (POINTS, 3) for pose in poses)
    return np.stack([pose.points.numpy() for pose in poses])


def opening(actor: DittoActor, poses: Any) -> np.ndarray:
    """How far the mouth opens, (n,): the lip that ``FakeDiffusion`` moves, in the photo's pose.
    Only for actors of liveliness 0."""
    rest = actor.identity.source.points[0].numpy()
    return points(poses)[:, LIPS[0], 1] - rest[LIPS[0], 1]
