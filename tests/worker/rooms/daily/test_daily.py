"""The Daily room against a fake of the SDK: joining, playing, being left, leaving."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from models.engine import Canvas
from protocol.events import SegmentEnded, SessionReady
from tests.fakes.clock import FakeClock, settle
from tests.fakes.daily import FakeDaily, NativeAbort
from tests.fakes.engine import FlapEngine
from tests.worker.rooms.signals import SILENCE, flat, tone
from worker.clock import NS_PER_MS, NS_PER_SECOND, SystemClock, samples_to_ns
from worker.metrics import Metrics
from worker.pipeline.render_pool import RenderPool
from worker.rooms.daily.room import DailyRoom
from worker.rooms.daily.sdk import initialise, publishing_settings, split_url
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError
from worker.session import Session
from worker.settings import LifecycleSettings

CANVAS = Canvas(64, 64)
URL = "https://example.daily.co/room"
TOKEN = "eyJ.secret.token"
FRAME_NS = 40 * NS_PER_MS


class Stage(SimpleNamespace):
    """A room, the SDK it uses, and what it told."""

    room: DailyRoom
    sdk: FakeDaily
    clock: FakeClock
    events: list[tuple[str, str]]

    async def connect(self) -> None:
        await self.clock.drive(self.room.connect(self.note))

    def note(self, kind: str, reason: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.events.append((kind, reason))

    async def publish(self, luma: int = 90, audio: np.ndarray = SILENCE) -> None:
        await self.clock.drive(self.room.publish(flat(CANVAS, luma), audio, True))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = new_stage()
    yield stage
    if stage.sdk.clients and stage.sdk.clients[-1]._pending_join is not None:
        stage.sdk.finish_join()
    await stage.clock.drive(stage.room.aclose())
    await releases()
    gc.collect()
    assert stage.sdk.tracks == 0
    assert stage.sdk.violations == []
    assert all(client._released for client in stage.sdk.clients)


@pytest.fixture
async def joined(stage: Stage) -> Stage:
    await stage.connect()
    return stage


async def releases() -> None:
    """Until the SDK has let every client go."""
    for thread in threading.enumerate():
        if thread.name == "daily-release":
            await asyncio.to_thread(thread.join, 10)


def new_stage(**changes: Any) -> Stage:
    clock = FakeClock()
    sdk = FakeDaily(clock)
    settings: dict[str, Any] = {"url": URL, "token": TOKEN, **changes}
    room = DailyRoom(canvas=CANVAS, clock=clock, sdk=sdk, **settings)
    return Stage(clock=clock, sdk=sdk, room=room, events=[])


# Joining


async def test_it_joins_with_its_own_camera_and_microphone_and_takes_nothing_in(
    joined: Stage,
) -> None:
    client = joined.sdk.clients[0]
    assert (client.url, client.token, client.user_name) == (URL, TOKEN, "AI Avatar")
    inputs = client.settings["inputs"]
    ids = {device: inputs[device]["settings"]["customTrack"]["id"] for device in inputs}
    assert set(ids) == {"camera", "microphone"}
    assert set(ids.values()) == joined.sdk._tracks
    assert set(joined.sdk.profiles["base"].values()) == {"unsubscribed"}
    assert joined.room.realtime
    assert joined.room.multi_party


@pytest.mark.parametrize(
    ("canvas", "bitrate"), [(Canvas(640, 640), 1_200_000), (Canvas(1280, 960), 2_500_000)]
)
def test_one_unscaled_layer_with_a_bitrate_for_its_size(canvas: Canvas, bitrate: int) -> None:
    camera = publishing_settings(canvas)["camera"]["sendSettings"]
    assert camera["preferredCodec"] == "VP8"
    assert camera["allowAdaptiveLayers"] is False
    (layer,) = camera["encodings"].values()
    assert layer == {"maxBitrate": bitrate, "maxFramerate": 25, "scaleResolutionDownBy": 1}


async def test_a_token_in_the_address_is_taken_out_of_it() -> None:
    stage = new_stage(url=f"{URL}?t={TOKEN}", token=None)
    await stage.connect()
    assert (stage.sdk.clients[0].url, stage.sdk.clients[0].token) == (URL, TOKEN)
    await stage.room.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "room",
        "http://example.daily.co/room",
        "https://",
        "https://example.daily.co",
        "https://example.daily.co/",
        "https://example.daily.co/a/b",
        "https://user:pass@example.daily.co/room",
        "https://exa mple/room?t=hidden",
        "https://[::1/room?t=hidden",
    ],
)
async def test_what_is_no_rooms_address_never_reaches_the_sdk(url: str) -> None:
    stage = new_stage(url=url)
    with pytest.raises(RoomError, match=r"looks like https://your-domain\.daily\.co") as error:
        await stage.connect()
    assert "hidden" not in str(error.value)
    assert stage.sdk.clients == []
    await stage.room.aclose()


def test_an_address_keeps_its_port_and_loses_everything_that_could_be_secret() -> None:
    assert split_url("https://a.daily.co:443/r/?t=x&y=z#f", "mine") == (
        "https://a.daily.co:443/r/",
        "mine",
    )


async def test_a_refused_join_is_told_without_the_token_and_released(stage: Stage) -> None:
    stage.sdk.join_error = f"invalid token {TOKEN}"
    with capture_logs() as logs, pytest.raises(RoomError, match="refused: invalid") as error:
        await stage.connect()
    assert TOKEN not in str(error.value)
    assert TOKEN not in repr(logs)
    assert error.value.__cause__ is None
    assert stage.sdk.log == ["join", "release"]
    assert stage.events == []
    with pytest.raises(RoomError, match="refused"):
        await stage.publish()
    with pytest.raises(RoomError, match="once"):
        await stage.connect()


async def test_an_unknown_room_is_told_with_what_to_check(stage: Stage) -> None:
    stage.sdk.join_error = "Connection(Api(RoomLookup(RoomInfoFetchFailed)))"
    with pytest.raises(RoomError, match="cannot be reached or does not know the room"):
        await stage.connect()


async def test_joining_ends_after_fifteen_seconds_whatever_the_sdk_does(stage: Stage) -> None:
    stage.sdk.hold_join = True
    begun, really_begun = stage.clock.now_ns(), time.monotonic()
    with pytest.raises(RoomError, match="within 15 s"):
        await stage.connect()
    assert stage.clock.now_ns() - begun == 15 * NS_PER_SECOND
    # Nobody waits for the SDK to notice, either.
    assert time.monotonic() - really_begun < 5
    assert stage.sdk.log == ["join", "release"]
    # The SDK goes on trying, and its client and tracks live until it has given up.
    assert stage.sdk.tracks == 2
    stage.sdk.finish_join()
    await releases()
    await settle()
    assert stage.sdk.tracks == 0
    assert stage.events == []


async def test_a_slow_join_succeeds(stage: Stage) -> None:
    stage.sdk.join_delay_ns = 14 * NS_PER_SECOND
    await stage.connect()
    await stage.publish()


async def test_a_join_that_is_given_up_leaves_nothing(stage: Stage) -> None:
    stage.sdk.hold_join = True
    joining = asyncio.create_task(stage.room.connect(stage.note))
    await settle()
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    await stage.room.aclose()
    assert stage.sdk.log == ["join", "release"]
    assert stage.clock.sleeping == 0


async def test_tracks_that_daily_does_not_take_are_an_error_not_a_black_picture(
    stage: Stage,
) -> None:
    stage.sdk.ignore_inputs = True
    with pytest.raises(RoomError, match="within 15 s"):
        await stage.connect()
    assert "join" not in stage.sdk.log


async def test_the_sdk_is_initialised_once_however_many_rooms_begin_at_once() -> None:
    clock = FakeClock()
    sdk = FakeDaily(clock)
    together = threading.Barrier(8)

    def begin() -> None:
        together.wait()
        initialise(sdk)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        room = DailyRoom(URL, TOKEN, CANVAS, clock=clock, sdk=sdk)
        await room.connect(lambda kind, reason: None)
        await room.aclose()
    assert sdk.inits == 1


async def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "daily", None)
    room = DailyRoom(URL, TOKEN, CANVAS)
    with pytest.raises(RoomError, match="install"):
        await room.connect(lambda kind, reason: None)
    await room.aclose()


# Picture and sound


async def test_the_sound_heard_is_the_sound_published_without_a_gap(joined: Stage) -> None:
    blocks = [tone(n) for n in range(50)]
    for block in blocks:
        await joined.publish(audio=block)
    await joined.clock.advance(NS_PER_SECOND)
    heard = joined.sdk.heard
    assert b"".join(pcm for _, pcm in heard) == b"".join(block.tobytes() for block in blocks)
    first_ns = heard[0][0]
    for n, (start_ns, pcm) in enumerate(heard):
        assert len(pcm) == 2 * 480
        assert start_ns == first_ns + samples_to_ns(n * 480, 48_000)
    assert joined.room.played == 50 * SAMPLES_PER_FRAME


async def test_every_picture_is_shown_when_its_own_sound_begins(joined: Stage) -> None:
    for n in range(20):
        await joined.publish(luma=20 + n)
    await joined.clock.advance(NS_PER_SECOND)
    first_ns = joined.sdk.heard[0][0]
    shown = [(at_ns - first_ns, picture[0]) for at_ns, picture in joined.sdk.shown]
    assert shown == [(n * FRAME_NS, 20 + n) for n in range(20)]
    assert all(len(picture) == 64 * 96 for _, picture in joined.sdk.shown)


async def test_pictures_and_sound_stay_together_after_the_process_was_held_up(
    joined: Stage,
) -> None:
    for n in range(3):
        await joined.publish(luma=20 + n, audio=tone(n))
    await joined.clock.suspend(333 * NS_PER_MS)
    for n in range(3, 6):
        await joined.publish(luma=20 + n, audio=tone(n))
    await joined.clock.advance(NS_PER_SECOND)
    begins = [at_ns for at_ns, _ in joined.sdk.heard[::4]]
    assert [pcm for _, pcm in joined.sdk.heard[::4]] == [tone(n).tobytes()[:960] for n in range(6)]
    assert joined.sdk.shown == [
        (at_ns, flat(CANVAS, 20 + n).tobytes()) for n, at_ns in enumerate(begins)
    ]


async def test_no_more_than_sixty_milliseconds_are_ever_out_of_reach(joined: Stage) -> None:
    chance = random.Random(1)
    for _ in range(200):
        await joined.publish()
        await joined.clock.advance(chance.choice([0, 0, 7, 40, 90]) * NS_PER_MS)
    assert 0 < joined.sdk.most_in_flight <= 60 * 48


@pytest.mark.parametrize("into_ms", [0, 5, 10, 15, 25, 39])
async def test_clear_takes_back_all_that_daily_does_not_have(joined: Stage, into_ms: int) -> None:
    await joined.publish(luma=50)
    await joined.clock.advance(into_ms * NS_PER_MS)
    waiting = asyncio.create_task(joined.room.publish(flat(CANVAS, 51), tone(1), True))
    await settle()
    handed_over = sum(len(pcm) // 2 for _, pcm in joined.sdk.heard)
    assert joined.room.clear() == 2 * SAMPLES_PER_FRAME - handed_over
    await joined.clock.drive(waiting)
    await joined.clock.advance(NS_PER_SECOND)
    assert joined.room.played == handed_over
    assert sum(len(pcm) // 2 for _, pcm in joined.sdk.heard) == handed_over
    # A picture goes with its sound: shown if any of that was heard.
    expected = [50, 51] if handed_over > SAMPLES_PER_FRAME else [50]
    assert [picture[0] for _, picture in joined.sdk.shown] == expected


async def test_what_follows_a_clear_is_heard_within_forty_milliseconds(joined: Stage) -> None:
    await joined.publish()
    await joined.clock.advance(15 * NS_PER_MS)
    publishing = asyncio.create_task(joined.room.publish(None, tone(3), True))
    await settle()
    joined.room.clear()
    await joined.clock.drive(publishing)
    cleared_ns = joined.clock.now_ns()
    loud = tone(9)
    await joined.clock.drive(joined.room.publish(None, loud, True))
    start_ns = next(at for at, pcm in joined.sdk.heard if pcm == loud.tobytes()[:960])
    assert 0 <= start_ns - cleared_ns <= FRAME_NS


async def test_a_thousand_interruptions_keep_the_count_exact(joined: Stage) -> None:
    chance = random.Random(7)
    published = cleared = 0
    for _ in range(1000):
        work = asyncio.create_task(joined.room.publish(None, SILENCE, True))
        published += SAMPLES_PER_FRAME
        await joined.clock.advance(chance.randrange(60) * NS_PER_MS)
        cleared += joined.room.clear()
        await joined.clock.drive(work)
    await joined.clock.advance(NS_PER_SECOND)
    assert cleared
    assert joined.room.played == published - cleared


async def test_a_publish_that_was_cancelled_does_not_let_the_next_one_crowd_in(
    joined: Stage,
) -> None:
    await joined.publish()
    given_up = asyncio.create_task(joined.room.publish(None, SILENCE, True))
    await settle()
    given_up.cancel()
    await settle()
    following = asyncio.create_task(joined.room.publish(None, SILENCE, True))
    await settle()
    # Two blocks are inside, of which Daily has one; the third is still outside.
    assert joined.room.clear() == SAMPLES_PER_FRAME
    await joined.clock.drive(following)
    await joined.clock.advance(NS_PER_SECOND)
    assert joined.room.played == 2 * SAMPLES_PER_FRAME


async def test_an_sdk_that_stops_playing_ends_the_waiting(joined: Stage) -> None:
    await joined.publish()
    joined.sdk.deaf = True
    with pytest.raises(RoomError, match="stopped taking"):
        await joined.publish()


# Others in the call


async def test_who_is_there_is_counted_and_the_last_one_leaving_is_told(stage: Stage) -> None:
    stage.sdk.present["anna"] = {"id": "anna"}
    await stage.connect()
    assert stage.room.viewers == 1
    stage.sdk.arrive("ben")
    stage.sdk.depart("anna")
    await settle()
    assert stage.room.viewers == 1
    assert [kind for kind, _ in stage.events] == ["participant_joined"]
    stage.sdk.depart("ben")
    await settle()
    assert stage.room.viewers == 0
    assert [kind for kind, _ in stage.events] == ["participant_joined", "participant_left"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Participant was ejected", "removed"),
        ("the signaling connection was lost", "connection_lost"),
        ("room expired", "the Daily call has ended: room expired"),
        (f"odd {TOKEN}", "the Daily call has ended: odd ***"),
        (None, "the Daily call has ended"),
    ],
)
async def test_a_lost_call_is_told_once_and_wakes_whoever_publishes(
    joined: Stage, error: str | None, reason: str
) -> None:
    await joined.publish()
    waiting = asyncio.create_task(joined.room.publish(None, SILENCE, True))
    await settle()
    joined.sdk.lose(error)
    await settle()
    assert joined.events == [("closed", reason)]
    with pytest.raises(RoomError, match="the Daily call has ended"):
        await waiting
    with pytest.raises(RoomError, match="the Daily call has ended"):
        await joined.publish()
    await joined.room.aclose()
    assert joined.sdk.log == ["join", "release"]


async def test_messages_go_to_all_or_to_one_and_a_refusal_is_an_error(joined: Stage) -> None:
    await joined.room.send_message({"state": "ready"})
    await joined.room.send_message({"state": "ready"}, "anna")
    assert joined.sdk.messages == [({"state": "ready"}, None), ({"state": "ready"}, "anna")]
    with pytest.raises(ValueError, match="JSON"):
        await joined.room.send_message(object())
    joined.sdk.clients[0]._state = "joining"
    with pytest.raises(RoomError, match="ChannelNotOpen"):
        await joined.room.send_message({})
    await settle()
    # The SDK repeats a request's failure as an error event; the call goes on.
    assert joined.events == []
    joined.sdk.say({"hello": 1}, "anna")
    await joined.publish()
    joined.sdk.clients[0]._state = "joined"
    assert joined.room.stats()["quality"] == 100


# Leaving


async def test_leaving_says_goodbye_releases_and_then_lets_the_tracks_go(joined: Stage) -> None:
    await joined.publish()
    release_on: list[threading.Thread] = []
    release = joined.sdk.clients[0].release

    def watched() -> None:
        release_on.append(threading.current_thread())
        assert joined.sdk.tracks == 2
        release()

    joined.sdk.clients[0].release = watched
    await asyncio.gather(joined.room.aclose("expired"), joined.room.aclose())
    assert joined.sdk.log == ["join", "leave", "release"]
    assert release_on
    assert release_on[0] is not threading.main_thread()
    assert joined.sdk.tracks == 0
    assert joined.events == []


async def test_a_goodbye_that_is_never_answered_is_not_waited_for(joined: Stage) -> None:
    joined.sdk.hold_leave = True
    begun = joined.clock.now_ns()
    await joined.clock.drive(joined.room.aclose())
    assert joined.clock.now_ns() - begun == 5 * NS_PER_SECOND
    assert joined.sdk.log == ["join", "leave", "release"]


async def test_what_comes_after_leaving_is_ignored(joined: Stage) -> None:
    await joined.publish()
    await joined.room.aclose()
    played = joined.room.played
    assert joined.sdk.complete_late() > 0
    await settle()
    assert joined.room.played == played
    assert joined.room.viewers == 0
    assert joined.room.stats() == {}
    with pytest.raises(RoomError):
        await joined.room.send_message({})
    assert joined.events == []


async def test_a_source_is_lent_to_the_next_room_only_when_it_has_fallen_silent(
    joined: Stage,
) -> None:
    await joined.publish()
    await joined.room.aclose()

    async def next_room() -> None:
        room = DailyRoom(URL, TOKEN, CANVAS, clock=joined.clock, sdk=joined.sdk)
        await joined.clock.drive(room.connect(joined.note))
        await room.aclose()

    await next_room()
    assert len(joined.sdk.audio_sources) == 2
    joined.sdk.complete_late()
    await settle()
    await next_room()
    await next_room()
    assert len(joined.sdk.audio_sources) == 2


async def test_a_source_is_not_lent_while_a_call_might_still_hear_it(stage: Stage) -> None:
    """Neither while a given-up join may yet succeed nor while Daily has not let us go."""
    stage.sdk.hold_join = True
    with pytest.raises(RoomError):
        await stage.connect()
    given_up, stage.sdk.hold_join = stage.sdk.clients[0], False
    second = DailyRoom(URL, TOKEN, CANVAS, clock=stage.clock, sdk=stage.sdk)
    await stage.clock.drive(second.connect(stage.note))
    assert len(stage.sdk.audio_sources) == 2
    stage.sdk.hold_leave = True
    leaving = asyncio.create_task(second.aclose())
    await settle()
    third = DailyRoom(URL, TOKEN, CANVAS, clock=stage.clock, sdk=stage.sdk)
    await third.connect(stage.note)
    assert len(stage.sdk.audio_sources) == 3
    await stage.clock.drive(leaving)
    await stage.clock.drive(third.aclose())
    fourth = DailyRoom(URL, TOKEN, CANVAS, clock=stage.clock, sdk=stage.sdk)
    await fourth.connect(stage.note)
    assert len(stage.sdk.audio_sources) == 3
    await stage.clock.drive(fourth.aclose())
    given_up._pending_join = None
    given_up._join_over.set()


def test_a_completion_after_the_loop_has_gone_is_ignored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def session() -> FakeDaily:
        stage = new_stage()
        await stage.connect()
        await stage.publish()
        await stage.room.aclose()
        await settle()
        return stage.sdk

    assert asyncio.run(session()).complete_late() > 0
    assert "Traceback" not in capfd.readouterr().err


async def test_two_hundred_sessions_leave_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    rooms = []
    clock = FakeClock()
    sdk = FakeDaily(clock)
    for n in range(200):
        room = DailyRoom(URL, TOKEN, CANVAS, clock=clock, sdk=sdk)
        sdk.join_error = "no" if n % 5 == 0 else None
        try:
            await room.connect(lambda kind, reason: None)
            await clock.drive(room.publish(None, SILENCE, False))
        except RoomError:
            assert n % 5 == 0
        await room.aclose()
        rooms.append(weakref.ref(room))
        sdk.complete_late()
        await settle()
        sdk.clients.clear()
        sdk.heard.clear()
        sdk.shown.clear()
    del room
    await settle()
    gc.collect()
    assert sdk.tracks == 0
    assert sdk.inits == 1
    assert len(sdk.audio_sources) == 1
    assert not any(ref() is not None for ref in rooms)
    assert set(threading.enumerate()) <= threads
    assert len(asyncio.all_tasks()) == 1


# A whole session


@pytest.fixture
async def play() -> AsyncIterator[Callable[[FakeDaily], Session]]:
    engine = FlapEngine()
    renders = RenderPool(engine, time.monotonic_ns)
    renders.start()
    identity = engine.prepare(np.zeros((1, 1, 3), np.uint8), CANVAS)
    sessions = []

    def begin(sdk: FakeDaily) -> Session:
        session = Session(
            session_id="s1",
            canvas=CANVAS,
            actor=engine.actor(identity),
            room=DailyRoom(URL, TOKEN, CANVAS, sdk=sdk),
            renders=renders,
            clock=SystemClock(),
            metrics=Metrics(),
            lifecycle=LifecycleSettings(empty_room_grace_s=0.05),
        )
        sessions.append(session)
        session.start()
        return session

    yield begin
    for session in sessions:
        await session.end("client_request")
    renders.stop()


async def test_a_session_speaks_in_the_call_and_ends_with_the_company(
    play: Callable[[FakeDaily], Session],
) -> None:
    sdk = FakeDaily()
    sdk.present["anna"] = {"id": "anna"}
    session = play(sdk)
    events: list[Any] = []
    over = asyncio.Event()

    def note(event: Any) -> None:
        events.append(event)
        if isinstance(event, SegmentEnded):
            over.set()

    session.subscribe(note)
    speech = np.full(12_000, 9_000, np.int16)
    await session.speak(speech.tobytes(), 48_000)
    session.end_speech()
    await asyncio.wait_for(over.wait(), 20)
    heard = np.frombuffer(b"".join(pcm for _, pcm in sdk.heard), np.int16)
    begin = int(np.flatnonzero(heard)[0])
    np.testing.assert_array_equal(heard[begin : begin + len(speech)], speech)
    assert not heard[:begin].any()
    assert not heard[begin + len(speech) :].any()
    (ended,) = (event for event in events if isinstance(event, SegmentEnded))
    assert (ended.reason, ended.playback_position) == ("completed", 0.25)
    assert len(sdk.shown) > 5
    sdk.depart("anna")
    await asyncio.wait_for(session.closed.wait(), 20)
    assert session.end_reason == "room_empty"
    assert sdk.log == ["join", "leave", "release"]
    assert sdk.violations == []


@pytest.mark.parametrize(
    ("error", "reason"), [("Participant was ejected", "removed_from_room"), (None, "room_closed")]
)
async def test_a_session_whose_call_is_lost_says_why(
    play: Callable[[FakeDaily], Session], error: str | None, reason: str
) -> None:
    sdk = FakeDaily()
    session = play(sdk)
    ready = asyncio.Event()
    session.subscribe(lambda event: ready.set() if isinstance(event, SessionReady) else None)
    await asyncio.wait_for(ready.wait(), 20)
    sdk.lose(error)
    await asyncio.wait_for(session.closed.wait(), 20)
    assert session.end_reason == reason


async def test_a_session_that_is_not_let_in_ends_with_that_reason(
    play: Callable[[FakeDaily], Session],
) -> None:
    sdk = FakeDaily()
    sdk.join_error = "no"
    session = play(sdk)
    await asyncio.wait_for(session.closed.wait(), 20)
    assert session.end_reason == "join_failed"
    assert session.failure is not None
    assert session.failure.startswith("Daily refused: no")


# The fake itself


def test_the_fake_refuses_what_ends_the_real_process() -> None:
    sdk: Any = FakeDaily()
    with pytest.raises(NativeAbort, match="before"):
        sdk.CallClient()
    sdk.Daily.init()
    with pytest.raises(NativeAbort, match="twice"):
        sdk.Daily.init()
    client = sdk.CallClient()
    client.release()
    with pytest.raises(RuntimeError, match="released"):
        client.participants()
    assert sdk.violations


def test_the_fake_notices_a_callback_that_waits_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.fakes.daily.PATIENCE_S", 0.1)
    sdk: Any = FakeDaily()
    sdk.Daily.init()
    client = sdk.CallClient()
    answered = threading.Event()

    def wait_inside(error: str | None) -> None:
        client.update_publishing({}, completion=lambda error: answered.set())
        answered.wait(0.4)

    with pytest.raises(NativeAbort, match="deadlock"):
        client.update_publishing({}, completion=wait_inside)
