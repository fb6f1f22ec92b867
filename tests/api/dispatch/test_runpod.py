"""Serverless workers: against the RunPod of the tests, and once with the real SDK behind it."""

import asyncio
import dataclasses
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr

aiohttp = pytest.importorskip("aiohttp")

import api.dispatch.runpod  # noqa: E402
from api.dispatch.choose import open_dispatcher  # noqa: E402
from api.dispatch.port import NoWorker, OrderRefused, Placement, RoomToJoin  # noqa: E402
from api.dispatch.runpod import RunPodDispatcher  # noqa: E402
from api.settings import ApiSettings, RunPodSettings, SettingsError  # noqa: E402
from tests.api.dispatch.orders import TOKEN, order, stored  # noqa: E402
from tests.fakes.runpod_platform import API_KEY, RunPodPlatform, ShiftedClock  # noqa: E402

ROOM = RoomToJoin("livekit", "wss://lk.example", "token-of-the-room")
ADDRESSES = {"direct": "ws://1.2.3.4:5678/v1/ws", "proxy": "wss://pod1-1.proxy.runpod.net/v1/ws"}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Rig:
    """A dispatcher and the platform it talks to; ``tell`` is what a worker would post."""

    def __init__(self, platform, runpod, clock) -> None:
        self.platform, self.runpod, self.clock = platform, runpod, clock

    async def place(self, session_id="sess_1", **changes):
        placement = await self.runpod.place(order(session_id, room=ROOM, **changes))
        return stored(placement, session_id, platform="livekit", expires_at=None)

    def job(self, session):
        return self.platform.jobs[session.worker.removeprefix("runpod:")]

    def tell(self, session, seq, state, **facts):
        job = self.job(session)
        job.status, job.started = "IN_PROGRESS", job.started or self.platform._now()
        job.output = {"seq": seq, "state": state, "session_id": session.id, **facts}

    def finish(self, session, status, output=None, error=None):
        job = self.job(session)
        job.started = job.started or self.platform._now()
        job.output, job.error = output, error
        self.platform._finish(job, status)

    async def poll(self, session, after_s=10.0):
        self.clock.time += after_s
        return (await self.runpod.poll([session]))[session.id]


@asynccontextmanager
async def rigged(**settings):
    clock, shifted = Clock(), ShiftedClock()
    platform = RunPodPlatform(hold_s=0.1, now=shifted)
    async with platform.running():
        facts = {
            "endpoint_id": "endpoint",
            "api_key": SecretStr(API_KEY),
            "base_url": platform.api.removesuffix("/endpoint"),
            **settings,
        }
        runpod = RunPodDispatcher(RunPodSettings(**facts), now=clock)
        try:
            yield Rig(platform, runpod, clock)
        finally:
            await runpod.aclose()


