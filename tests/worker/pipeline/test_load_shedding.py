"""Too much work on a slow engine, on a clock that only the engine moves."""

import asyncio

from tests.fakes.slow_engine import Day, SlowEngine
from worker.pipeline.load_shedding import LoadShedding

S = 1_000_000_000


def always(frame: int) -> bool:
    return True


def never(frame: int) -> bool:
    return False


async def test_idle_faces_give_way_and_speech_keeps_every_picture():
    """Nine sessions of 25 frames/s, time for 166 pictures a second."""
    day = Day(SlowEngine(pose_ms=6.0, batch=1))
    speaking = [day.seat(always) for _ in range(3)]
    idle = [day.seat(never) for _ in range(6)]
    await day.run(250)
    for seat in speaking:
        assert seat.count(25) == (225, 0, 0)
    for seat in idle:
        pictures, shed, late = seat.count(25)
        assert 225 // 4 <= pictures < 225
        assert shed > 0
        assert late <= 5


async def test_of_two_that_wait_the_one_that_speaks_is_served_first():
    day = Day(SlowEngine(pose_ms=30.0, batch=1))
    idle, speaking = day.seat(never), day.seat(always)
    day.engine.clock.pass_ms(1)
    deadline_ns = day.engine.clock.now_ns() + 50_000_000
    waits = day.renders.submit(idle.actor_proxy, 0, False, deadline_ns - 1_000_000)
    speaks = day.renders.submit(speaking.actor_proxy, 0, True, deadline_ns)
    day.renders.work()
    await asyncio.sleep(0)
    assert speaks.done()
    assert not waits.done()


async def test_what_was_given_up_is_even_among_idle_faces_and_in_time():
    day = Day(SlowEngine(pose_ms=6.0, batch=1))
    for _ in range(3):
        day.seat(always)
    idle = [day.seat(never) for _ in range(6)]
    await day.run(250)
    rates = [seat.count(50)[0] for seat in idle]
    assert max(rates) - min(rates) <= 0.15 * max(rates)
    for seat in idle:
        without, longest = 0, 0
        for answer in seat.answers[50:]:
            without = 0 if answer.picture is not None else without + 1
            longest = max(longest, without)
        assert longest <= 8, "nobody freezes"


async def test_with_time_for_all_nobody_gives_anything_up():
    day = Day(SlowEngine(pose_ms=4.0, batch=1))
    seats = [day.seat(always) for _ in range(3)] + [day.seat(never) for _ in range(4)]
    await day.run(250)
    assert [seat.count() for seat in seats] == [(250, 0, 0)] * 7


async def test_pictures_come_back_when_the_load_goes():
    day = Day(SlowEngine(pose_ms=6.0, batch=1))
    talkers = [day.seat(lambda frame: frame < 100) for _ in range(3)]
    idle = [day.seat(never) for _ in range(3)]
    for _ in range(3):
        day.seat(lambda frame: frame < 100)
    await day.run(100)
    assert sum(seat.count()[1] for seat in idle) > 0
    day.engine.pose_ms = 3.0
    for seat in talkers:
        seat.answers.clear()
    before = [len(seat.answers) for seat in idle]
    await day.run(300)
    for seat, since in zip(idle, before, strict=True):
        assert seat.count(since + 200) == (100, 0, 0)


async def test_speech_that_just_ended_comes_to_rest_at_full_rate():
    day = Day(SlowEngine(pose_ms=6.0, batch=1))
    for _ in range(3):
        day.seat(always)
    for _ in range(5):
        day.seat(never)
    ends = day.seat(lambda frame: frame < 100)
    await day.run(200)
    assert ends.count(25, 108) == (83, 0, 0)
    assert ends.count(108)[1] > 0


def test_pressure_is_answered_step_by_step_and_let_go_slowly():
    load_shedding = LoadShedding()
    now = 0
    strides = []
    for i in range(400):  # 8 s: two of too much, then nothing to speak of
        now += S // 50
        load_shedding.worked(now, S // 50 if i < 100 else S // 500, 0, late=False)
        strides.append(load_shedding.stride)
    assert strides[40] == 1, "a second has to pass before a share of it is known"
    assert strides[100] == 4
    assert strides[190] == 4, "two seconds of calm first"
    assert strides[399] == 1


def test_it_does_not_give_back_what_there_is_no_time_for():
    load_shedding = LoadShedding()
    now = 0
    for i in range(1000):
        now += S // 50
        # At 70 % of the time, with 60 % more saved: halving the stride would need 90 %.
        load_shedding.worked(now, S * 7 // 500, S * 6 // 500, late=i == 0)
    assert load_shedding.stride == 2
