import numpy as np
import pytest

from models.warp.motion.gaze import Gaze
from models.warp.motion.motion_vector import INDEX, rest

LIDS = INDEX["blink_left"]
EYES = [INDEX["gaze_x"], INDEX["gaze_y"]]
MINUTES = 5


def perform(
    gaze: Gaze, frames: int, liveliness: float = 1.0, turns: int = 0, phrases: int = 0
) -> np.ndarray:
    """Motion (frames, channels) of a still head; it begins to turn each ``turns`` frames, and
    phrases end each ``phrases``."""
    motion = []
    for k in range(frames):
        turn = (3.0 if k // turns % 2 else -3.0) if turns and k % turns == 0 else 0.0
        gaze = gaze.moved(turn, bool(phrases and k % phrases == 0))
        motion.append(rest())
        gaze.show(motion[-1], liveliness)
    return np.array(motion)


@pytest.fixture(scope="module")
def listening() -> np.ndarray:
    return perform(Gaze(4), 25 * 60 * MINUTES)


@pytest.fixture(scope="module")
def speaking() -> np.ndarray:
    return perform(Gaze(4), 25 * 60 * MINUTES, turns=40, phrases=70)


def closings(motion: np.ndarray) -> np.ndarray:
    """Frames at which the lids pass half way down."""
    lids = motion[:, LIDS]
    return np.flatnonzero((lids[1:] > 0.5) & (lids[:-1] <= 0.5))


def test_blinks_ten_to_twenty_times_a_minute(listening, speaking):
    for motion in (listening, speaking):
        assert 10 * MINUTES <= len(closings(motion)) <= 20 * MINUTES
        assert np.array_equal(motion[:, LIDS], motion[:, INDEX["blink_right"]])


def test_intervals_between_blinks_vary_and_some_blinks_are_double(listening):
    intervals = np.diff(closings(listening)) / 25
    assert intervals.std() > 1.0
    assert intervals.max() > 6.0
    assert 0.02 < np.mean(intervals < 0.6) < 0.25


def test_blinks_gather_where_phrases_end(speaking):
    since = closings(speaking) % 70
    assert np.mean(since < 10) > 2.0 * 10 / 70


def test_nobody_appears_with_a_blink():
    for seed in range(20):
        assert not perform(Gaze(seed), 13, phrases=5)[:, LIDS].any()


def test_blinks_are_complete_quick_to_shut_and_slower_to_open(listening):
    lids = listening[:, LIDS]
    down, up = [], []
    for at in closings(listening):
        top = at + int(np.argmax(lids[at : at + 5]))
        assert lids[top] > 0.9
        start, end = top, top
        while lids[start] > 0.02:
            start -= 1
        while lids[end] > 0.02:
            end += 1
        down.append(top - start)
        up.append(end - top)
    assert 2 <= np.median(down) <= 4
    assert 4 <= np.median(up) <= 7
    assert max(up) < 15


def test_eyes_dart_and_come_back(listening):
    gaze = listening[:, EYES]
    assert np.abs(gaze).max() <= 4.0
    assert np.mean(np.abs(gaze).max(axis=1) < 1.0) > 0.7, "mostly looks at the viewer"
    darts = np.abs(np.diff(gaze, axis=0)).max(axis=1) > 0.5
    assert 5 < darts.sum() / MINUTES < 60


def test_eyes_stay_with_the_viewer_while_the_head_turns():
    gaze, still = Gaze(1), rest()
    gaze.show(still, 1.0)
    for yaw, pitch in ((4.0, -2.0), (-5.0, 3.0)):
        turned = rest()
        turned[[INDEX["yaw"], INDEX["pitch"]]] = yaw, pitch
        gaze.show(turned, 1.0)
        np.testing.assert_allclose(turned[EYES], still[EYES] - [yaw, pitch], atol=1e-5)
    turned[INDEX["yaw"]] = 30.0
    gaze.show(turned, 1.0)
    assert abs(turned[EYES[0]]) <= 7.0


def test_eyes_often_lead_the_head(speaking):
    """Within two frames of a turn's beginning they have gone to its side."""
    led = []
    for start in range(40, len(speaking) - 40, 40):
        side = 1.0 if start // 40 % 2 else -1.0
        led.append(side * speaking[start + 2, EYES[0]] > 2.0)
    assert 0.3 < np.mean(led) < 0.8


def test_liveliness_scales_glances_but_not_blinks():
    calm, lively = perform(Gaze(1), 3000, 0.5), perform(Gaze(1), 3000, 1.5)
    assert np.ptp(lively[:, EYES[0]]) == pytest.approx(3 * np.ptp(calm[:, EYES[0]]), rel=1e-3)
    assert calm[:, LIDS].max() > 0.9, "a half blink would look like drowsiness"
    assert not perform(Gaze(1), 500, 0.0).any()
