"""A resident worker as its clients meet it: HTTP in front, the speech socket behind."""

import asyncio
import base64
import gc
import json
import sys
import weakref

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.fakes.resident import Running, body
from worker.server import PortError, speech_server
from worker.settings import WorkerSettings


async def receive(socket, wanted: str) -> dict:
    async with asyncio.timeout(5):
        async for text in socket:
            message = json.loads(text)
            if message["type"] == wanted:
                return message
    raise AssertionError(f"the socket closed before {wanted} came")


async def test_a_session_from_http_to_its_end():
    async with Running() as running:
        assert (await running.http.get("/readyz")).json()["reason"] == "warming"
        await running.worker.start()
        assert (await running.http.get("/readyz")).status_code == 200
        created = await running.http.post("/sessions", json=body())
        assert created.status_code == 200, created.text
        assert created.json()["ws_uri"] == running.worker.ws_uri
        page = await running.http.get(created.json()["watch_url"])
        assert page.status_code == 200
        assert "<video" in page.text

        socket = await running.enter(events=["playback", "lifecycle"])
        await receive(socket, "session.ready")
        pcm = base64.b64encode(np.full(4800, 9000, "<i2").tobytes()).decode()
        await socket.send(json.dumps({"type": "agent.speak", "audio": pcm, "sample_rate": 24000}))
        confirmed = await receive(socket, "agent.speak.confirmed")
        assert confirmed["audio_samples"] == 3200
        await socket.send(json.dumps({"type": "agent.speak.end"}))
        ended = await receive(socket, "agent.speak.ended")
        assert ended["playback_position"] == pytest.approx(0.2, abs=0.001)
        await socket.send(json.dumps({"type": "session.end"}))
        last = await receive(socket, "session.ended")
        assert last["reason"] == "client_request"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd.code == 1000
        assert (await running.http.get("/sessions")).json()["sessions"] == []
        text = (await running.http.get("/metrics")).text
        assert 'avatar_sessions_total{outcome="client_request"} 1.0' in text


async def test_what_a_session_leaves_behind_is_freed_soon(monkeypatch):
    monkeypatch.setattr("worker.service.TIDY_AFTER_S", 0.1)
    async with Running() as running:
        await running.worker.start()
        await running.http.post("/sessions", json=body())
        session = weakref.ref(running.worker.session("sess-1"))
        gc.disable()  # Python finds it some day; the worker may not wait for that
        try:
            await running.http.delete("/sessions/sess-1")
            async with asyncio.timeout(5):
                while session() is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        finally:
            gc.enable()


async def test_an_interrupt_is_confirmed_after_the_segments_were_reported():
    async with Running() as running:
        await running.worker.start()
        await running.http.post("/sessions", json=body())
        socket = await running.enter(events=["playback"])
        await socket.send(json.dumps({"type": "agent.speak.begin", "utterance_id": "u"}))
        pcm = base64.b64encode(np.full(48000, 9000, "<i2").tobytes()).decode()
        await socket.send(json.dumps({"type": "agent.speak", "audio": pcm}))
        await receive(socket, "agent.speak.started")
        await socket.send(json.dumps({"type": "agent.interrupt"}))
        kinds = [json.loads(await socket.recv())["type"] for _ in range(2)]
        assert kinds == ["agent.speak.ended", "agent.interrupt.confirmed"]


async def test_wrong_token_unknown_session_and_ended_session():
    async with Running() as running:
        await running.worker.start()
        await running.http.post("/sessions", json=body())
        for session_id, token in (("sess-1", "wrong"), ("sess-2", "token-of-the-session")):
            socket = await running.enter(session_id, token)
            error = await receive(socket, "error")
            assert error["error"] == "Invalid session credentials"
        assert (await running.http.delete("/sessions/sess-1")).status_code == 200
        socket = await running.enter()
        assert (await receive(socket, "error"))["error"] == "Session has ended"
        again = await running.http.post("/sessions", json=body())
        assert again.status_code == 409