@pytest.fixture
async def rig():
    async with rigged() as made:
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(api.dispatch.runpod, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(api.dispatch.runpod, "CANCEL_EVERY_S", 0.05)


# Placing


async def test_the_job_is_the_order_with_room_for_its_whole_length(rig):
    expires_at = datetime.now(UTC) + timedelta(hours=2)
    session = await rig.place(expires_at=expires_at)
    job = rig.job(session)
    assert session.worker == f"runpod:{job.id}"
    assert job.input["session_id"] == "sess_1"
    assert job.input["session_token"] == TOKEN
    room = {"platform": "livekit", "url": "wss://lk.example", "token": "token-of-the-room"}
    assert job.input["room"] == room
    assert datetime.fromisoformat(job.input["expires_at"]) == expires_at
    assert "max_duration_s" not in job.input
    assert 7200 < job.execution_timeout_s < 7200 + 300
    assert job.ttl_s > job.execution_timeout_s


async def test_a_session_without_an_end_gets_one():
    async with rigged(max_session_s=3600) as rig:
        job = rig.job(await rig.place(expires_at=None))
        assert job.input["max_duration_s"] == 3600
        assert job.execution_timeout_s > 3600
    async with rigged(max_session_s=7 * 24 * 3600) as rig:
        job = rig.job(await rig.place(expires_at=None))
        assert job.execution_timeout_s == 7 * 24 * 3600, "RunPod takes no more"


async def test_the_same_session_is_one_job(rig):
    placements = await asyncio.gather(*(rig.runpod.place(order(room=ROOM)) for _ in range(5)))
    assert len(set(placements)) == 1
    assert len(rig.platform.jobs) == 1


async def test_a_picture_that_is_too_large_is_not_sent(rig):
    with pytest.raises(OrderRefused) as refused:
        await rig.place(portrait=bytes(8 * 10**6))
    assert refused.value.code == "IMAGE_TOO_LARGE"
    assert rig.platform.asked == []


async def test_a_wrong_key_is_said_loudly_and_shown_nowhere():
    async with rigged(api_key=SecretStr("rp-another-key")) as rig:
        with structlog.testing.capture_logs() as logs:
            with pytest.raises(NoWorker):
                await rig.place()
            session = stored(Placement("runpod:job-1"))
            assert (await rig.poll(session)).state == "silent"
        loud = [line for line in logs if line["log_level"] == "error"]
        assert "AVATAR_API_RUNPOD__API_KEY" in loud[0]["event"]
        for secret in ("rp-another-key", TOKEN, "token-of-the-room"):
            assert secret not in str(logs)


async def test_an_endpoint_that_is_not_there():
    async with rigged(endpoint_id="another") as rig:
        with pytest.raises(NoWorker):
            await rig.place()


async def test_too_many_requests_are_waited_out_but_not_for_ever(rig):
    rig.platform.refuse.extend([429, 429])
    session = await rig.place()
    assert len(rig.platform.jobs) == 1
    rig.platform.refuse.extend([429])
    assert (await rig.poll(session)).state == "starting"
    rig.platform.refuse.extend([429] * 10)
    with pytest.raises(NoWorker):
        await rig.place("sess_2")
    assert len(rig.platform.jobs) == 1
    rig.platform.refuse.clear()
    await rig.place("sess_2")


async def test_nobody_answers():
    settings = RunPodSettings(
        endpoint_id="endpoint", api_key=SecretStr(API_KEY), base_url="http://127.0.0.1:1/v2"
    )
    runpod = RunPodDispatcher(settings)
    try:
        with pytest.raises(NoWorker):
            await runpod.place(order(room=ROOM))
        session = stored(Placement("runpod:job-1"))
        assert (await runpod.poll([session]))["sess_1"].state == "silent"
        await asyncio.wait_for(runpod.end(session, "expired"), 5)
    finally:
        await runpod.aclose()


# Watching


async def test_a_job_from_the_queue_to_its_end(rig):
    session = await rig.place()
    assert (await rig.poll(session)).state == "starting"
    rig.tell(session, 1, "starting")
    assert (await rig.poll(session)).state == "starting"
    rig.tell(session, 2, "joining")
    joining = await rig.poll(session)
    assert (joining.state, joining.ready, joining.ws_uri) == ("running", False, None)
    rig.tell(session, 3, "ready", ws=ADDRESSES)
    ready = await rig.poll(session)
    assert (ready.state, ready.ready, ready.ws_uri) == ("running", True, ADDRESSES["proxy"])
    rig.tell(session, 4, "draining")
    draining = await rig.poll(session)
    assert (draining.state, draining.ready, draining.ws_uri) == ("running", True, ready.ws_uri)
    ended_at = datetime.now(UTC) - timedelta(seconds=3)
    output = {"end_reason": "room_empty", "ended_at": ended_at.isoformat(), "usage": {}}
    rig.finish(session, "COMPLETED", output)
    over = await rig.poll(session)
    assert (over.state, over.reason, over.ended_at) == ("ended", "room_empty", ended_at)


async def test_progress_that_comes_late_changes_nothing(rig):
    session = await rig.place()
    rig.tell(session, 3, "ready", ws=ADDRESSES)
    assert (await rig.poll(session)).ready
    rig.tell(session, 2, "joining")
    late = await rig.poll(session)
    assert (late.state, late.ready, late.ws_uri) == ("running", True, ADDRESSES["proxy"])


async def test_the_socket_the_operator_asked_for():
    async with rigged(socket="direct") as rig:
        session = await rig.place()
        rig.tell(session, 3, "ready", ws=ADDRESSES)
        assert (await rig.poll(session)).ws_uri == ADDRESSES["direct"]


async def test_another_process_finds_the_session_again(rig):
    session = await rig.place()
    rig.tell(session, 4, "draining")
    session = dataclasses.replace(session, ws_uri=ADDRESSES["proxy"])
    settings = rig.runpod._settings
    other = RunPodDispatcher(settings, now=rig.clock)
    try:
        found = (await other.poll([session]))["sess_1"]
        assert (found.state, found.ready, found.ws_uri) == ("running", True, session.ws_uri)
    finally:
        await other.aclose()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("JOIN_FAILED", "join_failed"),
        ("CONNECTION_LOST", "connection_lost"),
        ("SERVER_ERROR", "server_error"),
        ("NO_FACE", "server_error"),
    ],
)
async def test_a_job_that_failed(rig, error, reason):
    session = await rig.place()
    text = json.dumps({"error": {"code": error, "message": "what went wrong"}})
    rig.finish(session, "FAILED", error=text)
    over = await rig.poll(session)
    assert (over.state, over.reason) == ("ended", reason)
    assert over.detail == f"{error}: what went wrong"


