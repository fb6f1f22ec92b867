"""What every request is wrapped in, whatever its route: errors, ids, limits, methods, the log."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.app import create_app
from api.container.services import Services
from api.gateway.gateway import gateway_of
from api.http.body_limit import OTHER_BYTES, PHOTO_BYTES, BodyLimit
from api.routes import watch
from common.logs import configure_logging
from tests.fakes.dispatcher import FakeDispatcher
from worker.settings import LogSettings

SAMPLE = "PUBLIC/Avatars/anna"


class TestErrors:
    async def test_unknown_address(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/agents")
        assert answer.status_code == 404
        assert answer.json() == {
            "success": False,
            "error": {"code": "NOT_FOUND", "message": "Not found"},
        }

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "/v1/sessions", "GET, HEAD, OPTIONS, POST"),
            ("PATCH", "/v1/sessions/x", "GET, HEAD, OPTIONS"),
            ("GET", "/v1/sessions/x/start", "OPTIONS, POST, PUT"),
            ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ],
    )
    async def test_wrong_method_names_all_right_ones(
        self, client: httpx.AsyncClient, method: str, path: str, allowed: str
    ) -> None:
        answer = await client.request(method, path)
        assert answer.status_code == 405
        assert answer.json()["error"] == {
            "code": "METHOD_NOT_ALLOWED",
            "message": "Method not allowed",
        }
        assert answer.headers["allow"] == allowed

    async def test_options_and_head(self, client: httpx.AsyncClient) -> None:
        answer = await client.options("/v1/sessions")
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
        for path in ("/v1/sessions", "/healthz", "/openapi.json", "/metrics"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert int(answer.headers["content-length"]) > 0

    async def test_a_trailing_slash_sends_nobody_elsewhere(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/usage/")
        assert answer.status_code == 404
        assert "location" not in answer.headers

    @pytest.mark.parametrize(
        ("raw", "code", "message"),
        [
            (b"", "INVALID_JSON", "Request body is not valid JSON"),
            (b"{", "INVALID_JSON", "Request body is not valid JSON"),
            (b"\xff\xfe\xff", "INVALID_JSON", "Request body is not valid JSON"),
            (b'{"metadata": {"a": NaN}}', "INVALID_JSON", "Request body is not valid JSON"),
            (b'{"metadata": {"a": 1e999}}', "INVALID_JSON", "Request body is not valid JSON"),
            (b'{"avatar": "\\ud800"}', "INVALID_JSON", "Request body is not valid JSON"),
            (b"[" * 100_000, "INVALID_JSON", "Request body is not valid JSON"),
            (b"9" * 10_000, "INVALID_JSON", "Request body is not valid JSON"),
            (b"[]", "INVALID_BODY", "Request body must be a JSON object"),
            (b"null", "INVALID_BODY", "Request body must be a JSON object"),
            (b'"text"', "INVALID_BODY", "Request body must be a JSON object"),
        ],
    )
    async def test_bodies_that_are_no_object(
        self, client: httpx.AsyncClient, raw: bytes, code: str, message: str
    ) -> None:
        answer = await client.post("/v1/sessions", content=raw)
        assert answer.status_code == 400
        assert answer.json() == {"success": False, "error": {"code": code, "message": message}}

    async def test_a_failure_inside_tells_nothing(
        self,
        client: httpx.AsyncClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        log: Log,
    ) -> None:
        async def broken(*_: object) -> None:
            raise RuntimeError("the secret database password is hunter2 ah_live_abc")

        monkeypatch.setattr(services.store, "usage", broken)
        answer = await client.get("/v1/usage")
        assert answer.status_code == 500
        assert answer.json() == {
            "success": False,
            "error": {"code": "INTERNAL_ERROR", "message": "Internal server error"},
        }
        assert answer.headers["x-request-id"]
        (line,) = [line for line in log.lines() if line["event"] == "request failed"]
        assert line["request_id"] == answer.headers["x-request-id"]
        assert "RuntimeError" in line["exception"]
        assert "ah_live_abc" not in log.text

    async def test_a_failure_in_a_middleware_is_answered_too(
        self, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> None:
            raise RuntimeError("inside")

        monkeypatch.setattr("api.http.body_limit.BodyLimit.__call__", broken)
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "INTERNAL_ERROR"


class TestRequestId:
    async def test_every_answer_has_one(self, client: httpx.AsyncClient) -> None:
        ids = [
            (await client.request(method, path)).headers["x-request-id"]
            for method, path in (
                ("GET", "/v1/usage"),
                ("GET", "/nowhere"),
                ("DELETE", "/v1/usage"),
                ("OPTIONS", "/v1/usage"),
                ("HEAD", "/healthz"),
                ("GET", "/openapi.json"),
            )
        ]
        assert len(set(ids)) == len(ids)
        assert all(len(each) == 32 for each in ids)

    async def test_a_sane_one_is_kept(self, client: httpx.AsyncClient) -> None:
        for given, kept in (("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("", False)):
            answer = await client.get("/healthz", headers={"X-Request-Id": given})
            assert (answer.headers["x-request-id"] == given) is kept


class TestBodyLimit:
    @pytest.mark.parametrize(
        ("path", "limit"),
        [
            ("/v1/sessions", PHOTO_BYTES),
            ("/v1/avatars/upload-face", PHOTO_BYTES),
            ("/v1/avatars/preview", OTHER_BYTES),
        ],
    )
    async def test_declared_and_in_chunks(
        self, client: httpx.AsyncClient, path: str, limit: int
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(limit // 65536 + 2):
                yield b" " * 65536

        headers = {"Content-Type": "application/json"}
        for answer in (
            await client.post(path, content=b" " * (limit + 1), headers=headers),
            await client.post(path, content=chunks(), headers=headers),
        ):
            assert answer.status_code == 413
            assert answer.json()["error"] == {
                "code": "PAYLOAD_TOO_LARGE",
                "message": "Request body is too large",
            }
        # As long as it may be: read, and found to be no JSON.
        answer = await client.post(path, content=b" " * limit, headers=headers)
        assert answer.status_code == 400

    async def test_a_route_that_makes_something_else_of_it(self) -> None:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            status = 200
            try:
                await Request(scope, receive).body()
            except Exception:
                status = 400
            await Response("it was something else", status)(scope, receive, send)

        transport = httpx.ASGITransport(BodyLimit(route))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.post("/", content=b" " * OTHER_BYTES)).status_code == 200
            answer = await client.post("/", content=b" " * (OTHER_BYTES + 1))
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
        assert answer.headers["connection"] == "close"

    async def test_nothing_is_read_for_a_stranger(self, client: httpx.AsyncClient) -> None:
        read = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(400):
                read += 65536
                yield b" " * 65536

        answer = await client.post("/v1/sessions", content=chunks(), headers={"x-api-key": "no"})
        assert answer.status_code == 401
        assert read == 0


class Log:
    """Everything the process logs, as it is written."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        configure_logging(LogSettings(level="debug"), self._stream)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Log:
    return Log()


