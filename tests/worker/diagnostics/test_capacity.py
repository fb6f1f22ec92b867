"""What a worker promises, measured with engines whose speed is known."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.engine import FlapEngine, FlapPose
from worker.diagnostics import capacity
from worker.diagnostics.capacity import Capacity, capacity_meter, measured_speed, sessions_held
from worker.diagnostics.speed_cache import Speed, SpeedCache
from worker.service import Worker
from worker.settings import AUTO_SCALES, load_settings

PHOTO = np.zeros((1, 1, 3), np.uint8)
SMALL = Canvas(64, 64)


class MeetingEngine(FlapEngine):
    """One picture at a time. It is done when so many threads have met; it notes who came."""

    preferred_batch = 1

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.meeting = threading.Barrier(threads, timeout=5)
        self.threads: set[int] = set()

    def render(self, poses: Sequence[FlapPose]) -> list[np.ndarray]:
        (_,) = poses
        me = threading.get_ident()
        if threading.current_thread() is not threading.main_thread() and me not in self.threads:
            self.threads.add(me)
            self.meeting.wait()
        return super().render(poses)


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_are_measured_as_will_render(threads):
    engine = MeetingEngine(threads)
    speed = measured_speed(engine, PHOTO, SMALL, threads=threads, seconds=0.05)
    assert len(engine.threads) == threads
    assert speed.frames_per_second > 0
    assert speed.render_cpu_s > 0
    assert speed.encode_cpu_s > 0


def test_an_engine_of_batches_is_measured_in_one_thread():
    engine = FlapEngine()
    measured_speed(engine, PHOTO, SMALL, threads=3, seconds=0.02)
    assert set(engine.batches) == {4}


def test_work_beside_the_measuring_does_not_make_a_machine_look_slow(monkeypatch):
    engine = FlapEngine()
    monkeypatch.setattr(capacity, "_run", lambda lines, seconds: (20.0, 0.01))
    engine.preferred_batch = 1
    assert measured_speed(engine, PHOTO, SMALL, seconds=0.02).frames_per_second == 70
    assert measured_speed(engine, PHOTO, SMALL, threads=2, seconds=0.02).frames_per_second == 140
    engine.preferred_batch = 4  # it waits for its device
    assert measured_speed(engine, PHOTO, SMALL, seconds=0.02).frames_per_second == 20


def test_a_fault_while_measuring_is_told():
    engine = MeetingEngine(1)

    def broken(poses):
        if threading.current_thread() is threading.main_thread():
            return FlapEngine.render(engine, poses)
        raise RuntimeError("no kernel image")

    engine.render = broken
    with pytest.raises(RuntimeError, match="no kernel image"):
        measured_speed(engine, PHOTO, SMALL, seconds=0.02)


@pytest.mark.parametrize(
    ("rate", "cpu_s", "sessions"),
    [
        (250.0, 0.0, 7),  # the render threads are the limit
        (250.0, 0.018, 3),  # 100 pictures a second are all that two cores make and compress
        (5000.0, 0.0, 30),  # the event loop hands no more over
        (30.0, 0.010, 1),
        (24.0, 0.010, 0),
        (250.0, 0.100, 0),
    ],
)
def test_sessions_by_frame_rate_and_by_processor_time(monkeypatch, rate, cpu_s, sessions):
    monkeypatch.setattr(capacity, "usable_cores", lambda: 2)
    assert sessions_held(Speed(rate, cpu_s / 2, cpu_s / 2)) == sessions


@pytest.fixture
def speeds(monkeypatch, tmp_path):
    """Sets the frames per second that are measured, by the canvas's width; the photo exists."""
    given: dict[int, float] = {}
    measured: list[int] = []

    def measure(engine, photo, canvas, **options):
        measured.append(canvas.width)
        rate = given[canvas.width]
        return Speed(rate, 1 / rate, 1e-4)

    monkeypatch.setattr(capacity, "measured_speed", measure)
    monkeypatch.setattr(capacity, "load_photo", lambda path: PHOTO)
    return given, measured, tmp_path / "photo.jpg"


@pytest.mark.parametrize(
    ("rates", "scale", "sessions"),
    [
        ((90, 150, 250), 1.0, 2),
        ((40, 90, 250), 0.75, 2),
        ((40, 60, 250), 0.5, 7),
        ((10, 15, 30), 0.5, 1),
        ((5, 8, 20), 0.5, 0),
    ],
)
def test_auto_takes_the_largest_canvas_that_holds_two(speeds, rates, scale, sessions):
    given, measured, photo = speeds
    given.update(zip((1280, 960, 640), rates, strict=True))
    found = capacity_meter(load_settings(), photo)(FlapEngine())
    assert (found.scale, found.sessions) == (scale, sessions)
    assert measured == [1280, 960, 640][: AUTO_SCALES.index(scale) + 1]


def test_a_scale_that_is_set_is_kept(speeds, monkeypatch):
    given, measured, photo = speeds
    given[320] = 30.0
    monkeypatch.setenv("AVATAR_WORKER_CANVAS__SCALE", "0.25")
    found = capacity_meter(load_settings(), photo)(FlapEngine())
    assert (found.scale, found.sessions, measured) == (0.25, 1, [320])


def test_a_worker_that_starts_again_does_not_measure(speeds, tmp_path):
    given, measured, photo = speeds
    given.update({1280: 40.0, 960: 90.0, 640: 250.0})
    photo.write_bytes(b"photo")
    engine = FlapEngine()
    engine.preferred_batch = 1

    def start() -> Capacity:
        cache = SpeedCache(tmp_path / "speeds.json")
        return capacity_meter(load_settings(render_threads=1), photo, cache=cache)(engine)

    first = start()
    assert measured == [1280, 960]
    assert start() == first
    assert measured == [1280, 960]
    engine.name = "another"
    start()
    assert measured == [1280, 960, 1280, 960]
    engine.preferred_batch = 4  # one of batches is measured every time
    start()
    start()
    assert len(measured) == 8


async def test_a_worker_takes_the_scale_that_was_found():
    worker = Worker(load_settings(), FlapEngine)
    try:
        assert worker.status().size is None
        await worker.start(lambda engine: Capacity(0.75, 3))
        status = worker.status()
        assert (status.size, status.capacity) == ("960x720", 3)
        assert worker.settings.canvas.canvas("3:4") == Canvas(720, 960)
    finally:
        await worker.aclose()


async def test_what_is_set_wins_over_what_is_measured():
    worker = Worker(load_settings(max_sessions=5), FlapEngine)
    try:
        await worker.start(lambda engine: Capacity(1.0, 3))
        assert (worker.status().size, worker.status().capacity) == ("1280x960", 5)
    finally:
        await worker.aclose()
