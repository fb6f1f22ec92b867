"""Motion worked out for many sessions together, before they need it."""

from tests.fakes.slow_engine import Day, SlowMotionEngine
from worker.pipeline.motion_scheduler import MotionScheduler


def always(frame: int) -> bool:
    return True


def never(frame: int) -> bool:
    return False


async def test_sessions_think_together_and_nobody_thinks_alone():
    engine = SlowMotionEngine(pose_ms=1.0, motion_ms=12.0)
    day = Day(engine)
    seats = [day.seat(always, ahead_frames=25) for _ in range(8)]
    await day.run(200)
    for seat in seats:
        assert seat.count(10) == (190, 0, 0)
    assert sum(actor.alone for actor in engine.actors) == 0
    sizes = [len(actors) for actors in engine.motion_batches]
    assert sum(sizes[5:]) / len(sizes[5:]) >= 4, "8 sessions every 5 frames: fewer, larger batches"


async def test_motion_is_worked_out_before_it_is_needed():
    engine = SlowMotionEngine(pose_ms=1.0, motion_ms=5.0)
    day = Day(engine)
    seat = day.seat(always)
    await day.run(50)
    assert seat.count() == (50, 0, 0)
    assert engine.actors[0].alone == 0
    # 50 frames are 10 windows; two more at most lie ready.
    assert 10 <= len(engine.motion_batches) <= 12


async def test_idle_sessions_think_only_of_speech_they_heard():
    engine = SlowMotionEngine(pose_ms=1.0, motion_ms=5.0)
    day = Day(engine)
    day.seat(never)
    await day.run(25)
    assert engine.motion_batches == []


class Face:
    """An actor that runs dry in ``headroom`` frames."""

    def __init__(self, headroom: int | None) -> None:
        self.motion_headroom = headroom
        self.actor = self
        self.broken: Exception | None = None
        self.fault: Exception | None = None


def scheduling(**options) -> tuple[SlowMotionEngine, MotionScheduler]:
    engine = SlowMotionEngine(pose_ms=1.0, **options)

    def generate_motion(actors) -> None:
        engine.motion_batches.append([actor.motion_headroom for actor in actors])
        engine.clock.pass_ms(engine.motion_ms + engine.motion_each_ms * len(actors))

    engine.generate_motion = generate_motion
    return engine, MotionScheduler(engine, engine.clock.now_ns)


def test_who_runs_dry_first_is_served_first():
    engine, scheduler = scheduling(motion_ms=1.0, motion_batch=4)
    faces = [Face(headroom) for headroom in (7, 2, None, 5, 0, 9, 1)]
    scheduler.schedule([faces[4]], [face for face in faces if face.motion_headroom != 0], 1e9)
    assert engine.motion_batches == [[0, 1, 2, 5]]


def test_what_can_wait_waits():
    engine, scheduler = scheduling(motion_ms=1.0)
    scheduler.schedule([Face(4)], [Face(None), Face(8)], 1e9)
    assert engine.motion_batches == []
    scheduler.schedule([Face(3)], [Face(None), Face(8)], 1e9)
    assert engine.motion_batches == [[3, 8]]


def test_a_frame_in_need_does_not_wait_for_a_full_batch():
    """Each costs 6 ms: sixteen would take longer than any frame has."""
    engine, scheduler = scheduling(motion_ms=0.0, motion_each_ms=6.0)
    faces = [Face(1) for _ in range(15)]
    for count in (1, 2, 4, 8, 16):  # what it costs is found out once
        scheduler.schedule([Face(0)], faces[: count - 1], 1e9)
    engine.motion_batches.clear()
    scheduler.schedule([Face(0)], faces, 30e6)
    assert engine.motion_batches == [[0, 1, 1, 1]]
    # With no time at all it is served alone, and nobody who can wait is.
    scheduler.schedule([Face(0)], faces, 1e6)
    assert engine.motion_batches[1:] == [[0]]
    scheduler.schedule([], faces, 1e6)
    assert engine.motion_batches[2:] == []


def test_all_who_are_in_need_are_thought_for_whatever_it_takes():
    engine, scheduler = scheduling(motion_ms=0.0, motion_each_ms=6.0, motion_batch=4)
    for _ in range(2):
        scheduler.schedule([Face(0) for _ in range(6)], [Face(1)], 1e6)
    assert engine.motion_batches == [[0] * 6] * 2


async def test_one_session_s_fault_is_its_own():
    engine = SlowMotionEngine(pose_ms=1.0, motion_ms=1.0)
    day = Day(engine)
    good, bad = day.seat(always), day.seat(always)
    engine.actors[1].broken = RuntimeError("a broken session")
    await day.run(50)
    assert good.count() == (50, 0, 0)
    assert bad.count()[0] < 50
