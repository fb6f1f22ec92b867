"""What of the real ``daily-python`` works without Daily, and that the fake does the same."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from models.engine import Canvas
from tests.fakes.daily import _CLASSES, FakeDaily
from worker.clock import NS_PER_SECOND, SystemClock
from worker.rooms.daily.audio import IN_FLIGHT, AudioFeed, borrow_source
from worker.rooms.daily.room import DailyRoom
from worker.rooms.daily.sdk import NO_SUBSCRIPTIONS, initialise, input_settings, publishing_settings
from worker.rooms.port import RoomError

daily = pytest.importorskip("daily", reason="daily-python is not installed", exc_type=ImportError)

CANVAS = Canvas(64, 64)
PICTURE = bytes(64 * 64 * 3 // 2)
TEN_MS = bytes(2 * 480)


@pytest.fixture(params=["fake", "real"])
async def sdk(request: pytest.FixtureRequest) -> Any:
    module = FakeDaily() if request.param == "fake" else daily
    initialise(module)
    return module


async def ask(method: Callable[..., None], *args: Any) -> Any:
    """The last argument of the completion: None or an error."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    method(*args, completion=lambda *got: loop.call_soon_threadsafe(answer.set_result, got[-1]))
    return await asyncio.wait_for(answer, 10)


def _signature(thing: Any) -> list[tuple[str, Any]]:
    parameters = inspect.signature(thing).parameters.values()
    return [(p.name, p.default) for p in parameters if p.name != "self"]


@pytest.mark.parametrize("name", _CLASSES)
def test_the_fake_has_the_real_signatures(name: str) -> None:
    fake, real = getattr(FakeDaily(), name), getattr(daily, name)
    if name != "Daily":
        assert _signature(fake) == _signature(real)
    methods = [m for m in dir(fake) if not m.startswith("_") and callable(getattr(fake, m))]
    assert methods or name.endswith("Track")
    for method in methods:
        assert _signature(getattr(fake, method)) == _signature(getattr(real, method)), method


# Devices


async def test_a_video_source_takes_bytes_of_the_right_length_only(sdk: Any) -> None:
    source = sdk.CustomVideoSource(64, 64, "I420")
    source.write_frame(PICTURE)
    for wrong in (PICTURE[:-1], PICTURE + b"x", b""):
        with pytest.raises(ValueError, match="size mismatch"):
            source.write_frame(wrong)
    for wrong in (bytearray(PICTURE), memoryview(PICTURE)):
        with pytest.raises(TypeError, match="bytes"):
            source.write_frame(wrong)


async def test_an_audio_source_takes_whole_samples_as_bytes(sdk: Any) -> None:
    source = borrow_source(sdk)
    with pytest.raises(ValueError, match="16-bit"):
        source.write_frames(b"abc", completion=lambda frames: None)
    with pytest.raises(TypeError, match="bytes"):
        source.write_frames(bytearray(TEN_MS), completion=lambda frames: None)


async def test_what_is_no_multiple_of_ten_milliseconds_is_reported_at_once(sdk: Any) -> None:
    source = borrow_source(sdk)
    played: list[int] = []
    source.write_frames(TEN_MS + b"ab", completion=played.append)
    assert played == [481]


async def test_sound_is_played_in_order_in_real_time_and_reported_from_another_thread(
    sdk: Any,
) -> None:
    source = borrow_source(sdk)
    reports: list[tuple[int, int, float]] = []
    begun = time.monotonic()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for n in range(30):

        def note(frames: int, n: int = n) -> None:
            assert threading.current_thread() is not threading.main_thread()
            reports.append((n, frames, time.monotonic() - begun))
            if n == 29:
                loop.call_soon_threadsafe(over.set)

        assert source.write_frames(TEN_MS, completion=note) == 480
    assert time.monotonic() - begun < 0.2
    await asyncio.wait_for(over.wait(), 10)
    assert [(n, frames) for n, frames, _ in reports] == [(n, 480) for n in range(30)]
    # A loaded machine may report late; early would mean that sound was skipped.
    assert all(at_s > n * 0.01 - 0.005 for n, _, at_s in reports)
    assert reports[-1][2] < 5


async def test_our_queue_in_front_can_be_cleared_and_counts_exactly(sdk: Any) -> None:
    feed = AudioFeed(borrow_source(sdk), SystemClock())
    begun = time.monotonic()
    feed.push(TEN_MS * 20)
    await feed.space(0)
    assert 0.15 < time.monotonic() - begun < 3
    assert feed.played == 20 * 480
    feed.push(TEN_MS * 100)
    assert feed.in_flight == IN_FLIGHT
    cleared = feed.clear()
    assert cleared == 100 * 480 - IN_FLIGHT
    await feed.space(0)
    assert feed.played == 120 * 480 - cleared
    feed.close("over")
    with pytest.raises(RoomError, match="over"):
        feed.push(TEN_MS)


@pytest.mark.parametrize("wrong", [b"", TEN_MS[:-2], bytearray(TEN_MS)])
async def test_our_queue_refuses_what_the_sdk_would_miscount(sdk: Any, wrong: Any) -> None:
    feed = AudioFeed(borrow_source(sdk), SystemClock())
    with pytest.raises(ValueError, match="10 ms"):
        feed.push(wrong)


