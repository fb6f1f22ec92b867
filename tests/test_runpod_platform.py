"""The real RunPod SDK, in a process of its own, against a control plane in this one."""

import asyncio
import base64
import io
import json
import os
import signal
import socket
import sys
import wave
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytest.importorskip("runpod", reason="the RunPod SDK is an extra")
aiohttp = pytest.importorskip("aiohttp")

from tests.fakes.runpod_platform import API_KEY, FINAL, RunPodPlatform, ShiftedClock  # noqa: E402
from tests.fakes.runpod_worker import BROKEN_WIDTH  # noqa: E402

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[1]
TOKEN = "session_token_of_the_runpod_tests"
PATIENCE_S = 30.0
SECOND_OF_SPEECH = base64.b64encode(b"\x00\x20\x00\xe0" * 8000).decode()


class Rig:
    """A platform, one worker process of it, and a client's calls."""

    def __init__(self, platform, clock, http, folder) -> None:
        self.platform, self.clock, self.http, self.folder = platform, clock, http, folder
        self.process = None
        self.log = folder / "worker.log"
        self._sessions = 0

    def input(self, **changes):
        picture = io.BytesIO()
        Image.new("RGB", (256, 256), "grey").save(picture, "PNG")
        self._sessions += 1
        name = f"sess_{self._sessions}"
        return {
            "session_id": name,
            "session_token": TOKEN,
            "aspect_ratio": "4:3",
            "size": "128x96",
            "room": {"platform": "file", "path": f"{name}.mp4"},
            "avatar": {"image_base64": base64.b64encode(picture.getvalue()).decode()},
        } | changes

    async def run(self, **changes) -> str:
        body = {"input": self.input(**changes), "policy": {"executionTimeout": 3_600_000}}
        async with self.http.post(f"{self.platform.api}/run", json=body) as answer:
            assert answer.status == 200
            return (await answer.json())["id"]

    async def status(self, job: str):
        async with self.http.get(f"{self.platform.api}/status/{job}") as answer:
            return await answer.json()

    async def until(self, condition, what: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert self.process.returncode is None, f"worker exited while waiting for {what}"
                await asyncio.sleep(0.02)

    async def ready(self, job: str):
        record = self.platform.jobs[job]
        await self.until(
            lambda: record.status in FINAL or any(p["state"] == "ready" for p in record.progress),
            "ready",
        )
        assert record.status not in FINAL, record
        return next(p for p in record.progress if p["state"] == "ready")

    async def final(self, job: str):
        await self.until(lambda: self.platform.jobs[job].status in FINAL, "the result")
        return await self.status(job)

    @asynccontextmanager
    async def client(self, ready, token=TOKEN):
        async with connect(ready["ws"]["direct"]) as socket:
            init = {
                "type": "session.init",
                "session_id": ready["session_id"],
                "session_token": token,
                "events": ["playback", "lifecycle"],
            }
            await socket.send(json.dumps(init))
            assert (await receive(socket, "connection.established"))["session_id"]
            yield socket


async def receive(socket, wanted: str):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message = json.loads(await socket.recv())
            if message["type"] == wanted:
                return message


async def speak(socket) -> None:
    await socket.send(json.dumps({"type": "agent.speak", "audio": SECOND_OF_SPEECH}))
    await socket.send(json.dumps({"type": "agent.speak.end"}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def worker_on_platform(folder: Path, *arguments: str, **settings: str):
    clock = ShiftedClock()
    port = free_port()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    platform = RunPodPlatform(now=clock)
    async with platform.running(), aiohttp.ClientSession(headers=headers) as http:
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RUNPOD_", "AVATAR_WORKER_"))
        }
        environ |= platform.environ("pod1") | {
            "RUNPOD_PUBLIC_IP": "127.0.0.1",
            f"RUNPOD_TCP_PORT_{port}": str(port),
            "AVATAR_WORKER_WS_PORT": str(port),
            "AVATAR_WORKER_RECORD_DIR": str(folder),
            "AVATAR_WORKER_MAX_SESSIONS": "2",
            **settings,
        }
        rig = Rig(platform, clock, http, folder)
        with rig.log.open("wb") as log:
            rig.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.fakes.runpod_worker",
                *arguments,
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield rig
        finally:
            if rig.process.returncode is None:
                # The SDK's heartbeat is a process of its own.
                os.killpg(rig.process.pid, signal.SIGKILL)
            await rig.process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    async with worker_on_platform(tmp_path_factory.mktemp("runpod")) as rig:
        yield rig


async def test_a_session_is_a_job_from_ready_to_usage(rig):
    job = await rig.run()
    ready = await rig.ready(job)
    assert ready["input"] == {"sample_rate": 16000, "format": "pcm_s16le"}
    assert ready["ws"]["proxy"].startswith("wss://pod1-")
    assert (await rig.status(job))["status"] == "IN_PROGRESS"
    async with rig.client(ready) as client:
        await receive(client, "session.ready")
        await speak(client)
        spoken = await receive(client, "agent.speak.ended")
        assert spoken["reason"] == "completed"
        await client.send(json.dumps({"type": "session.end"}))
        await receive(client, "session.ended")
    result = await rig.final(job)
    assert result["status"] == "COMPLETED", result
    output = result["output"]
    assert (output["state"], output["end_reason"]) == ("ended", "client_request")
    assert output["ws"] == ready["ws"]
    usage = output["usage"]
    assert usage["seconds"] >= usage["speech_seconds"] == pytest.approx(1.0, abs=0.01)
    assert usage["frames"] >= 25
    assert usage["latency_ms"]["p50"] > 0
    assert (rig.folder / f"{ready['session_id']}.mp4").stat().st_size > 1000


async def test_progress_is_in_order_and_nothing_follows_the_result(rig):
    rig.platform.progress_delays.extend([0.3, 0.0, 0.1])
    job = await rig.run()
    ready = await rig.ready(job)
    async with rig.client(ready):
        pass
    result = await rig.final(job)
    assert result["output"]["end_reason"] == "websocket_closed"
    record = rig.platform.jobs[job]
    assert [p["state"] for p in record.progress] == ["starting", "joining", "ready"]
    sequence = [p["seq"] for p in [*record.progress, record.output]]
    assert sequence == sorted(set(sequence))
    await asyncio.sleep(0.3)
    assert record.late == []


async def test_two_sessions_at_once_on_one_worker(rig):
    jobs = [await rig.run(), await rig.run()]
    first, second = [await rig.ready(job) for job in jobs]
    async with rig.client(first) as one, rig.client(second) as other:
        await asyncio.gather(speak(one), speak(other))
        for client in (one, other):
            assert (await receive(client, "agent.speak.ended"))["reason"] == "completed"
    results = [await rig.final(job) for job in jobs]
    assert [result["status"] for result in results] == ["COMPLETED"] * 2
    assert {result["output"]["session_id"] for result in results} == {
        first["session_id"],
        second["session_id"],
    }


async def test_a_job_brings_its_own_speech(rig):
    wav = io.BytesIO()
    with wave.open(wav, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(base64.b64decode(SECOND_OF_SPEECH))
    job = await rig.run(speech={"audio_base64": base64.b64encode(wav.getvalue()).decode()})
    result = await rig.final(job)
    assert result["status"] == "COMPLETED", result
    assert result["output"]["end_reason"] == "client_request"
    assert result["output"]["usage"]["speech_seconds"] == pytest.approx(1.0, abs=0.01)


async def test_cancel_ends_the_session_and_tells_the_client(rig):
    job = await rig.run()
    ready = await rig.ready(job)
    async with rig.client(ready) as client:
        await speak(client)
        await receive(client, "agent.speak.started")
        async with rig.http.post(f"{rig.platform.api}/cancel/{job}") as answer:
            assert (await answer.json())["status"] == "CANCELLED"
        assert (await receive(client, "session.ended"))["reason"] == "client_request"
    assert rig.platform.jobs[job].late == []
    assert (await rig.status(job))["status"] == "CANCELLED"
    # The slot is free again, and the session's room was left.
    jobs = [await rig.run(), await rig.run()]
    for each in jobs:
        async with rig.client(await rig.ready(each)):
            pass
        await rig.final(each)


async def test_the_platforms_time_limit_ends_the_session(rig):
    job = await rig.run()
    async with rig.client(await rig.ready(job)) as client:
        rig.clock.added += 3601
        await receive(client, "session.ended")
    assert (await rig.status(job))["status"] == "TIMED_OUT"


async def test_the_sessions_own_time_limit_completes_the_job(rig):
    job = await rig.run(max_duration_s=0.6)
    result = await rig.final(job)
    assert result["status"] == "COMPLETED"
    assert result["output"]["end_reason"] == "expired"


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"session_token": "short"}, "INVALID_BODY", "session_token"),
        ({"max_duration_s": -1}, "INVALID_BODY", "max_duration_s"),
        ({"aspect_ratio": "16:9"}, "INVALID_ASPECT_RATIO", "aspect ratio"),
        ({"size": f"{BROKEN_WIDTH}x84"}, "INTERNAL_ERROR", "Internal server error"),
    ],
)
async def test_errors_are_ours_and_show_no_inside(rig, changes, code, names):
    result = await rig.final(await rig.run(**changes))
    assert result["status"] == "FAILED"
    error = json.loads(result["error"])["error"]
    assert error["code"] == code
    assert names in error["message"]
    for secret in ("Traceback", "inside of the engine", TOKEN, "hostname"):
        assert secret not in json.dumps(result)


