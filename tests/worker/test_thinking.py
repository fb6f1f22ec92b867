"""Motion worked out for many sessions together, before they need it."""

from tests.fakes.slow_engine import Day, ThoughtfulEngine


def always(frame: int) -> bool:
    return True


def never(frame: int) -> bool:
    return False


async def test_sessions_think_together_and_nobody_thinks_alone():
    engine = ThoughtfulEngine(pose_ms=1.0, think_ms=12.0)
    day = Day(engine)
    seats = [day.seat(always, ahead_frames=25) for _ in range(8)]
    await day.run(200)
    for seat in seats:
        assert seat.count(10) == (190, 0, 0)
    assert sum(actor.alone for actor in engine.actors) == 0
    sizes = [len(actors) for actors in engine.thought]
    assert sum(sizes[5:]) / len(sizes[5:]) >= 4, "8 sessions every 5 frames: fewer, larger batches"


async def test_motion_is_worked_out_before_it_is_needed():
    engine = ThoughtfulEngine(pose_ms=1.0, think_ms=5.0)
    day = Day(engine)
    seat = day.seat(always)
    await day.run(50)
    assert seat.count() == (50, 0, 0)
    assert engine.actors[0].alone == 0
    # 50 frames are 10 windows; two more at most lie ready.
    assert 10 <= len(engine.thought) <= 12


async def test_idle_sessions_think_only_of_speech_they_heard():
    engine = ThoughtfulEngine(pose_ms=1.0, think_ms=5.0)
    day = Day(engine)
    day.seat(never)
    await day.run(25)
    assert engine.thought == []


async def test_a_frame_in_need_does_not_wait_for_a_full_batch():
    """A batch of sixteen would take 160 ms: longer than any frame has."""
    engine = ThoughtfulEngine(pose_ms=0.5, think_ms=0.0, think_each_ms=6.0)
    day = Day(engine)
    seats = [day.seat(always) for _ in range(16)]
    await day.run(100)
    sizes = [len(actors) for actors in engine.thought]
    # The first one is a surprise, as nobody knows yet what it costs.
    assert max(sizes[10:]) <= 8
    late = sum(seat.count(25)[2] for seat in seats)
    assert late <= 0.1 * 16 * 75


async def test_who_runs_dry_first_is_thought_for_first():
    engine = ThoughtfulEngine(pose_ms=1.0, think_ms=1.0, think_batch=2)
    day = Day(engine)
    for _ in range(4):
        day.seat(always)
    for actor, known in zip(engine.actors, (4, 1, 3, 2), strict=True):
        actor.known = known
    await day.run(1)
    order = [engine.actors.index(actor) for actors in engine.thought for actor in actors]
    assert order[:2] == [1, 3] or order[:1] == [1], order


async def test_one_session_s_fault_is_its_own():
    engine = ThoughtfulEngine(pose_ms=1.0, think_ms=1.0)
    day = Day(engine)
    good, bad = day.seat(always), day.seat(always)
    engine.actors[1].broken = RuntimeError("a broken session")
    await day.run(50)
    assert good.count() == (50, 0, 0)
    assert bad.count()[0] < 50
