"""``/v1/sessions`` as a client sees it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from api.dispatch.port import NoWorker, OrderRefused
from api.records import Account
from api.services import Services
from tests.fakes.api_time import ApiTime
from tests.fakes.dispatcher import FakeDispatcher

SAMPLE = "PUBLIC/Avatars/sample"
LOCAL = {"avatar": SAMPLE, "room": {"platform": "local"}}
LIVEKIT = {
    "avatar": SAMPLE,
    "room": {"platform": "livekit", "url": "wss://livekit.test", "token": "a.b.c"},
}


async def create(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/sessions", json={**LIVEKIT, **more})
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()["session"]
    return session


async def test_create_look_end(
    client: httpx.AsyncClient, dispatcher: FakeDispatcher, now: ApiTime
) -> None:
    answer = await client.post(
        "/v1/sessions", json={**LIVEKIT, "metadata": {"user_name": "John Doe"}}
    )
    assert answer.status_code == 200
    body = answer.json()
    session_id = body["session"].pop("session_id")
    token = body["session"].pop("session_token")
    assert session_id.startswith("sess_")
    assert token.startswith("session_token_")
    assert len(token) == len("session_token_") + 43
    assert body == {
        "success": True,
        "session": {
            "status": "started",
            "started_at": "2026-03-14T15:09:26Z",
            "ended_at": None,
            "expiration": "2026-03-14T18:09:26Z",
            "metadata": {"user_name": "John Doe"},
            "aspect_ratio": "4:3",
            "ws_uri": "wss://avatars.test/v1/ws",
        },
        "usage": {
            "concurrency": {"current": 1, "max": 10, "available": 9},
            "minutes": {"total_remaining": 1500},
        },
        "message": "Session created successfully",
    }
    order = dispatcher.runs[session_id].order
    assert order.session_token == token
    assert (order.room.platform, order.room.url, order.room.token) == (
        "livekit",
        "wss://livekit.test",
        "a.b.c",
    )
    assert order.portrait.startswith(b"4:3 of photo")

    now.advance(330)
    answer = await client.get(f"/v1/sessions/{session_id}")
    assert answer.json()["session"] == {
        "session_id": session_id,
        "status": "started",
        "started_at": "2026-03-14T15:09:26Z",
        "ended_at": None,
        "expiration": "2026-03-14T18:09:26Z",
        "duration": 330,
        "metadata": {"user_name": "John Doe"},
        "aspect_ratio": "4:3",
        "billing": None,
        "end_reason": None,
    }

    answer = await client.post(f"/v1/sessions/{session_id}/end", json={})
    ended = {
        "session_id": session_id,
        "status": "ended",
        "started_at": "2026-03-14T15:09:26Z",
        "ended_at": "2026-03-14T15:14:56Z",
        "duration": 330,
        "billing": {"minutes_used": 6, "from_plan": 6, "from_purchased": 0},
        "end_reason": "client_request",
    }
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "session": ended,
        "message": "Session ended successfully",
    }
    assert dispatcher.runs[session_id].told == ["client_request"]

    now.advance(100)
    again = await client.post(f"/v1/sessions/{session_id}/end")
    assert again.json()["session"] == ended
    assert dispatcher.runs[session_id].told == ["client_request"]


async def test_no_worker_leaves_nothing(
    client: httpx.AsyncClient, services: Services, account: Account, dispatcher: FakeDispatcher
) -> None:
    dispatcher.refusal = NoWorker()
    answer = await client.post("/v1/sessions", json=LIVEKIT)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["code"] == "NO_CAPACITY"
    assert (await client.get("/v1/sessions")).json()["total"] == 0
    assert await services.store.running_count(account.id) == 0


async def test_a_refused_order_says_why(
    client: httpx.AsyncClient, services: Services, account: Account, dispatcher: FakeDispatcher
) -> None:
    dispatcher.refusal = OrderRefused("ROOM_TOKEN_EXPIRED", "Room token has expired", "Make anew")
    answer = await client.post("/v1/sessions", json=LIVEKIT)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "code": "ROOM_TOKEN_EXPIRED",
        "message": "Room token has expired",
        "suggestion": "Make anew",
    }
    assert await services.store.running_count(account.id) == 0


async def test_fifty_at_once_on_a_plan_of_ten(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/v1/sessions", json=LOCAL) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 40
