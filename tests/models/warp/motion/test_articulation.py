import numpy as np

from models.warp.motion.articulation import BEFORE, limited, mouth
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.speech.rows import COLUMN, LOOKAHEAD, ROW

ONSET = 12
"""Frame at whose instant something sets in."""


def perform(column: str, low: float, high: float, lookahead: int = LOOKAHEAD) -> np.ndarray:
    """Motion (24, channels) where ``column`` of the rows jumps from ``low`` to ``high``."""
    rows = np.zeros((60, len(ROW)), np.float32)
    rows[:, COLUMN["aperture"]] = 0.16
    rows[:, COLUMN[column]] = low
    rows[2 * ONSET :, COLUMN[column]] = high
    motion, before = [], rest()
    for frame in range(2, 26):
        heard = rows[2 * frame - BEFORE : 2 * frame + 2 + lookahead]
        before = limited(mouth(heard, 0.40, 1.0, before), before)
        motion.append(before)
    return np.array(motion)


def test_lips_set_off_before_a_wide_vowel_and_are_not_late():
    opening = perform("aperture", 0.16, 0.95)[:, INDEX["aperture"]]
    onset = ONSET - 2
    assert opening[onset - 4] == 0.0
    assert 0.05 < opening[onset - 2] < 0.25
    assert opening[onset + 1] > 0.4
    assert np.diff(opening).max() < 0.15


def test_unheard_vowels_open_the_lips_as_fast_as_lips_can():
    opening = perform("aperture", 0.16, 0.95, lookahead=0)[:, INDEX["aperture"]]
    assert opening[ONSET - 3] == 0.0
    assert 0.12 < np.diff(opening).max() < 0.16


def test_lips_meet_at_once_but_the_jaw_does_not_jump():
    shut = perform("closure", 0.0, 1.0)
    assert shut[ONSET - 2, INDEX["closure"]] == 1.0
    for low, high in ((0.1, 0.8), (0.8, 0.1)):
        jaw = perform("jaw", low, high)[6:, INDEX["jaw"]]
        assert np.ptp(jaw) > 0.7
        assert 0.1 < np.abs(np.diff(jaw)).max() < 0.23
