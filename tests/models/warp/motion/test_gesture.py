from dataclasses import replace

import numpy as np

from models.warp.motion.gesture import Gestures
from models.warp.motion.motion_vector import INDEX
from models.warp.motion.prosody import Prosody

TALK = Prosody(speech=1.0)
PAUSE = replace(TALK, in_pause=True)
TURNS = [INDEX[name] for name in ("yaw", "pitch", "roll")]


def perform(voice: list[Prosody], seed: int = 1, liveliness: float = 1.0) -> np.ndarray:
    """Motion (frames, channels) of the head along a voice, the wandering in between held still."""
    gestures, motion = Gestures(seed), []
    for before, now in zip([PAUSE, *voice], voice, strict=False):
        gestures = gestures.speak(before, now)
        motion.append(gestures.motion(0, liveliness))
    return np.array(motion)


def stressed(at: int, frames: int) -> list[Prosody]:
    """Even speech with one loud syllable."""
    voice = [TALK] * frames
    for k, emphasis in enumerate((0.4, 0.8, 0.8, 0.4)):
        voice[at + k] = replace(TALK, emphasis=emphasis)
    return voice


def test_a_phrase_begins_with_another_posture_which_is_held():
    voice = [PAUSE] * 10 + [TALK] * 40 + [PAUSE] * 10 + [TALK] * 40
    for seed in range(5):
        yaw = perform(voice, seed)[:, INDEX["yaw"]]
        first, second = yaw[10:50], yaw[60:]
        assert abs(second[-1] - first[-1]) > 0.4, "taken"
        assert np.abs(np.diff(second[-15:])).max() < 0.05, "held"
        turned = (second - second[0]) / (second[-1] - second[0])
        assert turned.min() > -0.05, "without going back"
        assert turned.max() < 1.05, "or too far"
        assert 5 < np.argmax(turned > 0.8) < 20, "in less than a second, but not at once"


def test_postures_are_seldom_alike():
    voice = ([PAUSE] * 10 + [TALK] * 50) * 12
    motion = perform(voice)[59::60][:, TURNS]
    apart = np.linalg.norm(motion[:, None] - motion[None], axis=-1)
    assert np.median(apart) > 1.5
    assert motion[:, 0].min() < -1.0
    assert motion[:, 0].max() > 1.0


def test_the_head_beats_on_a_stress_and_comes_back():
    pulled = []
    for seed in range(8):
        stress = perform(stressed(15, 60), seed)[:, INDEX["pitch"]]
        beat = stress - perform([TALK] * 60, seed)[:, INDEX["pitch"]]
        assert np.abs(beat[:15]).max() < 1e-6
        apex = int(np.abs(beat).argmax())
        assert 18 <= apex <= 23
        assert 0.5 < abs(beat[apex]) < 5.0
        assert abs(beat[40]) < 0.15 * abs(beat[apex])
        pulled.append(beat[apex])
    assert np.mean(np.array(pulled) > 0) > 0.5, "most of them are nods"


def test_a_long_phrase_does_not_freeze_the_head():
    voice = stressed(5, 20) * 10
    yaw = perform(voice)[:, INDEX["yaw"]]
    assert np.ptp(yaw[20:]) > 2.0


def test_liveliness_scales_gestures_but_never_beyond_what_a_head_may_turn():
    voice = stressed(5, 20) * 10
    calm, usual, restless = (perform(voice, 3, lively)[:, TURNS] for lively in (0.3, 1.0, 1.5))
    assert 1.8 < np.ptp(usual) / np.ptp(calm) < 3.5
    assert np.abs(restless).max() < 4.5
    assert not perform(voice, 3, 0.0).any()


def test_the_head_comes_to_rest_when_nobody_speaks():
    gestures = Gestures(2)
    for before, now in zip([PAUSE, *stressed(5, 40)], stressed(5, 40), strict=False):
        gestures = gestures.speak(before, now)
    for _ in range(200):
        gestures = gestures.idle()
    assert np.abs(gestures.motion(0, 1.0)[TURNS]).max() < 0.15
