from __future__ import annotations

import numpy as np

from models.i420 import i420_to_rgb, rgb_to_yuv, yuv_to_rgb
from models.warp.build.anatomy import face_frame
from models.warp.build.mouth.lips import find_lip_lines
from models.warp.build.mouth.mouth_textures import draw_mouth, mouth_colours
from models.warp.build.mouth.teeth import along_arch
from models.warp.render import render


def test_teeth_are_single_teeth(framed) -> None:
    """Along the row brightness dips between teeth, and one tooth is wider than its neighbour."""
    frame = face_frame(framed.landmarks)
    lips = find_lip_lines(framed.landmarks, frame, rgb_to_yuv(framed.rgb))
    mouth = draw_mouth(framed.rgb, framed.landmarks, frame, lips, 0.5)
    teeth = mouth.layers[0]
    middle = frame.origin - (mouth.window.left, mouth.window.top)
    row = teeth[0, int(2 * middle[1]), :]
    reach = int(2 * 0.36 * frame.unit)
    part = row[int(2 * middle[0]) - reach : int(2 * middle[0]) + reach]
    smooth = np.convolve(part, np.ones(3) / 3, mode="valid")
    dips = (smooth[1:-1] < smooth[:-2]) & (smooth[1:-1] <= smooth[2:])
    assert 4 <= dips.sum() <= 12


def test_the_inside_takes_the_light_of_the_photo(framed) -> None:
    frame = face_frame(framed.landmarks)
    day = mouth_colours(framed.rgb, framed.landmarks, frame)
    night = mouth_colours((framed.rgb * 0.4).astype(np.uint8), framed.landmarks, frame)
    assert night.teeth.sum() < 0.7 * day.teeth.sum()
    warm = framed.rgb * np.array([1.0, 0.85, 0.6])
    tinted = mouth_colours(warm.astype(np.uint8), framed.landmarks, frame).teeth
    assert tinted[2] / tinted[0] < day.teeth[2] / day.teeth[0]
    assert (day.cavity < 0.4 * day.teeth).all()


def test_the_upper_teeth_stay_with_the_skull(pose, identity) -> None:
    """Opening wider by the jaw must not move the upper teeth's edge."""
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + grid.width // 2 + int(0.06 * unit), int(grid.top + 0.52 * unit)
    edges = []
    for picture in render([pose(aperture=0.2, jaw=0.3), pose(aperture=0.32, jaw=1.0)]):
        rows = slice(y, y + int(0.11 * unit))
        column = picture[rows, x - 2 : x + 3].astype(float).mean(1)
        edges.append(int(np.diff(column).argmin()))
        assert np.diff(column).min() < -10
    assert abs(edges[0] - edges[1]) <= 1


def test_a_raised_tongue_fills_the_dark(pose, identity) -> None:
    low, high = render([pose(aperture=0.25, jaw=0.7), pose(aperture=0.25, jaw=0.7, tongue=1.0)])
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + grid.width // 2, int(grid.top + 0.52 * unit)
    area = (slice(y + int(0.07 * unit), y + int(0.12 * unit)), slice(x - 8, x + 8))
    red = [i420_to_rgb(p)[area][..., 0].mean() for p in (low, high)]
    assert red[1] > red[0] + 15


def test_colours_are_colours(framed) -> None:
    frame = face_frame(framed.landmarks)
    for colour in vars(mouth_colours(framed.rgb, framed.landmarks, frame)).values():
        assert colour.shape == (3,)
        assert (colour >= 0).all()
        assert (colour <= 255).all()
        assert np.allclose(yuv_to_rgb(rgb_to_yuv(colour[None]))[0], colour, atol=0.01)


def test_a_turned_head_shows_its_teeth_foreshortened() -> None:
    """Teeth as far left as right of the middle: the far one looks narrower than the near one."""
    x = np.linspace(-0.3, 0.3, 601)
    straight, turned = along_arch(x, 0.0), along_arch(x, np.radians(20))
    assert np.array_equal(straight, x)
    inside = np.abs(turned) < 0.3
    assert (np.diff(turned[inside]) > 0).all()
    # The nose points to the picture's right, so that side is far.
    near, far = (np.interp((a, b), turned, x) for a, b in ((-0.2, 0.0), (0.0, 0.2)))
    assert np.ptp(far) < 0.8 * np.ptp(near)


def test_dim_mouths_get_dim_teeth(framed, pose, mesh) -> None:
    """Where parted lips show how dark it is inside, no bright row is drawn there."""
    (picture,) = render([pose(aperture=0.2, jaw=0.5)])
    rgb = i420_to_rgb(picture)
    landmarks = mesh(rgb)
    frame = face_frame(landmarks)
    lips = find_lip_lines(landmarks, frame, rgb_to_yuv(rgb))
    columns, rows = np.meshgrid(np.arange(rgb.shape[1]), np.arange(rgb.shape[0]))
    at = frame.to_frame(np.stack([columns, rows], -1).astype(float))
    between = (at[..., 1] > lips.upper_at(at[..., 0])) & (at[..., 1] < lips.lower_at(at[..., 0]))
    dim = rgb.copy()
    dim[between & (np.abs(at[..., 0]) < 0.4)] = (52, 40, 38)
    bright = mouth_colours(rgb, landmarks, frame).teeth.mean()
    layer = draw_mouth(dim, landmarks, frame, lips, 0.5).layers[0]
    assert layer[0][layer[3] > 0.9].max() < 0.6 * bright


def test_teeth_in_a_slit_are_shaded_warm(pose, identity) -> None:
    """Parted a little, lips throw a shade on the teeth, and it is not blue."""
    narrow, wide = (i420_to_rgb(p) for p in render([pose(aperture=0.05), pose(aperture=0.3)]))
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + grid.width // 2 + int(0.06 * unit), int(grid.top + 0.52 * unit)

    def tooth(picture: np.ndarray) -> np.ndarray:
        area = picture[y - 4 : y + int(0.06 * unit), x - 2 : x + 3].astype(float).mean(1)
        return area[area.min(1).argmax()]

    shaded, lit = tooth(narrow), tooth(wide)
    assert shaded.sum() < lit.sum()
    assert shaded[0] / shaded[2] > 1.02 * lit[0] / lit[2]
