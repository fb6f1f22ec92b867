import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.engine import Canvas
from models.warp.motion.actor import WarpActor
from models.warp.motion.idle import Idle
from models.warp.motion.motion_vector import CHANNELS, INDEX
from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import COLUMN

FIXTURE = Path(__file__).parents[3] / "fixtures" / "speech" / "papa_mama_baba.wav"
FRAME = 640
MOUTH = [INDEX[name] for name in ("aperture", "width", "jaw", "closure", "labiodental", "tongue")]
HEAD = [INDEX[name] for name in ("yaw", "pitch", "roll")]

LARGEST_STEP = {
    "aperture": 0.45,  # of the pupils' distance: lips that leave a shouted "ah" for a "p"
    "width": 0.8,
    "jaw": 0.5,
    "yaw": 1.25,  # 31 degrees a second
    "pitch": 1.5,  # a nod
    "roll": 1.0,
    "brow": 0.2,
    "sway_x": 0.02,
    "sway_y": 0.02,
    "breath": 0.15,
}
"""The most a channel may change from one frame to the next, whatever happens."""


@pytest.fixture(scope="module")
def network() -> SpeechToMotion:
    return SpeechToMotion.load()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    with wave.open(str(FIXTURE)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def actor(network: SpeechToMotion, **settings: Any) -> WarpActor:
    identity: Any = SimpleNamespace(canvas=Canvas(64, 64))
    return WarpActor(identity, network, **settings)


def act(performer: WarpActor, n: int, speaking: bool) -> np.ndarray:
    poses = performer.next_poses(n, speaking)
    assert len(poses) == n
    return np.array([pose.motion for pose in poses]).reshape(n, len(CHANNELS))


def speak(performer: WarpActor, pcm: np.ndarray) -> np.ndarray:
    performer.push_audio(pcm)
    performer.end_segment()
    return act(performer, performer.buffered_frames, speaking=True)


def assert_smooth(motion: np.ndarray) -> None:
    for channel, limit in LARGEST_STEP.items():
        steps = np.abs(np.diff(motion[:, INDEX[channel]]))
        assert steps.max() <= limit, f"{channel} jumps by {steps.max():.3f} at {steps.argmax()}"


def test_counts_whole_frames_heard_and_ready(network):
    performer = actor(network)
    assert (performer.buffered_frames, performer.ready) == (0, 0)
    performer.push_audio(np.zeros(10 * FRAME - 1, np.int16))
    assert performer.buffered_frames == 9
    assert performer.ready == 7, "three frames wait for their 100 ms of lookahead"
    performer.end_segment()
    assert (performer.buffered_frames, performer.ready) == (10, 10)
    performer.push_audio(np.zeros(FRAME, np.int16))
    assert (performer.buffered_frames, performer.ready) == (11, 10)


def test_refuses_to_act_what_was_not_heard(network):
    performer = actor(network)
    performer.push_audio(np.zeros(3 * FRAME, np.int16))
    with pytest.raises(ValueError, match="cannot act 4 frames of speech: 3 were heard"):
        performer.next_poses(4, speaking=True)
    assert performer.buffered_frames == 3


def test_the_same_frames_however_the_speech_came_in(network, speech):
    whole = speak(actor(network), speech)
    performer, pieces = actor(network), []
    for i in range(0, len(speech), 1000):
        performer.push_audio(speech[i : i + 1000])
        pieces.append(act(performer, performer.ready, speaking=True))
    performer.end_segment()
    pieces.append(act(performer, performer.buffered_frames, speaking=True))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=5e-3)


def test_every_heard_frame_can_be_acted_at_once(network, speech):
    performer, live = actor(network), []
    for i in range(0, len(speech) - FRAME + 1, FRAME):
        performer.push_audio(speech[i : i + FRAME])
        assert performer.buffered_frames == 1
        live.append(act(performer, 1, speaking=True))
    early = np.concatenate(live)
    best = speak(actor(network), speech)[: len(early)]
    a, b = early[:, INDEX["aperture"]], best[:, INDEX["aperture"]]
    assert np.corrcoef(a, b)[0, 1] > 0.5
    assert_smooth(early)