async def test_a_failure_that_is_not_ours_is_not_repeated(rig):
    session = await rig.place()
    rig.finish(session, "FAILED", error=f"Traceback … {TOKEN}")
    over = await rig.poll(session)
    assert (over.state, over.reason) == ("ended", "server_error")
    assert TOKEN not in over.detail


async def test_ends_that_runpod_decides(rig):
    now = datetime.now(UTC)
    cancelled = await rig.place("sess_1")
    rig.finish(cancelled, "CANCELLED")
    assert (await rig.poll(cancelled)).reason == "server_shutdown"
    late = dataclasses.replace(await rig.place("sess_2"), expires_at=now - timedelta(seconds=1))
    rig.finish(late, "TIMED_OUT")
    assert (await rig.poll(late)).reason == "expired"
    early = dataclasses.replace(await rig.place("sess_3"), expires_at=now + timedelta(hours=1))
    rig.finish(early, "TIMED_OUT")
    assert (await rig.poll(early)).reason == "server_error"


async def test_the_end_is_dated_by_runpods_durations_where_the_worker_is_silent(rig):
    session = await rig.place()
    session = dataclasses.replace(session, started_at=datetime.now(UTC) - timedelta(minutes=10))
    job = rig.job(session)
    job.started = job.created + 60
    job.output, job.status, job.finished = None, "CANCELLED", job.created + 300
    rig.platform._now.added = 600  # it is noticed late
    over = await rig.poll(session)
    ran = (over.ended_at - session.started_at).total_seconds()
    assert ran == pytest.approx(300, abs=1)


async def test_a_job_that_has_vanished_is_lost(rig):
    session = await rig.place()
    rig.finish(session, "COMPLETED", {"end_reason": "expired"})
    rig.platform._now.added = 31 * 60
    assert (await rig.poll(session)).state == "lost"


async def test_an_answer_that_is_an_error_is_silence_and_passes(rig):
    session = await rig.place()
    rig.platform.refuse.extend([500])
    assert (await rig.poll(session)).state == "silent"
    assert (await rig.poll(session)).state == "starting"


async def test_a_running_job_is_asked_about_less_often_than_a_starting_one(rig):
    session = await rig.place()
    rig.platform.asked.clear()
    for _ in range(5):
        await rig.poll(session, 1.0)
    assert len(rig.platform.asked) == 5
    rig.tell(session, 3, "ready", ws=ADDRESSES)
    await rig.poll(session, 1.0)
    rig.platform.asked.clear()
    for _ in range(10):
        assert (await rig.poll(session, 1.0)).ready
    assert len(rig.platform.asked) == 2


async def test_what_is_no_job_is_asked_of_nobody(rig):
    for handle in ("http://127.0.0.1:8080", "runpod:../../health", "runpod:", None):
        session = stored(Placement("x"), worker=handle)
        assert (await rig.poll(session)).state == "silent"
        await rig.runpod.end(session, "expired")
    assert rig.platform.asked == []


