"""The engine as the worker gets it: from a folder, or not at all."""

import numpy as np
import pytest
import torch

from models.ditto.audio.hubert import HubertError
from models.ditto.engine import CONDITION, DittoEngine, loudness_encoder
from models.ditto.files import SPEECH_ENCODER
from models.ditto.identity import build_identity
from models.ditto.motion.motion_windows import EXPRESSION
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.weights.config import CONFIG_JSON, CONFIG_NPZ
from models.ditto.weights.reader import WeightsError
from models.engine import Canvas, MotionBatchEngine
from models.face import default_analyzer, frame_portrait, load_photo
from portraits import ANNA
from tests.fakes.ditto_files import tiny_networks, write_tiny_files
from worker.diagnostics.capacity import measured_batch, measured_speed, sessions_held
from worker.diagnostics.speed_cache import Speed

CANVAS = Canvas(160, 120)


@pytest.fixture(scope="module")
def analyzer():
    return default_analyzer()


@pytest.fixture(scope="module")
def photo():
    return load_photo(ANNA.path)


@pytest.fixture
def folder(tmp_path):
    return write_tiny_files(tmp_path / "ditto")


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 4000, frames * 640).astype(np.int16)


def test_a_folder_becomes_the_engine_its_weights_describe(folder, photo, analyzer):
    engine = DittoEngine.load(folder, analyzer=analyzer)
    assert isinstance(engine, MotionBatchEngine)
    identity = engine.prepare(photo, CANVAS)
    # Built in memory, of the same seed, it is the same engine.
    framed = frame_portrait(photo, analyzer.analyze(photo)[0], CANVAS)
    again = build_identity(framed, tiny_networks())
    torch.testing.assert_close(identity.volume, again.volume)
    torch.testing.assert_close(identity.reference, again.reference)
    actor = engine.actor(identity)
    actor.push_audio(noise(12))
    actor.end_segment()
    pictures = engine.render(actor.next_poses(12, True))
    assert len({picture.tobytes() for picture in pictures}) == 12


@pytest.mark.parametrize("name", ["warp_network.pth", SPEECH_ENCODER])
def test_a_damaged_file_names_itself_and_what_fetches_it(folder, analyzer, name):
    (folder / name).write_bytes(b"not a network")
    with pytest.raises((WeightsError, HubertError)) as refusal:
        DittoEngine.load(folder, analyzer=analyzer)
    assert str(folder / name) in str(refusal.value)
    assert "python scripts/download_models.py ditto" in str(refusal.value)


def test_weights_of_another_size_are_refused(folder, analyzer):
    other = DittoNetworks.build(DittoSizes.tiny()).stitch
    state = {f"module.{key}": torch.cat([v, v]) for key, v in other.state_dict().items()}
    torch.save({"retarget_shoulder": state}, folder / "stitch_network.pth")
    with pytest.raises(WeightsError, match=r"stitch_network\.pth cannot be used"):
        DittoEngine.load(folder, analyzer=analyzer)


def test_the_release_s_limits_of_motion_are_kept(folder, photo, analyzer):
    """With limits that allow no motion at all the mouth stays as it is in the photo."""
    lips = np.zeros((2, 265), np.float32)
    lips[0], lips[1] = -1e3, 1e3
    lips[:, EXPRESSION] = 0.01
    np.savez(folder / CONFIG_NPZ, limits=lips)
    (folder / CONFIG_JSON).write_text(
        '{"default_kwargs": {"v_min_max_for_clip": {"array": "limits"}}}'
    )
    engine = DittoEngine.load(folder, analyzer=analyzer, liveliness=0.0)
    actor = engine.actor(engine.prepare(photo, CANVAS))
    actor.push_audio(noise(30))
    actor.end_segment()
    spoken = actor.next_poses(30, True)
    assert engine._generator.clip is not None
    rows = torch.cat(actor._motion._given)
    assert (rows[:, EXPRESSION] == 0.01).all()
    assert len(spoken) == 30


@pytest.mark.parametrize(("overlap", "ms"), [(75, 245), (70, 445)])
def test_the_lookahead_it_asks_for_is_what_its_first_frame_needs(analyzer, photo, overlap, ms):
    engine = DittoEngine(
        tiny_networks(), loudness_encoder, analyzer=analyzer, overlap=overlap, steps=2
    )
    assert engine.lookahead_s == pytest.approx(ms / 1000)
    actor = engine.actor(engine.prepare(photo, CANVAS))
    needed = 640 + round(engine.lookahead_s * 16_000)
    speech = noise(20)
    actor.push_audio(speech[: needed - 1])
    assert actor.ready == 0
    actor.push_audio(speech[needed - 1 : needed])
    assert actor.ready > 0


def test_at_the_speed_of_a_microphone_no_frame_goes_without_motion(analyzer, photo):
    """Once the lookahead was heard, each further frame comes just before the next is acted."""
    engine = DittoEngine(tiny_networks(), loudness_encoder, analyzer=analyzer, steps=2)
    actor = engine.actor(engine.prepare(photo, CANVAS))
    speech = noise(60)
    heard = 640 + round(engine.lookahead_s * 16_000)
    actor.push_audio(speech[:heard])
    for _ in range(50):
        assert actor.ready >= 1
        actor.next_poses(1, True)
        actor.push_audio(speech[heard : heard + 640])
        heard += 640


def test_capacity_is_measured_with_motion(analyzer, photo):
    engine = DittoEngine(tiny_networks(), loudness_encoder, analyzer=analyzer, steps=2)
    batches = []
    generate = engine.generate_motion
    engine.generate_motion = lambda actors: (batches.append(len(actors)), generate(actors))
    speed = measured_speed(engine, photo, CANVAS, seconds=0.3)
    assert speed.frames_per_second > 0
    assert measured_batch(engine) == 4
    assert batches
    assert set(batches) == {4}, "all of them at once, never one alone"


@pytest.mark.parametrize(
    ("rate", "sessions"), [(10.0, 0), (24.9, 0), (25.0, 1), (60.0, 1), (100.0, 3), (400.0, 12)]
)
def test_no_session_is_promised_that_would_not_get_its_frames(rate, sessions):
    assert sessions_held(Speed(rate, 0.0, 0.0)) == sessions


def test_what_a_session_takes_is_stated(analyzer):
    engine = DittoEngine(tiny_networks(), loudness_encoder, analyzer=analyzer)
    assert engine.memory_per_session_mb == pytest.approx(9 * 80 * 265 * 4 / 1e6)
    assert CONDITION == 1103


def test_the_random_engine_renders(analyzer, photo):
    engine = DittoEngine.random(sizes=DittoSizes.tiny(), analyzer=analyzer)
    (picture,) = engine.render(engine.actor(engine.prepare(photo, CANVAS)).next_poses(1, False))
    assert picture.shape == CANVAS.i420_shape
