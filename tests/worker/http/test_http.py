from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.engine import Canvas
from models.face.port import PortraitError
from tests.fakes.worker import FakeWorker
from worker.http.app import create_app
from worker.interfaces import (
    DailyRoom,
    Draining,
    FileRoom,
    LiveKitRoom,
    NoCapacity,
    SessionExists,
    WarmingUp,
    WhepRoom,
)
from worker.rooms.port import PlatformNotInstalled, RoomError
from worker.settings import SettingsError, WorkerSettings

SECRET = "0123456789abcdef-shared"
IMAGE = b"\xff\xd8not really a photo"
BODY = {
    "session_id": "sess_1",
    "session_token": "session_token_0123456789",
    "aspect_ratio": "4:3",
    "room": {"platform": "whep", "display_name": "ignored"},
    "avatar": {"image_base64": base64.b64encode(IMAGE).decode()},
}


def _token(**claims: object) -> str:
    """Three parts, of which only the middle one means anything."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


LIVEKIT = {"platform": "livekit", "url": "wss://lk.example", "token": _token(exp=4_000_000_000)}
DAILY = {"platform": "daily", "url": "https://x.daily.co/r", "token": "not-a-web-token"}


@pytest.fixture
def worker(settings: WorkerSettings) -> FakeWorker:
    return FakeWorker(settings)


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    (tmp_path / "portraits").mkdir()
    (tmp_path / "portraits" / "ada.jpg").write_bytes(IMAGE)
    (tmp_path / "private.jpg").write_bytes(b"private")
    return WorkerSettings(
        secret=SECRET,  # type: ignore[arg-type]
        record_dir=tmp_path / "recordings",
        portrait_dir=tmp_path / "portraits",
    )


@pytest.fixture
async def client(settings: WorkerSettings, worker: FakeWorker) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(settings, worker, {"Authorization": f"Bearer {SECRET}"}) as client:
        yield client


def browser(
    settings: WorkerSettings, worker: FakeWorker, headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    worker.settings = settings
    transport = httpx.ASGITransport(create_app(settings, worker), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


# Probes


@pytest.mark.parametrize(
    ("state", "readyz", "ping"),
    [
        ("ready", (200, {"ready": True}), 200),
        ("warming", (503, {"ready": False, "reason": "warming"}), 204),
        ("full", (503, {"ready": False, "reason": "full"}), 200),
        ("draining", (503, {"ready": False, "reason": "draining"}), 503),
    ],
)
async def test_probes(
    settings: WorkerSettings, worker: FakeWorker, state: Any, readyz: Any, ping: int
) -> None:
    worker.condition = state
    async with browser(settings, worker) as anybody:
        assert (await anybody.get("/healthz")).status_code == 200
        answer = await anybody.get("/readyz")
        assert (answer.status_code, answer.json()) == readyz
        answer = await anybody.get("/ping")
        assert answer.status_code == ping
        assert state != "warming" or answer.content == b""


async def test_metrics_come_from_the_worker(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    worker.metrics.set_sessions(3)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "avatar_sessions_active 3.0" in answer.text


# Who may


async def test_secret_guards_every_session_route(
    settings: WorkerSettings, worker: FakeWorker
) -> None:
    async with browser(settings, worker) as stranger:
        for method, path in (
            ("POST", "/sessions"),
            ("GET", "/sessions"),
            ("GET", "/sessions/sess_1"),
            ("DELETE", "/sessions/sess_1"),
            ("GET", "/status"),
            ("POST", "/portraits"),
        ):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}):
                answer = await stranger.request(method, path, headers=header)
                assert answer.status_code == 401, (method, path, header)
                assert isinstance(answer.json()["error"], str)
    assert worker.requests == {}


async def test_secret_that_is_not_ascii_is_a_wrong_secret(
    settings: WorkerSettings, worker: FakeWorker
) -> None:
    async with browser(settings, worker) as stranger:
        header = {"Authorization": "Bearer é".encode()}
        assert (await stranger.get("/sessions", headers=header)).status_code == 401


async def test_stranger_is_refused_before_his_body_is_read(
    settings: WorkerSettings, worker: FakeWorker
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        raise AssertionError("the body was read")

    async with browser(settings, worker) as stranger:
        assert (await stranger.post("/sessions", content=endless())).status_code == 401


def test_unguarded_worker_does_not_start_on_a_network(worker: FakeWorker) -> None:
    with pytest.raises(SettingsError, match="AVATAR_WORKER_SECRET"):
        create_app(WorkerSettings(host="0.0.0.0"), worker)
    create_app(WorkerSettings(host="0.0.0.0", secret=SECRET), worker)  # type: ignore[arg-type]


async def test_unguarded_worker_serves_local_programs_but_no_web_page(worker: FakeWorker) -> None:
    async with browser(WorkerSettings(), worker) as local:
        assert (await local.post("/sessions", json=BODY)).status_code == 200
        rebound = await local.get("/sessions", headers={"Host": "evil.example:8080"})
        assert rebound.json()["error"]["code"] == "SECRET_REQUIRED"
        form = await local.post("/sessions", content=json.dumps(BODY))
        assert form.status_code == 415


# Sessions


async def test_create_list_and_end(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    answer = await client.post(
        "/sessions",
        json={**BODY, "expires_at": "2999-01-01T00:00:00.5+01:00", "metadata": {"a": 1}},
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "session_id": "sess_1",
        "instance": "fake",
        "ws_uri": "ws://x/v1/ws",
        "expires_at": "2998-12-31T23:00:00Z",
        "watch_url": "http://x/watch/sess_1",
    }
    request = worker.requests["sess_1"]
    assert request.portrait == IMAGE
    assert request.room == WhepRoom()
    assert request.canvas == Canvas(640, 480)
    assert request.metadata == {"a": 1}
    assert request.session_token == BODY["session_token"]

    listing = await client.get("/sessions")
    assert [each["session_id"] for each in listing.json()["sessions"]] == ["sess_1"]
    assert listing.json()["sessions"][0]["size"] == "640x480"
    assert "token" not in listing.text
    assert (await client.get("/sessions/sess_1")).json()["session"]["platform"] == "whep"

    assert (await client.delete("/sessions/sess_1")).json()["success"] is True
    assert worker.ends == [("sess_1", "client_request")]
    gone = await client.delete("/sessions/sess_1")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "SESSION_NOT_FOUND")


async def test_recording_room_and_portrait_by_path(
    client: httpx.AsyncClient, worker: FakeWorker, settings: WorkerSettings
) -> None:
    answer = await client.post(
        "/sessions",
        json={
            **BODY,
            "aspect_ratio": "1:1",
            "size": "512x512",
            "room": {"platform": "file", "path": "demo.mp4", "paced": False},
            "avatar": {"path": "ada.jpg"},
        },
    )
    assert "watch_url" not in answer.json()
    request = worker.requests["sess_1"]
    assert settings.record_dir is not None
    assert request.room == FileRoom(path=settings.record_dir.resolve() / "demo.mp4", paced=False)
    assert request.portrait == IMAGE
    assert request.canvas == Canvas(512, 512)


@pytest.mark.parametrize(
    ("room", "spec"),
    [
        (LIVEKIT, LiveKitRoom("wss://lk.example", str(LIVEKIT["token"]))),
        (DAILY, DailyRoom("https://x.daily.co/r", "not-a-web-token", "AI Avatar")),
        (
            {**DAILY, "user_name": "Ada"},
            DailyRoom("https://x.daily.co/r", "not-a-web-token", "Ada"),
        ),
    ],
)
async def test_rooms_elsewhere(
    client: httpx.AsyncClient, worker: FakeWorker, room: dict[str, str], spec: object
) -> None:
    answer = await client.post("/sessions", json={**BODY, "room": room})
    assert answer.status_code == 200
    assert worker.requests["sess_1"].room == spec
    # The token opens somebody's room: it shows up nowhere.
    shown = answer.text + (await client.get("/sessions")).text + repr(worker.requests["sess_1"])
    assert room["token"] not in shown


async def test_a_refused_room_does_not_give_its_token_away(client: httpx.AsyncClient) -> None:
    secret = _token(exp=1_000_000_000, sub="ada")
    for room in ({**LIVEKIT, "token": secret}, {**LIVEKIT, "token": [secret]}):
        answer = await client.post("/sessions", json={**BODY, "room": room})
        assert answer.status_code == 400
        assert secret not in answer.text


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"session_id": "../x"}, 400, "INVALID_BODY"),
        ({"session_token": "short"}, 400, "INVALID_BODY"),
        ({"session_token": None}, 400, "INVALID_BODY"),
        ({"aspect_ratio": "16:9"}, 400, "INVALID_ASPECT_RATIO"),
        ({"room": None}, 400, "ROOM_REQUIRED"),
        ({"room": {}}, 400, "INVALID_ROOM_PLATFORM"),
        ({"room": {"platform": ["x"]}}, 400, "INVALID_ROOM_PLATFORM"),
        ({"room": {"platform": "zoom"}}, 400, "INVALID_ROOM_PLATFORM"),
        ({"room": {"platform": "proxy"}}, 400, "PLATFORM_NOT_AVAILABLE"),
        ({"room": {"platform": "livekit"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "url": "https://"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "url": "ftp://lk.example"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "url": "wss://lk.example:99999"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "url": "wss://user:pass@lk.example"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "url": 7}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**LIVEKIT, "token": " "}}, 400, "ROOM_TOKEN_REQUIRED"),
        ({"room": {**LIVEKIT, "token": None}}, 400, "ROOM_TOKEN_REQUIRED"),
        ({"room": {**LIVEKIT, "token": _token(exp=1_000_000_000)}}, 400, "ROOM_TOKEN_EXPIRED"),
        ({"room": {**DAILY, "url": "http://x.daily.co/r"}}, 400, "INVALID_ROOM_URL"),
        ({"room": {**DAILY, "token": ""}}, 400, "ROOM_TOKEN_REQUIRED"),
        ({"room": {**DAILY, "token": _token(exp=1_000_000_000)}}, 400, "ROOM_TOKEN_EXPIRED"),
        ({"room": {**DAILY, "user_name": ""}}, 400, "INVALID_BODY"),
        ({"room": {"platform": "file", "path": "../../x.mp4"}}, 400, "INVALID_ROOM_PATH"),
        ({"room": {"platform": "file", "path": "/etc/x.mp4"}}, 400, "INVALID_ROOM_PATH"),
        ({"room": {"platform": "file", "path": "x.sh"}}, 400, "INVALID_ROOM_PATH"),
        ({"room": {"platform": "file", "path": "x\0.mp4"}}, 400, "INVALID_ROOM_PATH"),
        ({"room": {"platform": "file"}}, 400, "INVALID_BODY"),
        ({"avatar": {}}, 400, "IMAGE_REQUIRED"),
        ({"avatar": {"path": "a", "image_base64": "AAAA"}}, 400, "MULTIPLE_IMAGE_SOURCES"),
        ({"avatar": {"image_base64": "?"}}, 400, "INVALID_BASE64"),
        ({"avatar": {"image_base64": "ä"}}, 400, "INVALID_BASE64"),
        ({"avatar": {"image_base64": "A" * 14_000_000}}, 413, "IMAGE_TOO_LARGE"),
        ({"avatar": {"path": "../private.jpg"}}, 400, "PATH_NOT_ALLOWED"),
        ({"avatar": {"path": "/etc/passwd"}}, 400, "PATH_NOT_ALLOWED"),
        ({"avatar": {"path": "nobody.jpg"}}, 404, "AVATAR_NOT_FOUND"),
        ({"size": "640x640"}, 400, "INVALID_SIZE"),
        ({"size": "0000x0000"}, 400, "INVALID_SIZE"),
        ({"size": "9996x7497"}, 400, "INVALID_SIZE"),
        ({"size": "large"}, 400, "INVALID_BODY"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400, "INVALID_EXPIRATION"),
        ({"expires_at": "2999-01-01T00:00:00"}, 400, "INVALID_BODY"),
        ({"metadata": None}, 400, "INVALID_METADATA"),
        ({"metadata": []}, 400, "INVALID_METADATA"),
        ({"metadata": {"a": "x" * 17_000}}, 400, "METADATA_TOO_LARGE"),
    ],
)
async def test_bad_bodies(
    client: httpx.AsyncClient,
    worker: FakeWorker,
    change: dict[str, Any],
    status: int,
    code: str,
) -> None:
    answer = await client.post("/sessions", json={**BODY, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert answer.json()["success"] is False
    assert error["message"]
    if code == "INVALID_BODY":
        assert next(iter(change)) in error["message"], "the message names the field"
    assert worker.requests == {}
    assert "short" not in error["message"], "a token is never echoed"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "INVALID_JSON"),
        (b"{", "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b"[" * 100_000, "INVALID_JSON"),
        (b"[]", "INVALID_BODY"),
        (b"null", "INVALID_BODY"),
    ],
)
async def test_bodies_that_are_no_object(client: httpx.AsyncClient, raw: bytes, code: str) -> None:
    answer = await client.post("/sessions", content=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_link_out_of_the_portrait_folder_is_not_followed(
    client: httpx.AsyncClient, settings: WorkerSettings
) -> None:
    assert settings.portrait_dir is not None
    (settings.portrait_dir / "link.jpg").symlink_to(settings.portrait_dir.parent / "private.jpg")
    answer = await client.post("/sessions", json={**BODY, "avatar": {"path": "link.jpg"}})
    assert answer.json()["error"]["code"] == "PATH_NOT_ALLOWED"


async def test_files_need_a_folder_to_be_set(worker: FakeWorker) -> None:
    async with browser(WorkerSettings(), worker) as local:
        for change in (
            {"avatar": {"path": "ada.jpg"}},
            {"room": {"platform": "file", "path": "x.mp4"}},
        ):
            answer = await local.post("/sessions", json={**BODY, **change})
            assert answer.status_code == 400
            assert "AVATAR_WORKER_" in answer.json()["error"]["suggestion"]


async def test_body_over_the_limit(client: httpx.AsyncClient) -> None:
    async def slices() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b" " * 2**20

    for content in (b" " * (15 * 2**20 + 1), slices()):
        answer = await client.post("/sessions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (PortraitError("NO_FACE", "No face detected", "Use a clear portrait"), 400, "NO_FACE"),
        (PortraitError("IMAGE_TOO_LARGE", "Too large", "Use less"), 413, "IMAGE_TOO_LARGE"),
        (PlatformNotInstalled("livekit"), 400, "PLATFORM_NOT_AVAILABLE"),
        (RoomError("the file exists"), 400, "ROOM_FAILED"),
        (SessionExists("sess_1"), 409, "SESSION_EXISTS"),
        (NoCapacity(), 503, "NO_CAPACITY"),
        (Draining(), 503, "DRAINING"),
        (WarmingUp(), 503, "WARMING_UP"),
        (RuntimeError("inner detail"), 500, "INTERNAL_ERROR"),
    ],
)
async def test_what_the_worker_raises(
    client: httpx.AsyncClient, worker: FakeWorker, failure: Exception, status: int, code: str
) -> None:
    worker.failure = failure
    answer = await client.post("/sessions", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "inner detail" not in answer.text
    if code == "NO_FACE":
        assert answer.json()["error"] == {
            "code": "NO_FACE",
            "message": "No face detected",
            "suggestion": "Use a clear portrait",
        }


async def test_the_reason_of_an_end_is_passed_on(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    await client.post("/sessions", json=BODY)
    answer = await client.delete("/sessions/sess_1", params={"reason": "boredom"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REASON")
    assert "minutes_exhausted" in answer.json()["error"]["suggestion"]
    answer = await client.delete("/sessions/sess_1", params={"reason": "minutes_exhausted"})
    assert answer.status_code == 200
    assert worker.ends == [("sess_1", "minutes_exhausted")]


async def test_a_portrait_ahead_of_its_session(
    client: httpx.AsyncClient, worker: FakeWorker, settings: WorkerSettings
) -> None:
    body = {"avatar": BODY["avatar"], "aspect_ratio": "3:4"}
    answer = await client.post("/portraits", json=body)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert worker.prepared == [(IMAGE, settings.canvas.canvas("3:4"))]
    for change, code in (
        ({"aspect_ratio": "16:9"}, "INVALID_ASPECT_RATIO"),
        ({"avatar": None}, "INVALID_BODY"),
        ({"avatar": {}}, "IMAGE_REQUIRED"),
    ):
        answer = await client.post("/portraits", json={**body, **change})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    worker.failure = WarmingUp()
    answer = await client.post("/portraits", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "WARMING_UP")


async def test_status_after_what_is_no_number(client: httpx.AsyncClient) -> None:
    for after in ("x", "-1"):
        answer = await client.get("/status", params={"after": after})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_BODY")


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    answer = await client.put("/sessions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in answer.headers["allow"]


async def test_viewers_need_no_secret_but_a_session(
    settings: WorkerSettings, worker: FakeWorker
) -> None:
    async with browser(settings, worker) as viewer:
        answer = await viewer.post("/whep/sess_9", content=b"v=0")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "SESSION_NOT_FOUND")