async def test_parallel_creates_cannot_overbook():
    async with Running(max_sessions=2) as running:
        await running.worker.start()
        answers = await asyncio.gather(
            *(running.http.post("/sessions", json=body(f"sess-{n}")) for n in range(8))
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 6
        assert (await running.http.get("/readyz")).json()["reason"] == "full"


async def test_draining_lets_speech_go_on_and_then_ends_what_is_left():
    async with Running() as running:
        await running.worker.start()
        await running.http.post("/sessions", json=body())
        socket = await running.enter(events=["lifecycle"])
        await receive(socket, "session.ready")
        draining = asyncio.create_task(running.worker.drain(0.5))
        assert (await receive(socket, "session.draining"))["reason"] == "server_shutdown"
        refused = await running.http.post("/sessions", json=body("sess-2"))
        assert refused.status_code == 503
        assert (await receive(socket, "session.ended"))["reason"] == "server_shutdown"
        await draining
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd.code == 1001


async def test_a_photo_that_cannot_be_used_frees_its_slot():
    async with Running(max_sessions=1) as running:
        await running.worker.start()
        broken = body(avatar={"image_base64": base64.b64encode(b"no photo at all").decode()})
        assert (await running.http.post("/sessions", json=broken)).status_code == 400
        assert (await running.http.post("/sessions", json=body())).status_code == 200


async def test_a_port_in_use_is_named():
    async with Running() as running:
        port = int(running.worker.ws_uri.split(":")[2].split("/")[0])
        settings = WorkerSettings(ws_port=port)
        with pytest.raises(PortError, match="AVATAR_WORKER_WS_PORT"):
            async with speech_server(running.worker, settings):
                pass


async def test_a_session_in_somebodys_livekit_room():
    pytest.importorskip("livekit.rtc", reason="needs the package livekit")
    pytest.importorskip("aiohttp", reason="needs the package aiohttp")
    pytest.importorskip("jwt", reason="needs the package PyJWT")
    from tests.fakes.livekit_server import running_livekit
    from tests.fakes.livekit_viewer import LiveKitViewer

    grace = {"empty_room_grace_s": 0.1}
    async with running_livekit() as livekit, Running(lifecycle=grace) as running:
        await running.worker.start()
        room = {"platform": "livekit", "url": livekit.url, "token": livekit.token("avatar", "r")}
        async with LiveKitViewer(livekit.url, livekit.token("ada", "r")) as ada:
            created = await running.http.post("/sessions", json=body(room=room))
            assert created.status_code == 200, created.text
            assert "watch_url" not in created.json()
            socket = await running.enter(events=["playback", "lifecycle"])
            await receive(socket, "session.ready")
            tone = 9000 * np.sin(np.arange(24_000) / 10)
            pcm = base64.b64encode(tone.astype("<i2").tobytes()).decode()
            speak = {"type": "agent.speak", "audio": pcm, "sample_rate": 24_000}
            await socket.send(json.dumps(speak))
            await socket.send(json.dumps({"type": "agent.speak.end"}))
            ended = await receive(socket, "agent.speak.ended")
            assert ended["playback_position"] == pytest.approx(1.0, abs=0.001)
            # What was played is on its way through encoder, network and jitter buffer.
            async with asyncio.timeout(10):
                while not ada.pictures or np.abs(ada.pcm).max(initial=0) < 4_000:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        # Everybody has gone; the socket does not keep the room.
        last = await receive(socket, "session.ended")
        assert last["reason"] == "room_empty"
        async with asyncio.timeout(5):
            while livekit.room("r").peers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("platform", ["livekit", "daily"])
async def test_a_platform_whose_package_is_missing(platform, monkeypatch):
    monkeypatch.setitem(sys.modules, platform, None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, f"worker.rooms.{platform}", raising=False)
    monkeypatch.delitem(sys.modules, f"worker.rooms.{platform}.room", raising=False)
    monkeypatch.delitem(sys.modules, "worker.rooms.livekit.link", raising=False)
    if platform in vars(sys.modules["worker.rooms"]):
        monkeypatch.delattr(sys.modules["worker.rooms"], platform)
    room = {"platform": platform, "url": "https://x.example/r", "token": "token"}
    async with Running() as running:
        await running.worker.start()
        answer = await running.http.post("/sessions", json=body(room=room))
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "PLATFORM_NOT_AVAILABLE"
        assert f"pip install '.[{platform}]'" in str(error)
        assert (await running.http.get("/sessions")).json()["sessions"] == []
