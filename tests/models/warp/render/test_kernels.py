"""Each kernel against a line of numpy or OpenCV."""

from __future__ import annotations

from ctypes import byref

import cv2
import numpy as np
import pytest

from models.warp.grid import CoarseGrid
from models.warp.render import native

WIDTH, HEIGHT = 96, 64
GRID = CoarseGrid(left=8, top=4, columns=18, rows=13, cell=4)
NODES = int(np.prod(GRID.shape))


@pytest.fixture(scope="module")
def kernels():
    return native.library()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Noise without detail, about -1 to 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), sigma)
    return floats(noise / np.abs(noise).max())


def at_pixels(nodes: np.ndarray, grid: CoarseGrid = GRID) -> np.ndarray:
    """Node values at the pixels inside the grid's margin, by OpenCV."""
    rows, columns = np.mgrid[0 : grid.height, 0 : grid.width]
    x, y = (floats((v + 0.5) / grid.cell - 0.5 + grid.margin) for v in (columns, rows))
    return cv2.remap(floats(nodes), x, y, cv2.INTER_LINEAR)


def person(rng: np.random.Generator, shift: float = 2.0) -> np.ndarray:
    """x, y, opacity and light of the nodes: about 2 pixels of motion, a soft silhouette."""
    x, y = GRID.nodes()[..., 0], GRID.nodes()[..., 1]
    across = np.hypot((x - 45) / 26, (y - 30) / 22)
    return floats(
        np.stack(
            [
                x + shift * smooth(rng, GRID.shape, 3),
                y + shift * smooth(rng, GRID.shape, 3),
                np.clip(4 - 4 * across, 0, 1),
                1 + 0.3 * smooth(rng, GRID.shape, 3),
            ]
        )
    )