# Ending


async def test_an_end_cancels_the_job_also_one_that_is_over_or_gone(rig):
    session = await rig.place()
    await rig.runpod.end(session, "minutes_exhausted")
    assert rig.job(session).status == "CANCELLED"
    await rig.runpod.end(session, "client_request")
    del rig.platform.jobs[rig.job(session).id]
    await rig.runpod.end(session, "client_request")


async def test_an_end_that_did_not_get_through_is_repeated(rig):
    session = await rig.place()
    rig.platform.refuse.extend([500])
    await rig.runpod.end(session, "expired")
    assert rig.job(session).status == "IN_QUEUE"
    async with asyncio.timeout(5):
        while rig.job(session).status != "CANCELLED":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# The endpoint


async def test_an_endpoint_that_answers_has_a_worker_to_offer(rig, monkeypatch):
    monkeypatch.setattr(api.dispatch.runpod, "HEALTH_EVERY_S", 0.02)
    assert (await rig.runpod.capacity()).workers == 0
    await rig.runpod.start()
    session = await rig.place()
    rig.tell(session, 1, "starting")

    async def until(workers, running):
        async with asyncio.timeout(5):
            while True:
                now = await rig.runpod.capacity()
                if (now.workers, now.slots, now.running) == (workers, None, running):
                    return
                await asyncio.sleep(0.01)

    await until(1, 1)
    rig.platform.refuse.extend([500] * 10_000)
    await until(0, 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "AVATAR_API_RUNPOD__ENDPOINT_ID"),
        ({"endpoint_id": "abc"}, "AVATAR_API_RUNPOD__API_KEY"),
        ({"endpoint_id": "a/b", "api_key": "k"}, "AVATAR_API_RUNPOD__ENDPOINT_ID"),
    ],
)
def test_what_is_not_set_is_named(settings, named):
    with pytest.raises(SettingsError, match=named):
        open_dispatcher(ApiSettings(dispatcher="runpod", runpod=settings))


# The real SDK


async def test_a_session_on_a_real_worker_of_the_sdk(tmp_path):
    pytest.importorskip("runpod", reason="the RunPod SDK is an extra")
    pytest.importorskip("livekit.rtc", reason="needs the package livekit")
    pytest.importorskip("jwt", reason="needs the package PyJWT")
    from tests.fakes.livekit_server import running_livekit
    from tests.test_runpod_platform import worker_on_platform

    async with (
        running_livekit() as livekit,
        worker_on_platform(tmp_path, AVATAR_WORKER_CANVAS__SCALE="0.1") as worker,
    ):
        settings = RunPodSettings(
            endpoint_id="endpoint",
            api_key=SecretStr(API_KEY),
            base_url=worker.platform.api.removesuffix("/endpoint"),
            socket="direct",
        )
        clock = Clock()
        runpod = RunPodDispatcher(settings, now=clock)

        async def place(session_id):
            room = RoomToJoin("livekit", livekit.url, livekit.token("avatar", session_id))
            placement = await runpod.place(order(session_id, room=room))
            return stored(placement, session_id, platform="livekit")

        async def until(session, wanted):
            async with asyncio.timeout(30):
                while True:
                    clock.time += 10
                    report = (await runpod.poll([session]))[session.id]
                    if wanted(report):
                        return report
                    assert report.state in ("starting", "running"), report
                    await asyncio.sleep(0.05)

        try:
            first, second = await place("sess_1"), await place("sess_2")
            ready = await until(first, lambda report: report.ready)
            await until(second, lambda report: report.ready)
            assert livekit.room("sess_1").peers.keys() == {"avatar"}
            facts = {"session_id": "sess_1", "ws": {"direct": ready.ws_uri}}
            async with worker.client(facts, token=TOKEN) as client:
                await client.send(json.dumps({"type": "session.end"}))
            over = await until(first, lambda report: report.state == "ended")
            assert over.reason == "client_request"
            assert abs((datetime.now(UTC) - over.ended_at).total_seconds()) < 5
            await runpod.end(second, "minutes_exhausted")
            async with asyncio.timeout(10):
                while livekit.room("sess_2").peers:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            await runpod.aclose()
