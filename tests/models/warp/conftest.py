"""One prepared portrait for the renderer's tests: a painted face, even and without a smile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.engine import Canvas
from models.face import (
    FaceAnalyzer,
    FramedPortrait,
    default_analyzer,
    frame_portrait,
    load_photo,
)
from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.anatomy import FaceFrame, face_frame
from models.warp.build.identity import build_identity
from models.warp.build.mouth.lips import find_lip_lines
from models.warp.identity import WarpIdentity
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.pose import WarpPose
from models.warp.render import render

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return default_analyzer()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    return load_photo(ROOT / "tests" / "fixtures" / "portraits" / "painted.jpg")


@pytest.fixture(scope="session")
def framing(portrait, analyzer) -> Callable[[int, int], FramedPortrait]:
    face = analyzer.analyze(portrait)[0]
    return lambda width, height: frame_portrait(portrait, face, Canvas(width, height))


@pytest.fixture(scope="session")
def framed(framing) -> FramedPortrait:
    return framing(640, 480)


@pytest.fixture(scope="session")
def mesh(analyzer) -> Callable[[np.ndarray], np.ndarray]:
    """Face mesh of an RGB picture."""
    return lambda picture: analyzer.analyze(picture)[0].landmarks


@pytest.fixture(scope="session")
def identity(framed) -> WarpIdentity:
    return build_identity(framed)


@pytest.fixture(scope="session")
def pose(identity) -> Callable[..., WarpPose]:
    """A pose of the portrait at rest but for the channels named."""

    def make(who: WarpIdentity = identity, **channels: float) -> WarpPose:
        motion = rest()
        for name, value in channels.items():
            motion[INDEX[name]] = value
        return WarpPose(who, motion)

    return make


YELLOW = np.array([226.0, 212.0, 160.0])
"""Colour of the teeth painted: none the engine would draw."""


@dataclass(frozen=True)
class Smile:
    """The portrait with parted lips and a row of yellow teeth, as a framed photo."""

    rgb: np.ndarray
    landmarks: np.ndarray
    matte: np.ndarray
    scale: float
    frame: FaceFrame
    teeth: np.ndarray
    """bool (height, width): where they are painted."""

    def luma(self, scale: int) -> np.ndarray:
        return rgb_to_yuv(self.rgb)[:, :, 0].repeat(scale, 0).repeat(scale, 1)


@pytest.fixture(scope="session")
def smiling(framed, identity, pose, mesh) -> Smile:
    (picture,) = render([pose(aperture=0.18, jaw=0.4, width=0.3)])
    rgb = i420_to_rgb(picture)
    landmarks = mesh(rgb)
    frame = face_frame(landmarks)
    lips = find_lip_lines(landmarks, frame, rgb_to_yuv(rgb))
    assert lips.gap > 0.1
    columns, rows = np.meshgrid(np.arange(rgb.shape[1]), np.arange(rgb.shape[0]))
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    x, y = at[..., 0], at[..., 1]
    teeth = (
        (y > lips.upper_at(x) + 0.012)
        & (y < lips.upper_at(x) + 0.09)
        & (y < lips.lower_at(x) - 0.01)
    )
    teeth &= np.abs(x) < 0.26
    stripes = 0.92 + 0.08 * np.cos(2 * np.pi * x / 0.1)
    rgb[teeth] = (YELLOW * stripes[..., None])[teeth].astype(np.uint8)
    return Smile(rgb, landmarks, framed.matte, 1.0, frame, teeth)