def test_lips_close_on_p_b_m_and_open_on_vowels(network, speech):
    motion = speak(actor(network), speech)
    closure, aperture = motion[:, INDEX["closure"]], motion[:, INDEX["aperture"]]
    #          papa          mama         baba: the frames in which the closures fall
    for at in (0.575, 0.883, 1.26, 1.545, 1.886, 2.20):
        around = slice(int(at * 25) - 1, int(at * 25) + 2)
        assert closure[around].max() > 0.9
        assert aperture[around][closure[around].argmax()] < 0.02
    for at in (0.73, 1.41, 2.03):
        assert aperture[int(at * 25)] > 0.1


def test_silence_keeps_the_mouth_shut(network):
    motion = speak(actor(network), np.zeros(25 * FRAME * 2, np.int16))
    assert motion[:, INDEX["aperture"]].max() < 0.08
    after_a_while = motion[15:]
    assert after_a_while[:, INDEX["aperture"]].max() < 1e-6
    assert np.abs(after_a_while[:, INDEX["closure"]]).max() < 1e-6


def test_a_long_pause_inside_speech_closes_the_lips_and_speech_opens_them(network, speech):
    pause = np.zeros(20 * FRAME, np.int16)
    spoken = speech[: len(speech) // FRAME * FRAME]
    motion = speak(actor(network), np.concatenate([spoken, pause, spoken]))
    frames = len(spoken) // FRAME
    assert motion[frames + 10 : frames + 20, INDEX["aperture"]].max() < 1e-6
    again = motion[frames + 20 :, INDEX["aperture"]]
    assert again[15:60].max() > 0.15
    assert_smooth(motion)


def test_lips_part_no_faster_than_lips_can(network, speech):
    motion = speak(actor(network), np.tile(speech, 2))
    assert np.diff(motion[:, INDEX["aperture"]]).max() <= 0.16


def test_after_a_pause_the_mouth_opens_before_it_sounds(network, speech):
    vowel = speech[int(0.66 * 16_000) : int(0.80 * 16_000)]
    quiet = np.zeros(20 * FRAME, np.int16)
    motion = speak(actor(network), np.concatenate([vowel, quiet, np.tile(vowel, 3)]))
    onset = -(-len(vowel) // FRAME) + 20
    aperture = motion[:, INDEX["aperture"]]
    assert aperture[onset - 4] < 0.01
    assert aperture[onset - 1] > 0.01
    opening = aperture[onset - 5 : onset + 8]
    assert np.argmax(opening > 0.25) - np.argmax(opening > 0.01) >= 3, "not at once"


def with_pause(speech: np.ndarray, frames: int, noise: float) -> np.ndarray:
    """An open vowel, a pause with some hiss, and speech."""
    hiss = np.random.default_rng(1).normal(0.0, noise, frames * FRAME).astype(np.int16)
    return np.concatenate([speech[: 18 * FRAME], hiss, speech[: len(speech) // FRAME * FRAME]])


@pytest.mark.parametrize("noise", [0.0, 60.0, 150.0])
def test_lips_are_shut_200_ms_into_a_pause_however_short(network, speech, noise):
    motion = speak(actor(network), with_pause(speech, 12, noise))
    assert motion[17, INDEX["aperture"]] > 0.05, "the pause begins with an open mouth"
    pause = motion[18:30]
    assert pause[5:9, INDEX["aperture"]].max() < 0.01
    assert pause[5:9, INDEX["labiodental"]].max() < 0.01


def test_live_speech_shuts_the_lips_in_a_pause_too(network, speech):
    performer, live = actor(network), []
    pcm = with_pause(speech, 15, 60.0)
    for i in range(0, len(pcm), FRAME):
        performer.push_audio(pcm[i : i + FRAME])
        if performer.buffered_frames > 1:  # as the worker does: 60 ms behind
            live.append(act(performer, 1, speaking=True))
    assert np.concatenate(live)[18 + 6 : 18 + 12, INDEX["aperture"]].max() < 0.02


def test_a_stop_is_no_pause(network, speech):
    stop = speech[: 18 * FRAME].copy()
    stop[17 * FRAME :] = 0  # 40 ms and the 20 ms before the next
    motion = speak(actor(network), np.concatenate([stop, speech[18 * FRAME : 22 * FRAME]]))
    whole = speak(actor(network), speech[: 22 * FRAME])
    aperture = INDEX["aperture"]
    assert motion[17, aperture] > 0.35 * whole[17, aperture]


def test_a_picture_shows_the_instant_it_is_stamped_with(network, speech):
    """Frame k is stamped 40 k ms: the lips lead the rows of its own 40 ms by 20 ms."""
    stream = MotionStream(network)
    stream.hear(speech)
    stream.finish()
    said = stream.take(stream.heard)[:, COLUMN["aperture"]]
    motion = speak(actor(network), speech)[:, INDEX["aperture"]]
    centres = np.arange(len(said)) * 0.02 + 0.01
    instants = np.arange(len(motion)) * 0.04

    def fit(late: float) -> float:
        heard = np.interp(instants - late, centres, np.maximum(said - 0.16, 0.0))
        return float(np.corrcoef(heard, motion)[0, 1])

    lags = np.arange(-60, 61, 5) / 1000
    assert abs(lags[np.argmax([fit(lag) for lag in lags])]) <= 0.010


def test_a_raised_voice_opens_the_mouth_further_at_any_volume(network, speech):
    """More treble is more effort; turning the volume up is not."""
    spectrum = np.fft.rfft(speech.astype(float))
    hertz = np.fft.rfftfreq(len(speech), 1 / 16_000)

    def opening(treble_db: float, volume: float) -> tuple[float, float]:
        gain = 10 ** (treble_db / 20 * np.clip(np.log2(hertz.clip(1) / 500), 0, 2) / 2)
        pcm = np.fft.irfft(spectrum * gain, len(speech))
        pcm *= volume * np.abs(speech).max() / np.abs(pcm).max()
        performer = actor(network)
        for _ in range(2):
            motion = speak(performer, np.clip(pcm, -32768, 32767).astype(np.int16))
        return float(performer._now.prosody.effort), float(motion[:, INDEX["aperture"]].max())

    calm, raised, quieter = opening(-12, 0.6), opening(0, 0.6), opening(0, 0.15)
    assert raised[0] > 1.15 * calm[0]
    assert raised[1] > calm[1]
    assert quieter[0] == pytest.approx(raised[0], rel=0.05)


def test_rests_within_200_ms_after_speech(network, speech):
    performer = actor(network)
    vowel = speech[: int(0.75 * 16_000)]
    spoken = speak(performer, vowel)
    assert spoken[-1, INDEX["aperture"]] > 0.05, "the speech ends with an open mouth"
    after = act(performer, 10, speaking=False)
    assert np.abs(after[4:][:, [c for c in MOUTH if c != INDEX["width"]]]).max() < 1e-6
    assert_smooth(np.concatenate([spoken, after]))


def test_nothing_jumps_between_idling_and_speaking(network, speech):
    performer = actor(network, liveliness=1.5, seed=3)
    motion = [act(performer, 30, speaking=False)]
    for start in range(0, 60_000, 9_000):  # stretches that begin and end anywhere, even mid-vowel
        performer.push_audio(speech[start : start + 9_000])
        performer.end_segment()
        motion.append(act(performer, performer.buffered_frames, speaking=True))
        motion.append(act(performer, start // 9_000, speaking=False))
    assert_smooth(np.concatenate(motion))


def test_speech_waits_while_the_face_idles(network, speech):
    performer = actor(network)
    performer.push_audio(speech)
    performer.end_segment()
    first = act(performer, 20, speaking=True)
    heard = performer.buffered_frames
    held = act(performer, 30, speaking=False)
    assert performer.buffered_frames == heard
    assert np.abs(held[5:][:, INDEX["aperture"]]).max() < 1e-6
    rest = act(performer, heard, speaking=True)
    assert_smooth(np.concatenate([first, held, rest]))
    whole = speak(actor(network), speech)
    np.testing.assert_allclose(rest[3:][:, MOUTH[2:]], whole[23:][:, MOUTH[2:]], atol=5e-3)


def test_cut_forgets_speech_and_eases_to_rest(network, speech):
    performer = actor(network)
    performer.push_audio(speech)
    spoken = act(performer, 19, speaking=True)  # mid "pa"
    assert spoken[-1, INDEX["aperture"]] > 0.05
    performer.interrupt()
    assert (performer.buffered_frames, performer.ready) == (0, 0)
    after = act(performer, 10, speaking=False)
    assert_smooth(np.concatenate([spoken, after]))
    assert after[5:][:, INDEX["aperture"]].max() < 1e-6


def test_cut_goes_on_from_the_last_frame_seen(network, speech):
    performer, witness = actor(network), actor(network)
    for one in (performer, witness):
        one.push_audio(speech)
    seen = act(performer, 19, speaking=True)
    act(performer, 12, speaking=True)
    performer.interrupt(unseen=12)
    after = act(performer, 40, speaking=False)
    assert_smooth(np.concatenate([seen, after]))

    act(witness, 19, speaking=True)
    witness.interrupt()
    np.testing.assert_allclose(after, act(witness, 40, speaking=False), atol=1e-6)


def test_cut_may_go_back_before_the_speech(network, speech):
    performer = actor(network)
    idle = act(performer, 10, speaking=False)
    performer.push_audio(speech)
    act(performer, 20, speaking=True)
    performer.interrupt(unseen=24)
    after = act(performer, 10, speaking=False)
    np.testing.assert_allclose(after[:4], idle[6:], atol=1e-6)
    with pytest.raises(ValueError, match="unseen"):
        performer.interrupt(unseen=-1)
    performer.interrupt(unseen=10_000)


def test_new_speech_right_after_a_cut_does_not_jump(network, speech):
    performer = actor(network)
    performer.push_audio(speech)
    motion = [act(performer, 19, speaking=True)]
    performer.interrupt()
    performer.push_audio(speech[33_000:])  # begins in the middle of a vowel
    motion.append(act(performer, 20, speaking=True))
    assert_smooth(np.concatenate(motion))


def test_a_stretch_of_speech_does_not_move_the_mouth_of_the_next(network, speech):
    performer = actor(network)
    speak(performer, speech)
    act(performer, 25, speaking=False)
    second = speak(performer, speech)
    alone = speak(actor(network), speech)
    # Idling moves the corners a little, and how far the lips part depends on the voice's effort,
    # which is known by then.
    mouth = [c for c in MOUTH if c not in (INDEX["width"], INDEX["aperture"])]
    np.testing.assert_allclose(second[:, mouth], alone[:, mouth], atol=5e-3)
    opening = second[:, INDEX["aperture"]], alone[:, INDEX["aperture"]]
    assert np.corrcoef(*opening)[0, 1] > 0.99


def test_each_stretch_begins_on_a_frame_of_its_own(network, speech):
    performer = actor(network)
    performer.push_audio(speech[:1000])
    performer.end_segment()
    performer.push_audio(speech[1000:2000])
    performer.end_segment()
    assert performer.buffered_frames == 4
    act(performer, 3, speaking=True)
    assert performer.buffered_frames == 1
    performer.end_segment()
    act(performer, 1, speaking=True)
    assert performer.buffered_frames == 0


def test_idles_as_the_idle_motion_of_its_seed(network):
    performed = act(actor(network, seed=11), 100, speaking=False)
    idle = Idle(11)
    moved = np.array([idle.motion(k + 1) for k in range(100)])
    others = [c for name, c in INDEX.items() if not name.startswith(("gaze", "blink"))]
    np.testing.assert_allclose(performed[:, others], moved[:, others], atol=1e-6)


def test_eyes_stay_with_the_viewer_and_blink_where_phrases_end(network, speech):
    motion = speak(actor(network, seed=2), np.tile(with_pause(speech, 12, 0.0), 6))
    looks = motion[:, INDEX["gaze_x"]] + motion[:, INDEX["yaw"]]
    assert np.median(np.abs(looks)) < 0.8
    assert np.abs(motion[:, INDEX["yaw"]]).max() > 2.0
    assert np.corrcoef(motion[:, INDEX["gaze_x"]], motion[:, INDEX["yaw"]])[0, 1] < -0.5


def test_the_same_seed_and_speech_perform_the_same(network, speech):
    first, second, other = (speak(actor(network, seed=s), speech) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first[:, HEAD], other[:, HEAD])
    aperture = INDEX["aperture"]
    np.testing.assert_allclose(first[:, aperture], other[:, aperture], atol=1e-6)


def test_without_liveliness_only_the_mouth_moves(network, speech):
    performer = actor(network, liveliness=0.0)
    motion = np.concatenate([speak(performer, speech), act(performer, 50, speaking=False)])
    others = [c for c in range(len(CHANNELS)) if c not in MOUTH]
    assert not motion[:, others].any()
    assert motion[:, INDEX["aperture"]].max() > 0.1


def test_speaking_moves_the_head_more_than_idling_but_not_far(network, speech):
    talking, silent = [], []
    for seed in range(4):
        talking.append(speak(actor(network, seed=seed), np.tile(speech, 3)))
        silent.append(act(actor(network, seed=seed), len(talking[-1]), speaking=False))
    busy = np.abs(np.diff(np.array(talking)[:, :, HEAD], axis=1)).mean()
    calm = np.abs(np.diff(np.array(silent)[:, :, HEAD], axis=1)).mean()
    assert busy > 2 * calm
    assert np.abs(np.array(talking)[:, :, HEAD]).max() < 6.0


def test_brows_and_head_follow_stress(network, speech):
    """A word said louder than its neighbours lowers the head and lifts the brows."""
    quiet = speech[: 60 * FRAME] // 5
    said = np.concatenate([quiet, quiet, speech[: 60 * FRAME], quiet])
    word = slice(60 * 2 + 10, 60 * 2 + 50)
    each = []
    for seed in range(3):  # a head lifts on one beat in five
        even = speak(actor(network, seed=seed), np.tile(quiet, 4))
        each.append((speak(actor(network, seed=seed), said) - even)[word])
    difference = np.concatenate(each)
    assert difference[:, INDEX["pitch"]].max() > 0.5
    assert difference[:, INDEX["brow"]].max() > 0.1
    assert difference[:, INDEX["brow"]].max() < 0.7


def test_no_picture_repeats_the_one_before(network, speech):
    """Head and shoulders always move by a hundredth of a pixel at least: speaking, in a pause and
    idling. The pupils are taken to be 100 pixels apart."""
    performer = actor(network, seed=5)
    talk = speak(performer, with_pause(speech, 25, 0.0))
    motion = np.concatenate([talk, act(performer, 500, speaking=False)])
    moved = np.abs(np.diff(motion[:, [*HEAD, INDEX["sway_x"], INDEX["sway_y"]]], axis=0))
    degree = 100 * np.pi / 180  # at the distance of the pupils from the pivot
    pixels = (moved * [degree, degree, degree, 100, 100]).max(axis=1)
    assert pixels.min() > 0.01


def test_blinks_while_speaking(network, speech):
    motion = speak(actor(network), np.tile(speech, 4))
    lids = motion[:, INDEX["blink_left"]]
    assert np.sum((lids[1:] > 0.5) & (lids[:-1] <= 0.5)) >= 3


def test_every_channel_keeps_to_its_range(network, speech):
    motion = speak(actor(network, liveliness=1.5), speech)
    assert motion.dtype == np.float32
    assert np.isfinite(motion).all()
    for name in ("jaw", "closure", "labiodental", "tongue", "blink_left", "breath"):
        assert motion[:, INDEX[name]].min() >= 0.0
        assert motion[:, INDEX[name]].max() <= 1.0
    assert motion[:, INDEX["aperture"]].min() >= 0.0
    assert motion[:, INDEX["aperture"]].max() <= 0.45
    assert np.abs(motion[:, INDEX["width"]]).max() <= 1.1


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_what_the_viewer_sees_is_smooth(network, speech, seed):
    chance = np.random.default_rng(seed)
    performer, seen = actor(network, seed=seed), []
    heard = 0
    for _ in range(80):
        what = chance.choice(["hear", "finish", "speak", "speak", "idle", "cut"])
        if what == "hear":
            start = chance.integers(0, len(speech) - 100)
            pcm = speech[start : start + chance.integers(1, 12_000)]
            performer.push_audio(pcm)
        elif what == "finish":
            performer.end_segment()
        elif what == "cut":
            unseen = int(chance.integers(0, 6))
            performer.interrupt(unseen)
            seen = seen[: max(0, len(seen) - unseen)]
            assert performer.buffered_frames == 0
        elif what == "speak":
            heard = performer.buffered_frames
            n = int(chance.integers(0, heard + 1))
            seen += list(act(performer, n, speaking=True))
            assert performer.buffered_frames == heard - n
        else:
            seen += list(act(performer, int(chance.integers(0, 8)), speaking=False))
        assert 0 <= performer.ready <= performer.buffered_frames
    assert_smooth(np.array(seen))