# Calls


async def test_our_settings_are_accepted_and_the_tracks_taken(sdk: Any) -> None:
    loop = asyncio.get_running_loop()
    inputs: asyncio.Queue[Any] = asyncio.Queue()

    class Handler(sdk.EventHandler):
        def on_inputs_updated(self, input_settings: Any) -> None:
            loop.call_soon_threadsafe(inputs.put_nowait, input_settings)

    video, audio = sdk.CustomVideoSource(64, 64, "I420"), borrow_source(sdk)
    tracks = [sdk.CustomVideoTrack(video), sdk.CustomAudioTrack(audio)]
    client = sdk.CallClient(event_handler=Handler())
    wanted = input_settings(*(track.id for track in tracks))
    assert await ask(client.update_subscription_profiles, NO_SUBSCRIPTIONS) is None
    assert await ask(client.update_publishing, publishing_settings(CANVAS)) is None
    assert await ask(client.update_inputs, wanted) is None
    taken = await asyncio.wait_for(inputs.get(), 10)
    assert {device: taken[device] for device in wanted} == wanted
    if sdk is daily:
        camera = client.publishing()["camera"]["sendSettings"]
        assert camera["encodings"] == {
            "low": {"maxBitrate": 1_200_000, "maxFramerate": 25.0, "scaleResolutionDownBy": 1.0}
        }
        assert camera["allowAdaptiveLayers"] is False
    client.release()


@pytest.mark.parametrize("layers", [[{"quality": "high"}], {"high": {"maxBitrate": 9_000}}])
async def test_layers_that_do_not_begin_with_the_lowest_are_refused(sdk: Any, layers: Any) -> None:
    client = sdk.CallClient()
    settings = {"camera": {"isPublishing": True, "sendSettings": {"encodings": layers}}}
    assert "not valid" in await ask(client.update_publishing, settings)
    client.release()


async def test_a_message_before_joining_is_answered_with_an_error(sdk: Any) -> None:
    client = sdk.CallClient()
    assert "ChannelNotOpen" in await ask(client.send_app_message, {"a": 1}, None)
    client.release()


async def test_an_unreadable_address_is_answered_with_an_error(sdk: Any) -> None:
    client = sdk.CallClient()
    assert "InvalidUrl" in await ask(client.join, "room", None, None)
    client.release()


async def test_a_released_client_refuses_everything(sdk: Any) -> None:
    client = sdk.CallClient()
    client.release()
    for use in (client.participants, client.leave, client.release, client.get_network_stats):
        with pytest.raises(RuntimeError, match="released"):
            use()


async def test_a_room_that_cannot_be_joined_is_an_error_in_time_and_hinders_nobody() -> None:
    for _ in range(2):
        room = DailyRoom(
            "https://nobody.daily.co/no-such-room-at-all", "hidden", CANVAS, join_timeout_s=0.7
        )
        begun = time.monotonic()
        with pytest.raises(RoomError, match="check the room's address") as error:
            await room.connect(lambda kind, reason: None)
        assert time.monotonic() - begun < 5
        assert "hidden" not in str(error.value)
        await room.aclose()
        assert room.clear() == room.played == 0
        del room, error
        gc.collect()
    feed = AudioFeed(borrow_source(daily), SystemClock())
    feed.push(TEN_MS)
    await feed.space(0)


async def test_the_watchdog_leaves_a_playing_source_alone() -> None:
    clock = SystemClock()
    feed = AudioFeed(borrow_source(daily), clock)
    begun_ns = clock.now_ns()
    for _ in range(5):
        feed.push(TEN_MS * 4)
        await feed.space()
    assert clock.now_ns() - begun_ns < 5 * NS_PER_SECOND


# What ends the process, each in one of its own


@pytest.mark.parametrize(
    ("code", "survives"),
    [
        (
            "daily.Daily.init(); s = daily.CustomAudioSource(48000, 1);"
            "s.write_frames(bytes(960), completion=lambda n, s=s: None);"
            "del s; time.sleep(0.5)",
            False,
        ),
        (
            "initialise(daily); s = borrow_source(daily);"
            "s.write_frames(bytes(960), completion=lambda n, s=s: None);"
            "del s; time.sleep(0.5)",
            True,
        ),
        ("daily.Daily.init(); daily.Daily.init()", False),
        ("daily.CallClient()", False),
        ("initialise(daily); initialise(daily); daily.CallClient().release()", True),
        (
            "initialise(daily); s = daily.CustomVideoSource(64, 64, 'I420');"
            "t = daily.CustomVideoTrack(s)",
            True,
        ),
    ],
    ids=[
        "completion held the source last",
        "a lent source",
        "init twice",
        "client before init",
        "our guard",
        "exit with a track alive",
    ],
)
def test_the_guards_stand_where_the_process_would_end(code: str, survives: bool) -> None:
    setup = (
        "import daily, time; from worker.rooms.daily.audio import borrow_source;"
        "from worker.rooms.daily.sdk import initialise; "
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{setup}{code}; print('alive')"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) is survives
    assert ("alive" in done.stdout) is survives
