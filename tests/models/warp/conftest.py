"""One prepared sample portrait for the renderer's tests."""

from __future__ import annotations

from collections.abc import Callable
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
from models.warp.identity import WarpIdentity, build_identity
from models.warp.motion import INDEX, WarpPose, rest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return default_analyzer()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    return load_photo(ROOT / "assets" / "portrait.jpg")


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
    """A pose of the sample portrait at rest but for the channels named."""

    def make(who: WarpIdentity = identity, **channels: float) -> WarpPose:
        motion = rest()
        for name, value in channels.items():
            motion[INDEX[name]] = value
        return WarpPose(who, motion)

    return make