class TestLog:
    async def test_one_line_per_request_with_its_session(
        self, client: httpx.AsyncClient, log: Log
    ) -> None:
        body = {"avatar": SAMPLE, "room": {"platform": "local"}}
        session_id = (await client.post("/v1/sessions", json=body)).json()["session"]["session_id"]
        await client.get(f"/v1/sessions/{session_id}")
        await client.get("/v1/elsewhere?token=hidden")
        lines = [line for line in log.lines() if line["event"] == "request"]
        assert [(line["method"], line["route"], line["status"]) for line in lines] == [
            ("POST", "/v1/sessions", 200),
            ("GET", "/v1/sessions/{session_id}", 200),
            ("GET", "unmatched", 404),
        ]
        assert [line.get("session_id") for line in lines] == [session_id, session_id, None]
        assert lines[2]["path"] == "/v1/elsewhere"
        assert all(line["request_id"] for line in lines)
        assert "hidden" not in log.text

    async def test_no_secret_in_a_whole_scenario(
        self,
        client: httpx.AsyncClient,
        key: str,
        services: Services,
        dispatcher: FakeDispatcher,
        log: Log,
    ) -> None:
        room_token = "eyJhbGciOiJIUzI1NiJ9.eyJyb29tIjoicyJ9.room-signature-0123"
        secrets = {key, room_token, "room-signature-0123"}
        livekit = {"platform": "livekit", "url": "wss://lk.test", "token": room_token}
        for body in (
            {"avatar": SAMPLE, "room": livekit},
            {"avatar": SAMPLE, "room": {"platform": "local"}},
            {"avatar": SAMPLE, "room": livekit, "auto_start": False, "aspect_ratio": "1:1"},
        ):
            answer = await client.post("/v1/sessions", json=body)
            session = answer.json()["session"]
            secrets.add(session["session_token"])
            if "room" in session:
                secrets |= {url.partition("sig=")[2] for url in session["room"].values()}
            await client.put(f"/v1/sessions/{session['session_id']}/start")
            await services.supervisor.poll_all()
            await client.post(f"/v1/sessions/{session['session_id']}/end")
        dispatcher.refusal = RuntimeError(f"cannot join with {room_token}")
        body = {"avatar": SAMPLE, "room": livekit, "aspect_ratio": "3:4"}
        assert (await client.post("/v1/sessions", json=body)).status_code == 500
        wrong = "ah_live_" + "w" * 32
        await client.get("/v1/usage", headers={"x-api-key": wrong})
        await client.get("/v1/usage", headers={"Authorization": f"Bearer {wrong}"})
        secrets.add(wrong)
        await client.get(f"/v1/usage?key={key}")
        await client.get(f"/nowhere/{key}")
        assert len(log.lines()) > 10
        for secret in secrets:
            assert len(secret) > 10
            assert secret not in log.text


async def test_what_routes_opened_is_closed_with_the_application(services: Services) -> None:
    """Routers say how to close what their routes made; that runs when the server stops."""
    app = create_app(services)
    async with app.router.lifespan_context(app):
        client = watch._client(app)
        gateway = gateway_of(app)
        closed = []
        gateway.aclose = lambda: _note(closed)
        assert not client.is_closed
    assert client.is_closed
    assert closed == ["gateway"]


async def _note(closed: list[str]) -> None:
    closed.append("gateway")
