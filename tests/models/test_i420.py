import numpy as np
import pytest

from models.i420 import i420_to_rgb, rgb_to_i420


def blocks(seed: int) -> np.ndarray:
    """A picture of flat 2 x 2 blocks in random colours."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (12, 20, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)


def test_flat_blocks_survive_the_round_trip() -> None:
    rgb = blocks(1)
    back = i420_to_rgb(rgb_to_i420(rgb))
    assert np.abs(back.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize(
    ("colour", "yuv"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        # ITU-R BT.601 75 % bars are defined by these full-colour corners.
        ((255, 0, 0), (81, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((0, 0, 255), (41, 240, 110)),
    ],
)
def test_known_colours(colour: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    picture = np.full((4, 6, 3), colour, np.uint8)
    flat = rgb_to_i420(picture).ravel()
    assert (flat[0], flat[24], flat[30]) == yuv


def test_planes_lie_in_the_order_of_i420() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = (0, 0, 255)
    i420 = rgb_to_i420(picture)
    assert i420.shape == (6, 4)
    u, v = i420.ravel()[16:20], i420.ravel()[20:24]
    assert u.tolist() == [240, 128, 128, 128]
    assert v.tolist() == [110, 128, 128, 128]


def test_chroma_is_the_mean_of_its_four_pixels() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = (0, 0, 255)
    assert rgb_to_i420(picture).ravel()[4] == round(128 + (240 - 128) / 4)


def test_odd_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="even sides"):
        rgb_to_i420(np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="not an I420 picture"):
        i420_to_rgb(np.zeros((5, 4), np.uint8))
