"""Faces pasted back against the reference's numbers; batches on the device against one by one."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.ditto.render.paste_back import Paster, Placement, composite, soft_mask, warped
from models.i420 import rgb_to_i420

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "paste_back.npz")
TO_PICTURE = WANT["M_c2o"]


def fixture_picture() -> np.ndarray:
    y, x, c = np.mgrid[:200, :160, :3]
    return ((3 * x + 2 * y + 50 * c + 11) % 256).astype(np.uint8)


def fixture_face(phase: float = 1.0) -> np.ndarray:
    y, x, c = np.mgrid[:512, :512, :3].astype(np.float64)
    return (127.5 + 127.5 * np.sin(x / 40 + c) * np.cos(y / 30 + phase)).astype(np.float32)


def as_rendered(face: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(face.transpose(2, 0, 1) / np.float32(255))[None]


def support() -> np.ndarray:
    """Where the mask reaches, a pixel around it included."""
    mask = warped(soft_mask(), TO_PICTURE, 160, 200)
    return cv2.dilate((mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def test_the_mask_is_the_reference_one():
    mask = soft_mask()
    for got, key in ((mask[256], "row256"), (mask.diagonal(), "diag"), (mask[::7, ::7], "sub7")):
        np.testing.assert_allclose(got, WANT[f"mask_{key}"], rtol=0, atol=1e-6)
    got = warped(mask, TO_PICTURE, 160, 200)[::4, ::4]
    np.testing.assert_allclose(got, WANT["mask_warped_sub4"], rtol=0, atol=1e-6)


def test_the_composite_is_the_reference_one():
    got = composite(fixture_face(), fixture_picture(), TO_PICTURE)
    off = np.abs(got.astype(int) - WANT["result"])
    assert off.max() <= 2
    assert off.mean() < 0.1
    np.testing.assert_array_equal(got[~support()], fixture_picture()[~support()])


def test_on_the_device_it_is_the_reference_one_too():
    placement = Placement.of(fixture_picture(), TO_PICTURE)
    got = Paster().paste(as_rendered(fixture_face()), [placement])[0].numpy()
    want = rgb_to_i420(WANT["result"])
    off = np.abs(got.astype(int) - want)
    assert off.max() <= 2
    assert off.mean() < 0.1
    outside = ~support()
    np.testing.assert_array_equal(got[:200][outside], want[:200][outside])
    quarter = outside.reshape(100, 2, 80, 2).all((1, 3))
    still = rgb_to_i420(fixture_picture())
    for plane in (0, 1):
        ours, theirs = (i[200:].reshape(2, 100, 80)[plane] for i in (got, still))
        np.testing.assert_array_equal(ours[quarter], theirs[quarter])


def moved(angle: float, zoom: float, x: float, y: float) -> np.ndarray:
    """A face turned and scaled about its middle, which comes to lie at (x, y)."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    matrix[:2, 2] = np.array([x, y]) - matrix[:2, :2] @ [255.5, 255.5]
    return matrix


PLACES = [
    (0.3, 0.2, 80, 90),
    (-1.2, 0.12, 40, 60),
    (0.0, 0.3, 150, 190),  # over the edge
    (3.0, 0.05, 5, 5),
    (0.1, 0.6, 80, 100),  # larger than the picture
]


def test_a_batch_of_persons_is_each_of_them_alone_and_the_array_version():
    rng = np.random.default_rng(0)
    pictures = [
        cv2.GaussianBlur(rng.integers(0, 256, (200, 160, 3), np.uint8), (0, 0), 3) for _ in PLACES
    ]
    matrices = [moved(*place) for place in PLACES]
    faces = [fixture_face(phase) for phase in range(len(PLACES))]
    placements = [Placement.of(p, m) for p, m in zip(pictures, matrices, strict=True)]
    paster = Paster()
    rendered = torch.cat([as_rendered(face) for face in faces])
    together = paster.paste(rendered, placements)
    assert together.shape == (len(PLACES), 300, 160)
    for i, placement in enumerate(placements):
        alone = paster.paste(rendered[i : i + 1], [placement])[0]
        assert torch.equal(together[i], alone)
        want = rgb_to_i420(composite(faces[i], pictures[i], matrices[i]))
        off = np.abs(alone.numpy().astype(int) - want)
        assert off.max() <= 2
        assert off.mean() < 0.1


def test_a_placement_is_not_written_to():
    placement = Placement.of(fixture_picture(), TO_PICTURE)
    before = placement.still.clone()
    first = Paster().paste(as_rendered(fixture_face()), [placement])
    assert torch.equal(placement.still, before)
    assert not torch.equal(first[0], before)
    again = Paster().paste(as_rendered(fixture_face()), [placement])
    assert torch.equal(first, again)


def test_a_renderer_in_bfloat16_costs_levels_not_places():
    placement = Placement.of(fixture_picture(), TO_PICTURE)
    face = as_rendered(fixture_face())
    full = Paster().paste(face, [placement]).int()
    half = Paster().paste(face.bfloat16(), [placement]).int()
    assert (full - half).abs().max() <= 3


def test_what_cannot_be_pasted_is_refused():
    with pytest.raises(ValueError, match="outside its picture"):
        Placement.of(fixture_picture(), moved(0, 0.1, 500, 500))
    with pytest.raises(ValueError, match="even sides"):
        Placement.of(fixture_picture()[:199], TO_PICTURE)
    one = Placement.of(fixture_picture(), TO_PICTURE)
    other = Placement.of(fixture_picture()[:198], TO_PICTURE)
    faces = torch.zeros(2, 3, 512, 512)
    with pytest.raises(ValueError, match="pictures of one size"):
        Paster().paste(faces, [one, other])
    with pytest.raises(ValueError, match="2 faces need as many placements"):
        Paster().paste(faces, [one])