async def test_a_result_outlives_a_failing_control_plane(rig):
    job = await rig.run(max_duration_s=1.0)
    await rig.ready(job)
    rig.platform.fail_done = 1
    assert (await rig.final(job))["output"]["end_reason"] == "expired"


async def test_the_heartbeat_names_the_running_jobs(rig):
    job = await rig.run()
    async with rig.client(await rig.ready(job)):
        await rig.until(
            lambda: any(job in ping.get("job_id", "") for ping in rig.platform.pings), "a ping"
        )
    await rig.final(job)


async def test_a_stopped_worker_lets_sessions_know_and_answers_every_job(tmp_path):
    async with worker_on_platform(tmp_path, AVATAR_WORKER_DRAIN_TIMEOUT_S="2.5") as rig:
        job = await rig.run()
        ready = await rig.ready(job)
        async with rig.client(ready) as client:
            await speak(client)
            await receive(client, "agent.speak.started")
            await rig.until(lambda: rig.platform.polls.get("job-take"), "an open poll")
            rig.process.send_signal(signal.SIGTERM)
            assert (await receive(client, "session.draining"))["reason"] == "server_shutdown"
            # By now the SDK starts no more jobs, but a poll that is still open brings one.
            await asyncio.sleep(0.5)
            stray = await rig.run()
            refused = await rig.final(stray)
            assert refused["status"] == "FAILED"
            assert json.loads(refused["error"])["error"]["code"] == "DRAINING"
            assert (await receive(client, "session.ended"))["reason"] == "server_shutdown"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd.code == 1001
        async with asyncio.timeout(PATIENCE_S):
            assert await rig.process.wait() == 0
        result = await rig.status(job)
        assert result["status"] == "COMPLETED"
        assert result["output"]["end_reason"] == "server_shutdown"
        record = rig.platform.jobs[job]
        assert [p["state"] for p in record.progress][-1] == "draining"
        assert record.late == []


async def test_a_worker_without_an_engine_reports_itself_and_takes_no_job(tmp_path):
    async with worker_on_platform(tmp_path, "--without-weights") as rig:
        await rig.run()
        async with asyncio.timeout(PATIENCE_S):
            assert await rig.process.wait() == 1
        [ping] = rig.platform.pings
        assert ping["status"] == "unhealthy"
        assert "weights are missing" in ping["reason"]
        assert rig.platform.jobs["job-1"].status == "IN_QUEUE"


async def test_a_worker_can_be_stopped_while_it_warms_up(tmp_path):
    async with worker_on_platform(tmp_path, "--slow") as rig:
        await rig.until(lambda: "loading" in rig.log.read_text(), "the engine")
        rig.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await rig.process.wait() == 0


async def test_an_idle_worker_leaves_at_once_and_kept_its_secrets(rig):
    await rig.until(lambda: rig.platform.polls.get("job-take-batch"), "an open poll")
    rig.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S / 2):
        assert await rig.process.wait() == 0
    log = rig.log.read_text()
    assert "taking jobs" in log
    assert TOKEN not in log
    assert API_KEY not in log
