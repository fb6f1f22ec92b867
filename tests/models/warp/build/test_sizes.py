"""An avatar can be prepared at every size of canvas that can be asked for."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import Canvas
from models.face import frame_portrait
from models.i420 import i420_to_rgb
from models.warp.build.identity import build_identity
from models.warp.render import render

SMALL = [(64, 64), (66, 64), (96, 72), (72, 96), (130, 98), (160, 120), (322, 242), (448, 448)]
"""Widths and heights, odd multiples of two among them."""
FOUR_TO_THREE = [(320, 240), (640, 480), (960, 720), (1280, 960)]
OTHER_RATIOS = [
    (480, 640),
    (720, 960),
    (960, 1280),
    (720, 720),
    (1280, 1280),
    (854, 480),
    (1280, 720),
    (64, 640),
]


@pytest.mark.parametrize("size", [*SMALL, *FOUR_TO_THREE, *OTHER_RATIOS])
def test_a_portrait_is_prepared_and_talks_at_every_size(size, portrait, analyzer, pose) -> None:
    small = np.ascontiguousarray(portrait[::3, ::3])
    (face,) = analyzer.analyze(small)
    identity = build_identity(frame_portrait(small, face, Canvas(*size)))
    assert identity.canvas == Canvas(*size)
    shut, wide = render([pose(identity), pose(identity, aperture=0.3, jaw=0.5)])
    assert shut.shape == wide.shape == Canvas(*size).i420_shape
    changed = np.abs(i420_to_rgb(shut).astype(int) - i420_to_rgb(wide)).max(2) > 20
    rows, columns = np.nonzero(changed)
    # The mouth moves, and it lies in the middle of the lower half or so.
    assert rows.size
    assert abs(np.median(columns) / size[0] - 0.5) < 0.15
    assert 0.4 < np.median(rows) / size[1] < 0.9
