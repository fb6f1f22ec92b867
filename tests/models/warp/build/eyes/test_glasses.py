from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from models.face import FramedPortrait
from models.i420 import i420_to_rgb, rgb_to_yuv
from models.warp.build.anatomy import face_frame
from models.warp.build.eyes.glasses import find_frames
from models.warp.build.identity import build_identity
from models.warp.render import render


@pytest.fixture(scope="module")
def wearer(framed) -> tuple[FramedPortrait, np.ndarray]:
    """The sample portrait with glasses drawn on, and where they are."""
    points = framed.landmarks[:, :2]
    eyes = [points[[33, 133]].mean(0), points[[362, 263]].mean(0)]
    unit = float(np.hypot(*(eyes[1] - eyes[0])))
    drawn = np.zeros(framed.rgb.shape[:2], np.uint8)
    for x, y in eyes:
        low = (round(x - 0.43 * unit), round(y - 0.24 * unit))
        high = (round(x + 0.43 * unit), round(y + 0.30 * unit))
        cv2.rectangle(drawn, low, high, 1, 3)
    middle = (eyes[0] + eyes[1]) / 2
    left, right = ((round(middle[0] + side * 0.1 * unit), round(middle[1])) for side in (-1, 1))
    cv2.line(drawn, left, right, 1, 3)
    rgb = np.where(drawn[..., None] > 0, np.uint8(25), framed.rgb)
    return replace(framed, rgb=rgb), drawn > 0


def test_frames_are_found_and_bare_faces_have_none(framed, wearer) -> None:
    with_glasses, drawn = wearer
    frame = face_frame(framed.landmarks)
    found = find_frames(rgb_to_yuv(with_glasses.rgb), framed.landmarks, frame)
    assert found is not None
    assert (found[drawn] > 0.9).mean() > 0.98
    assert (found > 0.5).sum() < 4 * drawn.sum()
    assert find_frames(rgb_to_yuv(framed.rgb), framed.landmarks, frame) is None


def test_frames_stay_while_the_eyes_behind_them_shut(wearer, pose) -> None:
    with_glasses, drawn = wearer
    identity = build_identity(with_glasses)
    still, shut = (
        i420_to_rgb(picture).astype(int)
        for picture in render([pose(identity, blink_left=b, blink_right=b) for b in (0.0, 1.0)])
    )
    changed = np.abs(still - shut).max(-1)
    assert changed[drawn].max() <= 4
    for iris in (468, 473):
        x, y = with_glasses.landmarks[iris, :2].round().astype(int)
        assert changed[y - 2 : y + 3, x - 2 : x + 3].mean() > 30
