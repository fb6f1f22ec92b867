"""The whole system as a user runs it, driven over HTTP, WebSocket and WHEP as the public API is
documented, and nothing replaced."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from portraits import ANNA
from tests.fakes.control_plane import ControlPlane, WorkerProcess, workers_setting
from tests.fakes.whep_client import WhepClient
from worker.ingest.speech_file import read_speech

ASSETS = Path(__file__).parents[2] / "assets"
PATIENCE_S = 30.0


@asynccontextmanager
async def dialled(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, compression=None, proxy=None, max_queue=None) as client:
        yield client


async def say(client: ClientConnection, kind: str, **fields: Any) -> None:
    await client.send(json.dumps({"type": kind, **fields}))


async def hear(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of this kind; others are passed over."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if message["type"] == kind:
                return message
            assert message["type"] != "error", message


async def goodbye(client: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "")


async def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["success"] is True
    return body


class Viewer:
    """Watches by WHEP and keeps what it sees and hears."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._client = WhepClient()
        self._tasks: list[asyncio.Task[None]] = []
        self.pictures: list[np.ndarray] = []
        self.loudness: list[float] = []
        self.location = ""

    async def __aenter__(self) -> Viewer:
        await self._client.__aenter__()
        await self._client.join(self._exchange)
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._listen())]
        return self

    async def __aexit__(self, *details: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.__aexit__(*details)

    async def _exchange(self, offer: str) -> str:
        # As a player that has the link and no API key.
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            answer = await http.post(
                self._url, content=offer, headers={"Content-Type": "application/sdp"}
            )
        assert answer.status_code == 201, answer.text
        self.location = answer.headers["Location"]
        return answer.text

    async def _look(self) -> None:
        while True:
            picture = await self._client.picture()
            self.pictures.append(picture.to_ndarray(format="gray"))

    async def _listen(self) -> None:
        while True:
            sound = (await self._client.sound()).to_ndarray().astype(float)
            self.loudness.append(float(np.sqrt((sound**2).mean())))

    async def watch(self, seconds: float) -> tuple[list[np.ndarray], list[float]]:
        """What comes within ``seconds``."""
        first, begun = len(self.pictures), len(self.loudness)
        await asyncio.sleep(seconds)
        return self.pictures[first:], self.loudness[begun:]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def movement(pictures: list[np.ndarray]) -> float:
    """How much the liveliest part of the picture changes from frame to frame, in grey levels."""
    stack = np.stack(pictures).astype(np.float32)
    changes = np.abs(np.diff(stack, axis=0)).mean(axis=0)
    height, width = (side // 16 * 16 for side in changes.shape)
    blocks = changes[:height, :width].reshape(height // 16, 16, width // 16, 16).mean(axis=(1, 3))
    return float(blocks.max())


async def test_a_photo_is_given_a_voice(tmp_path: Path) -> None:
    pcm, rate = read_speech(ASSETS / "speech.ogg")
    environ = {"AVATAR_WORKER_CANVAS__SCALE": "0.25", "AVATAR_WORKER_MAX_SESSIONS": "2"}
    async with ControlPlane(tmp_path, **environ) as plane:
        key = await plane.new_key("e2e")
        await plane.until_ready()
        async with plane.client(key) as http:
            await _photo_to_usage(http, pcm, rate)
        assert key not in plane.log()
        assert "session_token_" not in plane.log()
        assert await plane.stop() == 0


async def _photo_to_usage(http: httpx.AsyncClient, pcm: np.ndarray, rate: int) -> None:
    photo = ANNA.path.read_bytes()
    uploaded = await ok(
        await http.post("/v1/avatars/upload-face", files={"file": ("me.jpg", photo, "image/jpeg")})
    )
    preview = Image.open(io.BytesIO((await http.get(uploaded["preview_url"])).content))
    assert preview.size == (500, 500)

    created = await ok(
        await http.post(
            "/v1/sessions",
            json={
                "avatar": uploaded["avatar_id"],
                "aspect_ratio": "1:1",
                "room": {"platform": "local"},
                "metadata": {"user_name": "John Doe"},
            },
        )
    )
    session = created["session"]
    assert session["status"] == "started"
    assert created["usage"]["concurrency"] == {"current": 1, "max": 10, "available": 9}
    init = {"session_id": session["session_id"], "session_token": session["session_token"]}

    unsigned = session["room"]["whep_url"].partition("?")[0]
    refused = await http.post(unsigned, content="v=0", headers={"Content-Type": "application/sdp"})
    assert refused.status_code == 403
    page = await http.get(session["room"]["watch_url"])
    assert "text/html" in page.headers["Content-Type"]

    async with dialled(session["ws_uri"]) as client:
        await say(client, "session.init", **init, events=["playback", "lifecycle"])
        assert (await hear(client, "connection.established"))["session_id"] == init["session_id"]
        await hear(client, "session.ready")
        async with Viewer(http, session["room"]["whep_url"]) as viewer:
            await viewer.until(lambda: len(viewer.pictures) >= 10)
            idle, silence = await viewer.watch(1.5)
            assert idle[0].shape == (320, 320)
            assert max(silence) < 5

            for at in range(0, len(pcm), rate):
                audio = base64.b64encode(pcm[at : at + rate].astype("<i2").tobytes()).decode()
                await say(client, "agent.speak", audio=audio, sample_rate=rate)
            confirmed = await hear(client, "agent.speak.confirmed")
            assert confirmed["audio_samples"] == 16000
            await viewer.until(lambda: viewer.loudness[-1] > 300)
            speaking, voice = await viewer.watch(2.5)
            assert max(voice) > 500
            assert movement(speaking) > 2 * movement(idle)

            await say(client, "agent.interrupt")
            ended = await hear(client, "agent.speak.ended")
            assert (ended["interrupted"], ended["reason"]) == (True, "interrupted")
            assert 2 < ended["playback_position"] < ended["audio_duration"]
            await hear(client, "agent.interrupt.confirmed")
            await viewer.watch(0.7)
            _, after = await viewer.watch(0.8)
            assert max(after) < 5, "nothing of the speech is heard any more"

            listed = (await ok(await http.get("/v1/usage")))["usage"]
            assert [each["status"] for each in listed["active_sessions"]] == ["active"]

            ended = (await ok(await http.post(f"/v1/sessions/{init['session_id']}/end")))["session"]
            assert ended["status"] == "ended"
            assert (await hear(client, "session.ended"))["reason"] == "client_request"
            assert await goodbye(client) == (1000, "client_request")
            assert (await http.delete(viewer.location)).status_code == 404
        assert (await http.get(session["room"]["watch_url"])).status_code == 404

    again = await ok(await http.post(f"/v1/sessions/{init['session_id']}/end", json={}))
    assert again["session"]["ended_at"] == ended["ended_at"], "ending twice is the same end"
    shown = (await ok(await http.get(f"/v1/sessions/{init['session_id']}")))["session"]
    assert shown["metadata"] == {"user_name": "John Doe"}
    assert shown["billing"] == {"minutes_used": 1, "from_plan": 1, "from_purchased": 0}
    usage = (await ok(await http.get("/v1/usage")))["usage"]
    assert usage["included_minutes"] == {"total": 1500, "used": 1, "remaining": 1499}
    assert usage["concurrency"]["current"] == 0
    assert usage["active_sessions"] == []
    assert usage["avatars"]["used"] == 1


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


async def test_the_legacy_way(tmp_path: Path) -> None:
    """Created, then started until there is an address, then the worker's own socket."""
    async with (
        WorkerProcess(tmp_path, *free_ports(2)) as worker,
        ControlPlane(tmp_path, AVATAR_API_WS_URI="worker", **workers_setting(worker)) as plane,
    ):
        key = await plane.new_key("legacy")
        await plane.until_ready()
        async with plane.client(key) as http:
            body = {
                "avatar_id": "PUBLIC/Avatars/anna",
                "room": {"platform": "local"},
                "auto_start": False,
            }
            session = (await ok(await http.post("/v1/sessions", json=body)))["session"]
            assert (session["status"], session["started_at"]) == ("created", None)
            address = f"/v1/sessions/{session['session_id']}"
            assert (await http.post(f"{address}/end")).json()["error"]["code"] == (
                "SESSION_NOT_STARTED"
            )
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    started = await ok(await http.put(f"{address}/start"))
                    if started["ws_uri"] != "try_again":
                        break
                    await asyncio.sleep(0.1)
            assert started["ws_uri"].startswith("ws://127.0.0.1:")
            assert not started["ws_uri"].startswith(plane.base_url.replace("http", "ws"))
            async with dialled(started["ws_uri"]) as client:
                config = {
                    "session_id": session["session_id"],
                    "access_token": session["session_token"],
                    "room": {"platform": "daily", "url": "https://ignored", "token": "x"},
                    "video_width": 1280,
                    "video_height": 720,
                }
                await say(client, "session.init", config=config)
                await hear(client, "connection.established")
                audio = base64.b64encode(bytes(4800)).decode()
                await say(client, "agent.speak", audio=audio, sample_rate=24000)
                assert await hear(client, "agent.speak.confirmed") == {
                    "type": "agent.speak.confirmed",
                    "audio_samples": 1600,
                }
                ended = (await ok(await http.post(f"{address}/end")))["session"]
                assert ended["end_reason"] == "client_request"
                assert await goodbye(client) == (1000, "client_request")
            restart = await http.put(f"{address}/start")
            assert restart.json()["error"]["code"] == "SESSION_ENDED"


async def test_the_public_pipecat_client(tmp_path: Path) -> None:
    """Its wire behaviour: a room of ours, speech as one byte stream that never ends, interrupts
    by RPC, an end with an empty body, no WebSocket."""
    rtc = pytest.importorskip("livekit.rtc", reason="needs the package livekit")
    pytest.importorskip("aiohttp", reason="needs the package aiohttp")
    pytest.importorskip("livekit.api", reason="needs the package livekit-api")
    from tests.fakes.livekit_server import running_livekit
    from tests.fakes.livekit_viewer import LiveKitViewer

    avatar = "agenthuman-avatar-agent"
    async with (
        running_livekit() as livekit,
        WorkerProcess(tmp_path, *free_ports(2)) as worker,
        ControlPlane(
            tmp_path,
            AVATAR_API_LIVEKIT__URL=livekit.url,
            AVATAR_API_LIVEKIT__API_KEY=livekit.key,
            AVATAR_API_LIVEKIT__API_SECRET=livekit.secret,
            **workers_setting(worker),
        ) as plane,
    ):
        key = await plane.new_key("pipecat")
        await plane.until_ready()
        async with plane.client(key) as http:
            body = {
                "avatar": "avat_01KMZHXFPBVCXA5ATK85HCP8G1",
                "aspect_ratio": "4:3",
                "room": {"platform": "proxy"},
            }
            session = (await ok(await http.post("/v1/sessions", json=body)))["session"]
            assert session["session_token"].startswith("session_token_")
            assert None not in [session[name] for name in ("aspect_ratio", "metadata")]
            assert session.get("duration", 0) is not None
            room = session["room"]
            async with LiveKitViewer(room["roomURL"], room["participantToken"]) as client:
                async with asyncio.timeout(PATIENCE_S):
                    while not client.pictures or not client.sounds:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert list(client.room.remote_participants) == [avatar], "nobody else is there"
                assert set(client.tracks) == {"avatar_audio", "avatar_video"}

                me = client.room.local_participant
                stream = await me.stream_bytes(
                    "speech",
                    topic="lk.audio_stream",
                    destination_identities=[avatar],
                    attributes={"sample_rate": "16000", "num_channels": "1"},
                )
                client.forget()
                tone = np.sin(np.arange(32_000) * 0.2) * 12_000
                pcm = tone.astype("<i2").tobytes()
                for at in range(0, len(pcm), 640):
                    await stream.write(pcm[at : at + 640])
                async with asyncio.timeout(PATIENCE_S):
                    while np.abs(client.pcm[-4800:]).max(initial=0) < 5000:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                answer = await me.perform_rpc(
                    destination_identity=avatar, method="lk.clear_buffer", payload=""
                )
                assert isinstance(answer, str)
                await asyncio.sleep(0.6)
                client.forget()
                await asyncio.sleep(0.4)
                assert np.abs(client.pcm).max(initial=0) < 50, "silent after the interrupt"

                ended = await ok(
                    await http.post(f"/v1/sessions/{session['session_id']}/end", json={})
                )
                assert ended["session"]["status"] == "ended"
                async with asyncio.timeout(PATIENCE_S):
                    while client.room.remote_participants or livekit.rooms:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            assert client.room.connection_state == rtc.ConnectionState.CONN_DISCONNECTED
        assert room["participantToken"] not in plane.log()
