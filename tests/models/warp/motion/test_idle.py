import numpy as np
import pytest

from models.warp.motion.idle import Idle
from models.warp.motion.motion_vector import CHANNELS, INDEX


def perform(idle: Idle, frames: int, start: int = 0) -> np.ndarray:
    return np.stack([idle.motion(start + k) for k in range(frames)])


@pytest.fixture(scope="module")
def ten_minutes() -> np.ndarray:
    return perform(Idle(seed=4), 25 * 600)


def test_listening_tilts_the_head_and_nods_now_and_then(ten_minutes):
    speaking = np.stack([Idle(seed=4).motion(k, listening=0.0) for k in range(25 * 600)])
    tilt = ten_minutes[:, INDEX["roll"]] - speaking[:, INDEX["roll"]]
    assert 0.5 < np.abs(tilt).max() < 1.5
    nods = ten_minutes[:, INDEX["pitch"]] - speaking[:, INDEX["pitch"]]
    starts = np.flatnonzero((nods[1:] > 0.8) & (nods[:-1] <= 0.8))
    assert 25 <= len(starts) <= 80, "two to eight a minute"
    assert np.diff(starts).std() > 40, "not by the clock"
    same = [INDEX[name] for name in ("breath", "sway_x")]
    assert np.array_equal(ten_minutes[:, same], speaking[:, same])


def test_the_head_moves_always_but_a_little(ten_minutes):
    angles = ten_minutes[:, [INDEX["yaw"], INDEX["pitch"], INDEX["roll"]]]
    assert np.abs(angles).max() <= 3.2
    assert np.abs(np.diff(angles, axis=0)).max() < 0.5
    assert np.median(np.abs(np.diff(angles, axis=0)).max(axis=1)) < 0.1
    five_seconds = np.ptp(angles.reshape(-1, 125, 3), axis=1).max(axis=1)
    assert five_seconds.min() > 0.2


def test_breath_is_slow_and_whole(ten_minutes):
    breath = ten_minutes[:, INDEX["breath"]]
    assert breath.min() >= 0.0
    assert breath.max() <= 1.0
    breaths = np.sum((breath[1:] > 0.5) & (breath[:-1] <= 0.5)) / 10
    assert 10 <= breaths <= 20
    assert np.abs(np.diff(breath)).max() < 0.1


def test_lips_stay_closed(ten_minutes):
    for channel in ("aperture", "jaw", "closure", "labiodental", "tongue"):
        assert not ten_minutes[:, INDEX[channel]].any()


def test_there_is_no_loop(ten_minutes):
    yaw = ten_minutes[:, INDEX["yaw"]]
    piece = yaw[:500] - yaw[:500].mean()
    for shift in range(250, len(yaw) - 500, 5):
        other = yaw[shift : shift + 500] - yaw[shift : shift + 500].mean()
        assert piece @ other / np.linalg.norm(piece) / np.linalg.norm(other) < 0.97


def test_is_a_function_of_seed_and_frame():
    assert np.array_equal(perform(Idle(7), 200), perform(Idle(7), 200))
    assert np.array_equal(perform(Idle(7), 10, 5000), perform(Idle(7), 5010)[5000:])
    assert not np.array_equal(perform(Idle(7), 200), perform(Idle(8), 200))


def test_without_liveliness_nothing_moves():
    assert not perform(Idle(1, liveliness=0.0), 500).any()


def test_liveliness_scales_the_movement():
    calm, lively = perform(Idle(1, 0.5), 2000), perform(Idle(1, 1.5), 2000)
    yaw = INDEX["yaw"]
    assert np.ptp(lively[:, yaw]) == pytest.approx(3 * np.ptp(calm[:, yaw]), rel=1e-3)


@pytest.mark.parametrize("liveliness", [-0.1, 1.6, float("nan")])
def test_absurd_liveliness_is_refused(liveliness):
    with pytest.raises(ValueError, match="liveliness must lie between"):
        Idle(0, liveliness)


def test_every_channel_is_a_number(ten_minutes):
    assert ten_minutes.shape[1] == len(CHANNELS)
    assert ten_minutes.dtype == np.float32
    assert np.isfinite(ten_minutes).all()
