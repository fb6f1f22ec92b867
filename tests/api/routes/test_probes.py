"""Probes and metrics."""

from __future__ import annotations

import httpx
import pytest

from api.container.services import Services
from tests.fakes.dispatcher import FakeDispatcher

LOCAL = {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}


async def test_no_key_is_needed(client: httpx.AsyncClient) -> None:
    del client.headers["x-api-key"]
    for path, body in (
        ("/healthz", {"ok": True}),
        ("/readyz", {"ready": True}),
        ("/ping", {"status": "ready"}),
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, body)


async def test_readyz_says_what_is_missing(
    client: httpx.AsyncClient,
    services: Services,
    dispatcher: FakeDispatcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken() -> None:
        raise RuntimeError("no")

    dispatcher.workers = 0
    monkeypatch.setattr(services.media, "check", broken)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "reason": "missing: media, workers",
        "missing": ["media", "workers"],
    }


async def test_draining(client: httpx.AsyncClient, services: Services) -> None:
    services.sessions.draining = True
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "draining")
    answer = await client.get("/ping")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics(
    client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
) -> None:
    dispatcher.slots = 4
    session = (await client.post("/v1/sessions", json=LOCAL)).json()["session"]
    await client.post("/v1/sessions", json=LOCAL)
    await client.post(f"/v1/sessions/{session['session_id']}/end")
    await client.get("/nowhere/" + "x" * 50)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'avatar_api_requests_total{method="POST",route="/v1/sessions",status="200"} 2.0',
        'avatar_api_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'avatar_api_request_seconds_count{route="/v1/sessions/{session_id}/end"} 1.0',
        'avatar_api_sessions{status="started"} 1.0',
        'avatar_api_sessions{status="ended"} 1.0',
        'avatar_api_sessions_created_total{platform="local"} 2.0',
        'avatar_api_sessions_ended_total{reason="client_request"} 1.0',
        'avatar_api_dispatch_seconds_count{outcome="placed"} 2.0',
        "avatar_api_workers 1.0",
        "avatar_api_worker_slots 4.0",
    ):
        assert line in answer.text
    assert session["session_id"] not in answer.text
