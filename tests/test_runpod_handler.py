"""The RunPod shell without RunPod: what a job may hold, what it tells, and local runs."""

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import httpx
import pytest
from PIL import Image

from tests.fakes.engine import FlapEngine
from worker.http.errors import ApiError
from worker.runpod.address import listen_port, speech_addresses
from worker.runpod.job import read_job
from worker.runpod.progress import Progress
from worker.runpod.service import JobService, runpod_settings
from worker.runpod.usage import percentiles
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
TOKEN = "session_token_of_the_handler_tests"
PATIENCE_S = 30.0


def job_input(**changes):
    picture = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(picture, "PNG")
    return {
        "session_id": "sess_1",
        "session_token": TOKEN,
        "aspect_ratio": "4:3",
        "size": "128x96",
        "room": {"platform": "file", "path": "out.mp4"},
        "avatar": {"image_base64": base64.b64encode(picture.getvalue()).decode()},
    } | changes


def wav(seconds: float) -> str:
    """Speech as a client would send a file of it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\x00\x20\x00\xe0" * int(8000 * seconds))
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def settings(tmp_path) -> WorkerSettings:
    return WorkerSettings(
        ws_port=0, http_port=0, max_sessions=2, record_dir=tmp_path, drain_timeout_s=0.2
    )


@pytest.fixture
async def service(settings):
    service = JobService(settings, FlapEngine, {})
    yield service
    await service.aclose()


# Input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"session_id": None}, "session_id"),
        ({"session_id": "with space"}, "session_id"),
        ({"session_token": "short"}, "session_token"),
        ({"aspect_ratio": "16:9"}, "aspect ratio"),
        ({"size": "wide"}, "size"),
        ({"room": None}, "Room"),
        ({"room": {"platform": "file", "path": "../out.mp4"}}, "recording path"),
        ({"avatar": {}}, "image is required"),
        ({"avatar": {"image_base64": "%%%"}}, "base64 image"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"max_duration_s": 0}, "max_duration_s"),
        ({"max_duration_s": "long"}, "max_duration_s"),
        ({"speech": {}}, "speech.audio_base64"),
        ({"speech": {"audio_base64": "%%%"}}, "speech.audio_base64"),
        ({"speech": {"audio_base64": "bm8gc291bmQ="}}, "speech.audio_base64"),
        ({"speech": {"audio_base64": "x"}, "room": {"platform": "whep"}}, "speech"),
        ({"metadata": []}, "Metadata"),
    ],
)
def test_a_refusal_names_the_field_and_keeps_the_token(settings, changes, says):
    with pytest.raises(ApiError) as refused:
        read_job(job_input(**changes), settings)
    assert says in refused.value.message
    assert TOKEN not in str(refused.value.__dict__)


@pytest.mark.parametrize("given", [None, "text", [1]])
def test_an_input_must_be_an_object(settings, given):
    with pytest.raises(ApiError, match="input"):
        read_job(given, settings)


def test_the_shorter_of_two_limits_counts(settings):
    soon = datetime.now(UTC) + timedelta(seconds=60)
    both = {"expires_at": soon.isoformat(), "max_duration_s": 3600}
    assert read_job(job_input(**both), settings).request.expires_at == soon
    order = read_job(job_input(**both | {"max_duration_s": 5}), settings)
    assert order.request.expires_at < soon


def test_speech_comes_decoded(settings):
    pcm, rate = read_job(job_input(speech={"audio_base64": wav(0.5)}), settings).speech
    assert (len(pcm), rate) == (8000, 16000)


# Addresses


def test_addresses_come_from_the_pods_variables():
    pod = {"RUNPOD_POD_ID": "abc"}
    mapped = {"RUNPOD_PUBLIC_IP": "203.0.113.9", "RUNPOD_TCP_PORT_8765": "41234"}
    direct = "ws://203.0.113.9:41234/v1/ws"
    proxy = "wss://abc-8765.proxy.runpod.net/v1/ws"
    assert speech_addresses(pod | mapped, 8765) == {"direct": direct, "proxy": proxy}
    assert speech_addresses(pod, 8765) == {"proxy": proxy}
    assert speech_addresses(mapped, 9999) == {"local": "ws://127.0.0.1:9999/v1/ws"}
    assert speech_addresses({}, 8765, "wss://a.example/v1/ws") == {
        "public": "wss://a.example/v1/ws"
    }
    six = mapped | {"RUNPOD_PUBLIC_IP": "2001:db8::9"}
    assert speech_addresses(six, 8765)["direct"] == "ws://[2001:db8::9]:41234/v1/ws"


def test_a_symmetric_port_is_listened_on():
    pod = {"RUNPOD_PUBLIC_IP": "203.0.113.9", "RUNPOD_TCP_PORT_70000": "10055"}
    assert listen_port(pod, 8765) == 10055
    assert speech_addresses(pod, 10055) == {"direct": "ws://203.0.113.9:10055/v1/ws"}
    assert listen_port(pod | {"RUNPOD_TCP_PORT_8765": "41234"}, 8765) == 8765
    assert listen_port({}, 8765) == 8765
    assert listen_port({"RUNPOD_TCP_PORT_70000": "what"}, 8765) == 8765


def test_a_pod_is_reachable_and_drains_in_time(monkeypatch):
    monkeypatch.delenv("AVATAR_WORKER_HOST", raising=False)
    monkeypatch.setenv("RUNPOD_POD_ID", "abc")
    settings = runpod_settings(os.environ)
    assert (settings.host, settings.drain_timeout_s) == ("0.0.0.0", 25)
    monkeypatch.setenv("AVATAR_WORKER_HOST", "127.0.0.1")
    monkeypatch.setenv("AVATAR_WORKER_DRAIN_TIMEOUT_S", "7")
    settings = runpod_settings(os.environ)
    assert (settings.host, settings.drain_timeout_s) == ("127.0.0.1", 7)


# Progress and usage


async def test_updates_are_delivered_one_by_one_and_none_after_the_last():
    delivered = []
    waits = iter([0.03, 0.0, 0.01])

    async def post(update):
        await asyncio.sleep(next(waits))
        delivered.append(update)

    progress = Progress(post)
    sending = [
        asyncio.create_task(progress.send(state)) for state in ("starting", "joining", "ready")
    ]
    await asyncio.sleep(0)
    last = await progress.last("ended", usage={})
    await asyncio.gather(*sending)
    await progress.send("draining")
    assert [update["state"] for update in delivered] == ["starting", "joining", "ready"]
    assert [update["seq"] for update in [*delivered, last]] == [1, 2, 3, 4]


async def test_a_job_goes_on_when_nobody_takes_its_updates():
    async def post(update):
        raise ConnectionError

    progress = Progress(post)
    await progress.send("starting")
    assert (await progress.last("ended"))["seq"] == 2


def test_percentiles_of_nothing_and_of_something():
    assert percentiles([]) is None
    assert percentiles(range(101)) == {"p50": 50, "p95": 95, "max": 100}


# The handler


async def test_a_job_with_its_own_speech_is_said_and_recorded(service, tmp_path):
    result = await service.handle(
        {"id": "job", "input": job_input(speech={"audio_base64": wav(1.0)})}
    )
    assert result["end_reason"] == "client_request", result
    assert result["usage"]["speech_seconds"] == pytest.approx(1.0, abs=0.01)
    assert result["usage"]["segments"] == 1
    assert TOKEN not in json.dumps(result)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) >= 25


async def test_jobs_are_refused_as_the_worker_cannot_take_them(service):
    first = asyncio.create_task(service.handle({"id": "1", "input": job_input()}))
    worker = await service._open()
    while worker.session("sess_1") is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    same = await service.handle({"id": "2", "input": job_input()})
    assert json.loads(same["error"])["error"]["code"] == "SESSION_EXISTS"
    draining = asyncio.create_task(worker.drain(0.2))
    await asyncio.sleep(0)
    late = await service.handle({"id": "3", "input": job_input(session_id="sess_2")})
    assert json.loads(late["error"])["error"]["code"] == "DRAINING"
    await draining
    assert (await first)["end_reason"] == "server_shutdown"


async def test_a_cancelled_job_leaves_its_room_before_it_is_gone(service):
    job = asyncio.create_task(service.handle({"id": "1", "input": job_input()}))
    worker = await service._open()
    while (session := worker.session("sess_1")) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert session.closed.is_set()
    assert session.end_reason == "client_request"


async def test_a_room_that_cannot_be_joined_fails_the_job(service, tmp_path):
    (tmp_path / "taken.mp4").mkdir()
    result = await service.handle(
        {"id": "1", "input": job_input(room={"platform": "file", "path": "taken.mp4"})}
    )
    error = json.loads(result["error"])["error"]
    assert error["code"] == "JOIN_FAILED"
    assert "taken.mp4" in error["message"]
    assert result["usage"]["frames"] == 0


async def test_a_whep_session_is_watched_from_the_same_process(service):
    whep = job_input(room={"platform": "whep"})
    job = asyncio.create_task(service.handle({"id": "1", "input": whep}))
    worker = await service._open()
    while worker.session("sess_1") is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient() as client:
        page = await client.get(f"{worker.http_url}/watch/sess_1")
        assert page.status_code == 200
        assert (await client.get(f"{worker.http_url}/readyz")).json() == {"ready": True}
    await worker.end("sess_1", "client_request")
    assert (await job)["watch_url"] == f"{worker.http_url}/watch/sess_1"


async def test_whep_needs_the_http_service(tmp_path):
    open_to_all = WorkerSettings(host="0.0.0.0", ws_port=0, max_sessions=1)
    service = JobService(open_to_all, FlapEngine, {})
    try:
        result = await service.handle({"id": "1", "input": job_input(room={"platform": "whep"})})
    finally:
        await service.aclose()
    assert "AVATAR_WORKER_SECRET" in json.loads(result["error"])["error"]["suggestion"]


async def test_a_taken_port_is_named(settings, unused_tcp_port_factory):
    port = unused_tcp_port_factory()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
    service = JobService(settings.model_copy(update={"ws_port": port}), FlapEngine, {})
    async with server:
        result = await service.handle({"id": "1", "input": job_input()})
    await service.aclose()
    assert "AVATAR_WORKER_WS_PORT" in json.loads(result["error"])["error"]["message"]


async def test_a_worker_stays_on_the_loop_it_began_on(service):
    await service._open()

    async def elsewhere():
        return await service.handle({"id": "1", "input": job_input()})

    result = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert json.loads(result["error"])["error"]["code"] == "INTERNAL_ERROR"


async def test_concurrency_is_what_the_engine_was_measured_to_hold(settings):
    measured = settings.model_copy(update={"max_sessions": None})
    slow = JobService(measured, lambda: FlapEngine(render_s=0.1), {})
    fast = JobService(measured, FlapEngine, {})
    for service in (slow, fast):
        await asyncio.to_thread(service.warm)
    try:
        assert slow.concurrency(1) == 1
        assert fast.concurrency(1) > 1
        assert (await fast._open()).capacity == fast.capacity
    finally:
        await slow.aclose()
        await fast.aclose()


def test_the_fitness_check_fails_without_an_engine(settings):
    def no_weights():
        raise FileNotFoundError("no weights")

    with pytest.raises(FileNotFoundError):
        JobService(settings, no_weights, {}).warm()


# Local runs, as a developer starts them


def environ(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNPOD_", "AVATAR_WORKER_"))
    }
    return kept | {
        "AVATAR_WORKER_RECORD_DIR": str(folder),
        "AVATAR_WORKER_MAX_SESSIONS": "1",
        "AVATAR_WORKER_WS_PORT": "0",
        "AVATAR_WORKER_HTTP_PORT": "0",
    }


COMMAND = [sys.executable, "-m", "tests.fakes.runpod_worker"]


def test_test_input_runs_a_whole_session(tmp_path):
    pytest.importorskip("runpod", reason="the RunPod SDK is an extra")
    job = json.dumps({"input": job_input(speech={"audio_base64": wav(0.5)})})
    run = subprocess.run(
        [*COMMAND, "--test_input", job],
        cwd=ROOT,
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "'end_reason': 'client_request'" in run.stdout
    assert TOKEN not in run.stdout + run.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 12


async def test_the_local_api_runs_a_whole_session(tmp_path, unused_tcp_port):
    pytest.importorskip("runpod", reason="the RunPod SDK is an extra")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--rp_serve_api",
        "--rp_api_port",
        str(unused_tcp_port),
        cwd=ROOT,
        env=environ(tmp_path),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    body = {"input": job_input(speech={"audio_base64": wav(0.5)})}
    try:
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=PATIENCE_S) as client:
            while True:
                try:
                    url = f"http://localhost:{unused_tcp_port}/runsync"
                    answer = (await client.post(url, json=body)).json()
                    break
                except httpx.ConnectError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
        assert answer["status"] == "COMPLETED", answer
        assert answer["output"]["usage"]["speech_seconds"] == pytest.approx(0.5, abs=0.01)
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
