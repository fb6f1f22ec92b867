"""One analyser and one portrait for all face tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.face import Face, FaceAnalyzer, default_analyzer, load_photo
from portraits import MARK

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return default_analyzer()


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """Mark, uint8 RGB (1280, 1280, 3), read-only."""
    rgb = load_photo(MARK.path)
    rgb.flags.writeable = False
    return rgb


@pytest.fixture(scope="session")
def face(photo, analyzer) -> Face:
    (only,) = analyzer.analyze(photo)
    only.landmarks.flags.writeable = False
    return only


@pytest.fixture(scope="session")
def evalkit() -> Path:
    kit = ROOT.parent / "shared" / "evalkit" / "dev"
    if not kit.is_dir():
        pytest.skip("the evaluation kit is not beside the checkout")
    return kit
