from __future__ import annotations

import numpy as np
import pytest

from models.face.blazeface import FaceDetector, _tiles, anchors


def test_anchors_are_the_networks_896():
    centres = anchors()
    assert centres.shape == (896, 2)
    assert np.allclose(centres[0], centres[1])
    assert np.allclose(centres[2] - centres[0], (1 / 16, 0))
    assert np.allclose(centres[512], (1 / 16, 1 / 16))
    assert np.allclose(centres[-1], (15 / 16, 15 / 16))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (300, 3000), (3840, 2160), (256, 256)])
def test_tiles_cover_every_pixel(width, height):
    seen = np.zeros((height, width), bool)
    for left, top, side in list(_tiles(width, height))[2:] or [(0, 0, max(width, height))]:
        seen[max(top, 0) : top + side, max(left, 0) : left + side] = True
    assert seen.all()


def answer(boxes: list[tuple[float, float, float, float, float]]):
    """A network that sees these faces: centre x, y, size in the 128-pixel square, logit, anchor."""

    def network(pixels: np.ndarray) -> dict[str, np.ndarray]:
        raw, scores = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -99, np.float32)
        if not network.calls:
            for x, y, size, logit, anchor in boxes:
                centre = anchors()[int(anchor)] * 128
                raw[0, int(anchor), :4] = (x - centre[0], y - centre[1], size, size)
                scores[0, int(anchor)] = logit
        network.calls += 1
        return {"regressors": raw, "classificators": scores}

    network.calls = 0
    return network


def test_overlapping_boxes_are_blended_by_score_and_far_ones_kept():
    network = answer([(40, 40, 30, 2.0, 100), (42, 40, 30, 2.0, 101), (100, 100, 20, 1.0, 700)])
    found = FaceDetector(network)(np.zeros((128, 128, 3), np.uint8))
    assert [round(d.score, 2) for d in found] == [0.88, 0.73]
    assert found[0].box == pytest.approx((26, 25, 56, 55), abs=1e-3)
    assert found[1].box == pytest.approx((90, 90, 110, 110), abs=1e-3)


def test_extreme_logits_do_not_overflow():
    network = answer([(64, 64, 40, 1e6, 300)])
    (found,) = FaceDetector(network)(np.zeros((256, 256, 3), np.uint8))
    assert found.score == pytest.approx(1.0)
