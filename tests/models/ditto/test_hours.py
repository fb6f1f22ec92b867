"""A session that goes on for hours: nothing wanders off, nothing piles up."""

import gc
import resource
import sys

import numpy as np
import pytest

from models.ditto.engine import DittoEngine, loudness_encoder
from models.ditto.motion.actor import AHEAD, DittoActor
from models.ditto.motion.key_points import LIPS
from models.ditto.motion.motion_windows import REMEMBERED_ROWS
from models.engine import FPS, Canvas
from models.engine import SPEECH_SAMPLES_PER_FRAME as FRAME
from models.face import load_photo
from portraits import ANNA
from tests.fakes.ditto_files import tiny_networks
from tests.fakes.ditto_motion_generator import FakeDiffusion, fake_generator, fake_identity, points


def resident_mb() -> float:
    """Memory of the process, MB."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def depths(actor: DittoActor) -> dict[str, int]:
    """How much lies in each of a session's queues."""
    return {
        "stretches": len(actor._stretches),
        "rows ready": sum(len(rows) for one in actor._stretches for rows in one.rows),
        "rows given": sum(map(len, actor._motion._given)),
        "history": 0 if actor._motion._history is None else len(actor._motion._history),
        "faces shown": actor._blender._remembered,
        "features": len(actor._motion._features) + sum(map(len, actor._motion._waiting)),
    }


LIMITS = {
    "stretches": 1,
    "rows ready": AHEAD + 10,
    "rows given": REMEMBERED_ROWS + 10,
    "history": 160,
    "faces shown": REMEMBERED_ROWS + 2 * FPS,
    "features": 95,
}


def live(actor: DittoActor, minutes: float, rng: np.random.Generator, act) -> np.ndarray:
    """A conversation: a third of the time is speech, every fifth sentence is cut off. Answers the
    mean key points of each minute, (minutes, 21, 3); no queue may ever be too deep."""
    means, minute = [], []
    while len(means) < minutes:
        said = int(rng.integers(2, 9)) * FPS
        level = rng.uniform(500, 6000)
        actor.push_audio(rng.normal(0, level, said * FRAME).clip(-32768, 32767).astype(np.int16))
        actor.end_segment()
        cut_off = rng.random() < 0.2
        left = said // 2 if cut_off else said
        while left:
            n = min(left, FPS)
            minute.extend(act(actor, n, True))
            left -= n
        if cut_off:
            actor.interrupt(int(rng.integers(0, 8)))
        for _ in range(said // FPS):
            minute.extend(act(actor, 2 * FPS, False))
        depth = depths(actor)
        assert all(depth[name] <= LIMITS[name] for name in LIMITS), depth
        if len(minute) >= 60 * FPS:
            means.append(np.mean(minute, 0))
            minute = []
    return np.stack(means)


def perform(actor: DittoActor, n: int, speaking: bool) -> np.ndarray:
    return points(actor.next_poses(n, speaking))


def assert_home(means: np.ndarray, actor: DittoActor, limit: float) -> None:
    """The face is about the photo's, and in the last third no further from it than in the first."""
    away = np.abs(means - actor.identity.source.points.numpy()).max((1, 2))
    third = len(away) // 3
    assert away.max() <= limit
    assert away[-third:].mean() <= 1.3 * away[:third].mean() + 0.01


@pytest.mark.parametrize("minutes", [30, pytest.param(480, marks=pytest.mark.slow)])
def test_a_session_with_a_model_that_drifts_comes_home_and_keeps_its_memory(minutes):
    """The model turns the head a little further in every window, from wherever it started."""
    generator = fake_generator(diffusion=FakeDiffusion(turn=0.05), overlap=70)
    actor = DittoActor(fake_identity(), generator, seed=1)
    rng = np.random.default_rng(1)
    live(actor, 3, rng, perform)
    gc.collect()
    before_mb, objects = resident_mb(), len(gc.get_objects())
    means = live(actor, minutes, rng, perform)
    gc.collect()
    assert resident_mb() - before_mb < 30
    assert len(gc.get_objects()) - objects < 2000
    assert_home(means, actor, limit=0.12)
    mouth = means[:, list(LIPS), 1].mean(1)
    assert np.ptp(mouth) < 0.05


@pytest.mark.parametrize("minutes", [5, pytest.param(480, marks=pytest.mark.slow)])
def test_a_session_of_tiny_networks_comes_home_and_keeps_its_memory(minutes):
    """All networks; a picture every ten seconds or so."""
    engine = DittoEngine(tiny_networks(), loudness_encoder, overlap=70, steps=2)
    identity = engine.prepare(load_photo(ANNA.path), Canvas(160, 120))
    actor = engine.actor(identity, seed=2)
    rng = np.random.default_rng(2)
    shapes = []  # kept whole, hours of pictures would be the memory that grows

    def act(actor: DittoActor, n: int, speaking: bool) -> np.ndarray:
        poses = actor.next_poses(n, speaking)
        if rng.random() < n / (10 * FPS):
            shapes.extend(picture.shape for picture in engine.render(poses[:1]))
        return points(poses)

    live(actor, 1, rng, act)
    gc.collect()
    before_mb = resident_mb()
    means = live(actor, minutes, rng, act)
    gc.collect()
    assert resident_mb() - before_mb < 60
    # Networks of random weights throw the face about; that it stays where it was is what counts.
    assert_home(means, actor, limit=3.0)

    assert len(shapes) > 3 * minutes
    assert set(shapes) == {(180, 160)}