def area(plane: np.ndarray, scale: int = 1) -> np.ndarray:
    """The part of a plane of the canvas that the grid covers."""
    left, top = GRID.left // scale, GRID.top // scale
    return plane[top : top + GRID.height // scale, left : left + GRID.width // scale]


def chroma(frame: np.ndarray) -> np.ndarray:
    """U and V of a frame: (2, height / 2, width / 2)."""
    return frame[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)


def test_displace_is_a_matrix_product(kernels, rng) -> None:
    fields, weights = floats(rng.standard_normal((33, 3001))), floats(rng.standard_normal((4, 33)))
    weights[:, ::3] = 0
    hold, out = floats(rng.random((2, 3001))), np.empty((4, 3001), np.float32)
    address = [array.ctypes.data for array in (fields, weights, hold, out)]
    kernels.displace(address[0], 33, 3001, address[1], 4, address[2], address[3])
    assert np.allclose(out, weights @ fields * np.tile(hold, (2, 1)), atol=1e-4)
    kernels.displace(address[0], 33, 3001, address[1], 4, None, address[3])
    assert np.allclose(out, weights @ fields, atol=1e-4)


def test_invert_finds_where_each_node_came_from(kernels, rng) -> None:
    rows, columns = 40, 60
    moves = 3 * np.stack([smooth(rng, (rows, columns), 8) for _ in range(2)])
    source = np.empty_like(moves)
    kernels.invert(moves.ctypes.data, rows, columns, 8, 1.0, source.ctypes.data)
    moved = [
        cv2.remap(m, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for m in moves
    ]
    nodes = np.mgrid[0:rows, 0:columns][::-1]
    assert np.abs(source + moved - nodes).max() < 0.02
    assert np.abs(moves).max() == pytest.approx(3)


def test_small_steps_invert_what_stretches_threefold(kernels) -> None:
    rows, columns = 4, 80
    x = np.arange(columns, dtype=float)
    line = 12 * np.tanh((x - 40) / 8)  # slope up to 1.5
    moves = floats(np.stack([np.tile(line, (rows, 1)), np.zeros((rows, columns))]))
    source = np.empty_like(moves)
    kernels.invert(moves.ctypes.data, rows, columns, 30, 0.5, source.ctypes.data)
    assert np.abs(source[0, 1] + np.interp(source[0, 1], x, line) - x)[15:65].max() < 0.05


def test_refine_keeps_a_linear_map(kernels) -> None:
    coarse = CoarseGrid(GRID.left, GRID.top, 9, 7, 8)
    source = floats(np.mgrid[0 : coarse.shape[0], 0 : coarse.shape[1]][::-1]) + 0.25
    out = np.empty((2, *GRID.shape), np.float32)
    grids = [byref(native.GridStruct.of(grid)) for grid in (coarse, GRID)]
    kernels.refine(grids[0], source.ctypes.data, grids[1], out.ctypes.data)
    nodes = np.mgrid[0 : GRID.shape[0], 0 : GRID.shape[1]][::-1]
    assert np.allclose(out, nodes + 0.5, atol=1e-4)


def test_person_nodes_lay_the_jaw_over_the_neck(kernels, rng) -> None:
    box = CoarseGrid(GRID.left + 8, GRID.top + 8, 14, 11, 4)
    nodes = floats(np.mgrid[0 : GRID.shape[0], 0 : GRID.shape[1]][::-1])
    still = nodes + 0.7
    inner = floats(np.mgrid[0 : box.shape[0], 0 : box.shape[1]][::-1])
    moved = inner - 1.0
    opacity = 0.5 + 0.5 * smooth(rng, GRID.shape, 3)
    jaw = floats(rng.random((*box.shape, 3)))
    out = np.empty((4, *GRID.shape), np.float32)
    kernels.person_nodes(
        byref(native.GridStruct.of(GRID)),
        still.ctypes.data,
        byref(native.GridStruct.of(box)),
        moved.ctypes.data,
        opacity.ctypes.data,
        jaw.ctypes.data,
        0.4,
        0.5,
        out.ctypes.data,
    )

    def sampled(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return cv2.remap(
            floats(values), *floats(at), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    row, column = 6, 7  # of the box, further inside than its rim
    r, c = row + 2, column + 2
    on_jaw, contact, fold = (float(sampled(jaw[..., k], moved)[row, column]) for k in range(3))
    neck = still[:, r, c]
    face = moved[:, row, column] + (2, 2)
    first = np.array([GRID.left, GRID.top]) - 4 + 1.5
    assert np.allclose(out[:2, r, c], first + 4 * (neck + on_jaw * (face - neck)), atol=1e-3)
    there = [float(sampled(opacity, p.reshape(2, 1, 1))[0, 0]) for p in (neck, face)]
    opaque = there[0] + on_jaw * (there[1] - there[0])
    assert out[2, r, c] == pytest.approx(opaque, abs=1e-4)
    shade = (1 - on_jaw) * contact * 0.4 + fold * 0.5
    assert out[3, r, c] == pytest.approx(1 - shade * opaque, abs=1e-4)
    # Outside the box and on its border nothing but head and neck moves, in full light.
    assert np.allclose(out[:2, 0, 0], first + 4 * still[:, 0, 0], atol=1e-3)
    assert np.allclose(out[:2, 2, 2], first + 4 * still[:, 2, 2], atol=1e-3)
    assert out[3, 0, 0] == 1.0


@pytest.mark.parametrize("texels", [2, 3])
def test_warp_luma_is_a_remap_over_the_background(kernels, rng, texels) -> None:
    texture = rng.integers(0, 256, (texels * HEIGHT, texels * WIDTH), np.uint8)
    base = rng.integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    frame, nodes = base.copy(), person(rng)
    kernels.warp_luma(
        byref(native.GridStruct.of(GRID)),
        nodes.ctypes.data,
        byref(native.TextureStruct.of(texture)),
        texels,
        byref(native.FrameStruct.of(frame)),
    )
    x, y, opacity, _ = (at_pixels(values) for values in nodes)
    over = cv2.remap(texture.astype(np.float32), texels * x, texels * y, cv2.INTER_LINEAR)
    expected = area(base) + opacity * (over - area(base))
    assert np.abs(area(frame) - expected).max() < 2.5
    assert np.abs(area(frame) - expected).mean() < 0.4
    area(frame)[:] = area(base)
    assert np.array_equal(frame, base)  # nothing beside the grid, no chroma


def test_warp_chroma_keeps_u_and_v_apart(kernels, rng) -> None:
    texture = rng.integers(0, 256, (HEIGHT // 2, WIDTH // 2, 2), np.uint8)
    base = rng.integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    frame, nodes = base.copy(), person(rng)
    kernels.warp_chroma(
        byref(native.GridStruct.of(GRID)),
        nodes.ctypes.data,
        byref(native.TextureStruct.of(texture, 2)),
        byref(native.FrameStruct.of(frame)),
    )
    x, y, opacity, _ = (
        at_pixels(v).reshape(GRID.height // 2, 2, GRID.width // 2, 2).mean((1, 3)) for v in nodes
    )
    for channel in range(2):
        plane = texture[..., channel].astype(np.float32)
        over = cv2.remap(plane, x / 2 - 0.25, y / 2 - 0.25, cv2.INTER_LINEAR)
        under = area(chroma(base)[channel], 2)
        expected = under + opacity * (over - under)
        assert np.abs(area(chroma(frame)[channel], 2) - expected).mean() < 0.5
    assert np.array_equal(frame[:HEIGHT], base[:HEIGHT])


def test_shade_multiplies_the_light_above_black(kernels, rng) -> None:
    base = rng.integers(16, 236, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    frame, nodes = base.copy(), person(rng)
    nodes[3, :, :6] = 1.0
    kernels.shade(
        byref(native.GridStruct.of(GRID)), nodes.ctypes.data, 3, byref(native.FrameStruct.of(frame))
    )
    expected = np.clip(16 + (area(base) - 16.0) * at_pixels(nodes[3]), 0, 255)
    lit = slice(3 * GRID.cell, None)
    assert np.abs(area(frame) - expected)[lit].max() <= 1
    assert np.array_equal(area(frame)[: 3 * GRID.cell], area(base)[: 3 * GRID.cell])


def test_positions_far_outside_sample_the_edge(kernels, rng) -> None:
    """No motion makes a kernel read outside its arrays."""
    texture = np.full((2 * HEIGHT, 2 * WIDTH), 77, np.uint8)
    frame, nodes = np.zeros((HEIGHT * 3 // 2, WIDTH), np.uint8), person(rng)
    nodes[0], nodes[1], nodes[2] = 1e30, np.nan, 1.0
    kernels.warp_luma(
        byref(native.GridStruct.of(GRID)),
        nodes.ctypes.data,
        byref(native.TextureStruct.of(texture)),
        2,
        byref(native.FrameStruct.of(frame)),
    )
    assert (area(frame) == 77).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 8), np.uint8)[:, ::2],
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 4), np.uint8),
    ],
)
def test_arrays_of_another_kind_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="shape"):
        native.TextureStruct.of(wrong)
