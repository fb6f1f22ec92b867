"""Key points of many persons to pictures, in one batch."""

import numpy as np
import pytest
import torch

from models.ditto.motion.actor import DittoPose
from models.ditto.render.renderer import Renderer
from models.engine import Canvas
from models.i420 import i420_to_rgb
from tests.fakes.ditto_motion_generator import SMALL, fake_identity


class Paint:
    """A face of one colour: red by whose it is, green by its first key point."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, volume, source, driving):
        self.batches.append(len(volume))
        assert volume.shape[1:] == (1, 1, 2, 2)
        assert source.shape == driving.shape == (len(volume), 21, 3)
        red, green = volume[:, 0, 0, 0, 0] / 10, driving[:, 0, 0]
        blue = (source[:, 0, 0] == source[0, 0, 0]).float()
        return torch.stack([red, green, blue], 1)[:, :, None, None].expand(-1, -1, 512, 512)


def pose(who: int = 0, green: float = 0.5, canvas: Canvas = SMALL) -> DittoPose:
    points = torch.zeros(21, 3)
    points[0, 0] = green
    return DittoPose(fake_identity(canvas, who), points)


def middle(picture: np.ndarray) -> np.ndarray:
    return i420_to_rgb(picture)[30, 30].astype(int)


def test_every_pose_gets_its_own_face_in_its_own_picture():
    poses = [pose(who, green) for who, green in ((1, 0.1), (4, 0.9), (9, 0.3))]
    pictures = Renderer(Paint()).render(poses)
    for picture, (who, green) in zip(pictures, ((1, 0.1), (4, 0.9), (9, 0.3)), strict=True):
        np.testing.assert_allclose(middle(picture)[:2], [who * 25.5, green * 255], atol=4)
        # Behind the face lies that person's photo, grey 90 + who.
        np.testing.assert_allclose(i420_to_rgb(picture)[2, 2], 90 + who, atol=1)


def test_pictures_of_several_sizes_go_through_the_networks_together():
    paint = Paint()
    canvases = [Canvas(64, 64), Canvas(96, 64), Canvas(64, 64), Canvas(96, 64), Canvas(64, 80)]
    poses = [pose(i, i / 10, canvas) for i, canvas in enumerate(canvases)]
    pictures = Renderer(paint).render(poses)
    assert paint.batches == [5]
    for i, (picture, canvas) in enumerate(zip(pictures, canvases, strict=True)):
        assert picture.shape == canvas.i420_shape
        np.testing.assert_allclose(middle(picture)[1], i * 25.5, atol=4)


@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (4, [4]), (5, [4, 1]), (11, [4, 4, 3])])
def test_more_poses_than_a_batch_are_rendered_in_parts(count, parts):
    paint = Paint()
    pictures = Renderer(paint, batch=4).render([pose(i % 9, i / 12) for i in range(count)])
    assert paint.batches == parts
    greens = [middle(picture)[1] for picture in pictures]
    np.testing.assert_allclose(greens, [i / 12 * 255 for i in range(count)], atol=4)


def test_nothing_is_rendered_of_nothing():
    paint = Paint()
    assert Renderer(paint).render([]) == []
    assert paint.batches == []


def test_a_fault_of_the_networks_is_not_swallowed():
    def broken(volume, source, driving):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Renderer(broken).render([pose()])
