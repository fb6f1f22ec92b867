from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from models.i420 import i420_to_rgb, rgb_to_i420
from models.warp.build.identity import build_identity
from models.warp.render import native, render
from models.warp.render.renderer import STAGES, render_frame
from tests.models.warp.lips import measure_aperture


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = ((a.astype(float) - b) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def luma(picture: np.ndarray) -> np.ndarray:
    return picture[: picture.shape[0] * 2 // 3].astype(int)


def mouth_area(identity, picture: np.ndarray) -> np.ndarray:
    """Luma around the line of the lips."""
    grid, unit = identity.mouth.field.grid, identity.unit
    x, y = grid.left + grid.width // 2, int(grid.top + 0.52 * unit)
    reach_x, reach_y = int(0.2 * unit), int(0.2 * unit)
    return luma(picture)[y - reach_y // 4 : y + reach_y, x - reach_x : x + reach_x]


def lit_green(identity):
    """The same person with nothing but green light in the mouth."""
    mouth = identity.mouth
    green = np.array([180.0, 40.0, 40.0], np.float32)
    return replace(identity, mouth=replace(mouth, inside=mouth.inside * 0, cavity=green))


def test_rest_is_the_photo(framed, pose) -> None:
    (picture,) = render([pose()])
    assert picture.dtype == np.uint8
    assert picture.shape == (720, 640)
    assert psnr(picture, rgb_to_i420(framed.rgb)) > 45


def test_a_swapped_colour_channel_would_be_seen(framed, pose) -> None:
    (picture,) = render([pose()])
    rgb = i420_to_rgb(picture)
    assert psnr(rgb, framed.rgb) > 30
    assert psnr(rgb[:, :, ::-1], framed.rgb) < 25


def test_the_lips_open_as_far_as_asked(pose, mesh) -> None:
    asked = [0.0, 0.05, 0.1, 0.2, 0.3]
    pictures = render([pose(aperture=a, jaw=min(1.0, 2.7 * a)) for a in asked])
    seen = [measure_aperture(mesh(i420_to_rgb(picture))) for picture in pictures]
    assert seen[0] < 0.04
    assert all(b > a for a, b in pairwise(seen)), seen
    assert seen[2:] == pytest.approx(asked[2:], abs=0.04)


def test_an_open_mouth_is_dark_inside(identity, pose) -> None:
    shut, open_ = render([pose(), pose(aperture=0.3, jaw=0.8)])
    dark = 60
    assert (mouth_area(identity, open_) < dark).mean() > 0.1
    assert (mouth_area(identity, shut) < dark).mean() < 0.02


@pytest.mark.parametrize(("width", "reach"), [(0.0, 0.72), (-1.0, 0.50)])
def test_a_wide_mouth_is_round_and_has_no_notches(identity, pose, width, reach) -> None:
    """Seen with nothing but green light in the mouth: open up to its corners, in smooth curves."""
    empty = lit_green(identity)
    (picture,) = render([pose(empty, aperture=0.34, jaw=0.9, width=width)])
    grid, unit = identity.mouth.field.grid, identity.unit
    area = (slice(grid.top, grid.top + int(unit)), slice(grid.left, grid.left + grid.width))
    rgb = i420_to_rgb(picture)[area].astype(int)
    hole = rgb[..., 1] > rgb[..., 0] + 20
    columns = np.flatnonzero(hole.any(0))
    assert np.ptp(columns) > reach * unit
    columns = columns[4:-4]
    top, bottom = hole[:, columns].argmax(0), len(hole) - hole[::-1, columns].argmax(0)
    assert (hole[:, columns].sum(0) >= bottom - top - 1).all()
    gap = bottom - top
    quarter = len(columns) // 8
    assert min(gap[quarter], gap[-quarter]) > 0.5 * gap.max()
    inner = slice(quarter, -quarter)
    for edge in (top[inner], bottom[inner]):
        assert np.abs(np.diff(edge)).max() <= 3
        assert np.abs(np.diff(edge, 2)).max() <= 3


def test_lips_part_without_a_jump(pose) -> None:
    """The mouth's inside is left out while nothing of it can be seen, and only then."""
    barely, wide = pose(aperture=0.0029), pose(aperture=0.2)
    (alone,), (beside, _) = render([barely]), render([barely, wide])
    assert np.abs(luma(alone) - luma(beside)).max() <= 1


@pytest.mark.parametrize("side", [-1, 1])
def test_a_turned_mouth_is_open_to_its_corners(identity, pose, side) -> None:
    """Nothing of the widest mouth lies beyond the part of the picture its inside is drawn in."""
    empty = lit_green(identity)
    wide = {"aperture": 0.45, "jaw": 1.0, "width": 1.0, "sway_x": 0.05 * side}
    turned = [{"yaw": 6.0 * side}, {"pitch": 6.0 * side}, {"roll": 6.0 * side}]
    for picture in render([pose(empty, **wide, **turn) for turn in turned]):
        hole = identity.mouth.hole.grid
        area = (slice(hole.top, hole.top + hole.height), slice(hole.left, hole.left + hole.width))
        rgb = i420_to_rgb(picture)[area].astype(int)
        lit = rgb[..., 1] > rgb[..., 0] + 20
        assert lit.any()
        lit[3:-3, 3:-3] = False
        assert not lit.any()


def test_pressed_lips_overrule_the_aperture(pose, mesh) -> None:
    (picture,) = render([pose(aperture=0.25, closure=1.0)])
    assert measure_aperture(mesh(i420_to_rgb(picture))) < 0.04


def test_rounding_narrows_and_spreading_widens_the_mouth(pose, mesh) -> None:
    widths = []
    for picture in render([pose(width=-1.0), pose(), pose(width=1.0)]):
        points = mesh(i420_to_rgb(picture))[:, :2]
        widths.append(np.hypot(*(points[291] - points[61])))
    assert widths[0] < 0.93 * widths[1]
    assert widths[2] > 1.03 * widths[1]


def test_the_jaw_lowers_the_chin(pose, mesh) -> None:
    shut, low = (mesh(i420_to_rgb(p)) for p in render([pose(), pose(jaw=1.0, aperture=0.3)]))
    unit = np.hypot(*(shut[263] - shut[33])[:2])
    assert (low[152, 1] - shut[152, 1]) / unit > 0.08


@pytest.mark.parametrize(("channel", "axis"), [("yaw", 0), ("pitch", 1)])
def test_the_nose_turns_where_the_head_does(pose, mesh, channel, axis) -> None:
    minus, plus = (
        mesh(i420_to_rgb(p)) for p in render([pose(**{channel: -6.0}), pose(**{channel: 6.0})])
    )
    # The tip of the nose lies before the ears: it must move further than they do.
    nose = (plus - minus)[1, axis]
    ears = (plus - minus)[[234, 454], axis].mean()
    assert nose - ears > 3.0


def test_roll_leans_the_head_clockwise(pose, mesh) -> None:
    (picture,) = render([pose(roll=6.0)])
    points = mesh(i420_to_rgb(picture))
    across = points[263] - points[33]
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(6.0, abs=1.5)


def test_a_face_that_moves_stays_as_sharp_as_the_photo(framed, pose) -> None:
    """Between the photo's samples nothing is lost, so sharpness does not come and go."""
    left, top, right, bottom = (round(v) for v in framed.face.box)

    def sharpness(picture: np.ndarray) -> float:
        face = luma(picture)[top:bottom, left:right].astype(float)
        return (face[1:-1, 1:-1] * 4 - face[:-2, 1:-1] - face[2:, 1:-1] - face[1:-1, :-2]
                - face[1:-1, 2:]).var()  # fmt: skip

    still, *moved = render(
        [
            pose(),
            *(pose(sway_x=x, sway_y=x) for x in (0.002, 0.005, 0.008)),
            pose(roll=1.0),
            pose(yaw=1.5, pitch=1.0, roll=-2.0),
        ]
    )
    shares = [sharpness(picture) / sharpness(still) for picture in moved]
    assert min(shares) > 0.8
    assert np.mean(shares) > 0.87
    assert max(shares) < 1.1


def test_far_background_stays(framed, pose) -> None:
    still, moved = render(
        [pose(), pose(yaw=3, pitch=2, roll=3, sway_x=0.05, aperture=0.3, jaw=1, blink_left=1)]
    )
    far = framed.matte < 0.02
    rows, columns = np.where(~far)
    margin = 30
    far[max(0, rows.min() - margin) :, max(0, columns.min() - margin) : columns.max() + margin] = 0
    assert far.any()
    assert np.array_equal(luma(still)[far], luma(moved)[far])
    # The background next to the person changes only where the person was or is.
    change = np.abs(luma(still) - luma(moved))[framed.matte < 0.02]
    assert (change > 12).mean() < 0.10


def test_shoulders_rise_with_the_breath_and_the_face_hardly(framed, pose) -> None:
    still, deep = render([pose(), pose(breath=1.0)])
    bottom = slice(int(framed.rgb.shape[0] * 0.8), None)
    change = np.abs(luma(still) - luma(deep))
    assert change[bottom].mean() > 0.2
    assert (
        change[: framed.rgb.shape[0] // 3][framed.matte[: framed.rgb.shape[0] // 3] < 0.02].mean()
        < 0.1
    )


def test_motion_is_smooth_in_time(pose) -> None:
    """Small steps of motion make small steps of the picture: no flicker, no popping seams."""
    t = np.arange(12) / 25
    pictures = render(
        [
            pose(
                aperture=0.12 + 0.12 * np.sin(9 * x),
                jaw=0.4 + 0.4 * np.sin(9 * x),
                yaw=2 * np.sin(3 * x),
                blink_left=0.5 + 0.5 * np.sin(12 * x),
                blink_right=0.5 + 0.5 * np.sin(12 * x),
            )
            for x in t
        ]
    )
    planes = np.stack([luma(p) for p in pictures]).astype(float)
    jerk = np.abs(planes[2:] - 2 * planes[1:-1] + planes[:-2])
    assert jerk.mean() < 0.6 * np.abs(np.diff(planes, axis=0)).mean() + 0.2


def test_a_slow_turn_moves_edges_evenly(framed, pose) -> None:
    """0.4 degrees in two seconds, half a pixel: edges neither wait nor jump."""
    turning = [pose(yaw=1 + 0.4 * k / 50, pitch=0.7, roll=0.6) for k in range(51)]
    frames = np.stack([luma(picture) for picture in render(turning)]).astype(float)
    left, top, right, bottom = (round(v) for v in framed.face.box)
    face = frames[:, top:bottom, left:right]
    # Least squares of the shift (B. Lucas and T. Kanade, 1981).
    slope = np.gradient(face[0], axis=1)
    shift = ((face[0] - face) * slope).sum((1, 2)) / (slope**2).sum()
    steady = np.polyval(np.polyfit(np.arange(51), shift, 2), np.arange(51))
    assert 0.2 < shift[-1] < 1.5
    assert np.abs(shift - steady).max() < 0.01


def test_a_batch_is_its_single_pictures(framing, pose) -> None:
    small = build_identity(framing(320, 240))
    poses = [
        pose(aperture=0.2, yaw=2),
        pose(small, aperture=0.1),
        pose(blink_left=1.0, roll=-2),
        pose(small, width=-1.0),
    ]
    together = render(poses)
    for one, picture in zip(poses, together, strict=True):
        (alone,) = render([one])
        assert picture.shape == one.identity.canvas.i420_shape
        assert np.abs(alone.astype(int) - picture).max() <= 1


def test_the_same_motion_makes_the_same_picture(pose) -> None:
    first, second = (render([pose(aperture=0.2, gaze_x=4)])[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_absurd_motion_stays_a_picture(pose) -> None:
    wild = dict.fromkeys(("aperture", "jaw", "width", "smile", "brow", "tongue"), 9.0)
    (picture,) = render([pose(**wild, gaze_x=90.0, blink_left=-3.0)])
    assert luma(picture).std() > 10


def test_no_poses_no_pictures() -> None:
    assert render([]) == []


@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (240, 320), (320, 320), (360, 202), (480, 640)]
)
def test_canvases_of_every_shape(framing, pose, width, height) -> None:
    framed = framing(width, height)
    who = build_identity(framed)
    still, open_ = render([pose(who), pose(who, aperture=0.25, jaw=0.7, yaw=3)])
    assert still.shape == (height * 3 // 2, width)
    assert psnr(still, rgb_to_i420(framed.rgb)) > 40
    assert psnr(still, open_) < 45


def test_every_stage_of_a_frame_is_timed(identity, pose) -> None:
    motion, stages_ns = pose(aperture=0.2, blink_left=0.5).motion, np.zeros(len(STAGES), np.int64)
    timed = render_frame(identity, motion, stages_ns)
    assert np.array_equal(timed, render_frame(identity, motion))
    assert (stages_ns > 0).all()
    with pytest.raises(ValueError, match="int64"):
        render_frame(identity, motion, np.zeros(3, np.int64))


def seen_of_teeth(identity, pose, aperture: float) -> np.ndarray:
    """How much of white, well-lit teeth is seen around the line of the lips: 0 to about 1."""
    frames = []
    for opacity in (255, 0):
        inside = np.zeros_like(identity.mouth.inside)
        inside[...] = 235, opacity, 128, 128
        who = replace(identity, mouth=replace(identity.mouth, inside=inside))
        (frame,) = render([pose(who, aperture=aperture, jaw=2.5 * aperture)])
        frames.append(mouth_area(identity, frame))
    return (frames[0] - frames[1]) / (235 - float(identity.mouth.cavity[0]))


def test_a_slit_between_the_lips_is_dark(identity, pose) -> None:
    """Through it one sees the dark, not the edges of teeth as a row of dots."""
    assert seen_of_teeth(identity, pose, 0.02).max() < 0.4
    assert seen_of_teeth(identity, pose, 0.25).max() > 0.9


def test_the_upper_lip_ends_softly(identity, pose) -> None:
    """Over more than a pixel, as edges in photos do."""
    seen = seen_of_teeth(identity, pose, 0.25)
    middle = seen[:, seen.shape[1] // 4 : -seen.shape[1] // 4]
    first = middle[(middle > 0.03).argmax(0), np.arange(middle.shape[1])]
    assert (first < 0.45).mean() > 0.3


def test_processors_without_avx2_render_the_same(identity, pose, monkeypatch) -> None:
    fast, plain = native.built("_kernels_avx2"), native.built("_kernels")
    if fast is None or not plain.has_avx2():
        pytest.skip("the processor has no AVX2")
    poses = [pose(aperture=0.2, jaw=0.5, yaw=4.0), pose(blink_left=0.6, gaze_x=5.0, smile=1.0)]
    frames = []
    for library in (fast, plain):
        monkeypatch.setattr(native, "library", lambda library=library: library)
        frames.append(np.stack(render(poses)).astype(int))
    assert np.abs(frames[0] - frames[1]).max() <= 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_motion_that_is_no_number_is_refused(pose, wrong) -> None:
    with pytest.raises(ValueError, match="finite"):
        render([pose(yaw=wrong)])


def test_threads_render_the_same_frames_at_once(framing, pose) -> None:
    """Each thread has its own working memory, whatever the sizes of the people it renders."""
    small = build_identity(framing(320, 240))
    poses = [pose(aperture=a, yaw=9 * a) for a in (0.0, 0.1, 0.3)]
    poses += [pose(small, aperture=a, blink_left=a) for a in (0.0, 0.1, 0.3)]
    alone = render(poses)
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda one: render([one])[0], poses * 5)
        for i, frame in enumerate(together):
            assert np.array_equal(frame, alone[i % len(poses)])
