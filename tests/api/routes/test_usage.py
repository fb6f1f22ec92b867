"""``GET /v1/usage`` adds up."""

from __future__ import annotations

import httpx

from api.container.services import Services
from api.records import Account
from tests.fakes.api_time import ApiTime

LOCAL = {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}


async def test_as_documented(
    client: httpx.AsyncClient, services: Services, account: Account, now: ApiTime
) -> None:
    await services.store.grant_minutes(account.id, 100, "package", now())
    first = (await client.post("/v1/sessions", json=LOCAL)).json()["session"]
    now.advance(61)
    await client.post(f"/v1/sessions/{first['session_id']}/end")
    running = (await client.post("/v1/sessions", json={**LOCAL, "metadata": {"a": 1}})).json()
    now.advance(450)
    usage = (await client.get("/v1/usage")).json()
    url = usage["usage"]["active_sessions"][0]["avatar"].pop("url")
    assert url.startswith("https://avatars.test/media/avatars/PUBLIC/Avatars/anna/preview?")
    assert usage == {
        "success": True,
        "usage": {
            "period": {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"},
            # Two minutes ended, eight run: begun minutes are whole ones.
            "included_minutes": {"total": 1500, "used": 10, "remaining": 1490},
            "purchased_minutes": {"total": 100, "remaining": 100},
            "total_remaining": 1590,
            "active_sessions": [
                {
                    "session_id": running["session"]["session_id"],
                    "avatar": {"avatar_id": "PUBLIC/Avatars/anna"},
                    "status": "active",
                    "started_at": "2026-03-14T15:10:27Z",
                    "ended_at": None,
                    "expiration": "2026-03-14T18:10:27Z",
                    "aspect_ratio": "4:3",
                    "duration": 450,
                    "metadata": {"a": 1},
                }
            ],
            "active_minutes": 8,
            "concurrency": {"current": 1, "max": 10, "available": 9},
            "avatars": {"limit": 60, "used": 0, "remaining": 60},
            "plan": {
                "key": "growth",
                "name": "Growth",
                "max_session_duration": 180,
                "will_renew": True,
            },
        },
    }


async def test_unlimited_stays_a_number(
    client: httpx.AsyncClient, services: Services, now: ApiTime
) -> None:
    big = await services.store.create_account("big", "enterprise", now())
    _, key = await services.store.create_key(big.id, "k", now())
    client.headers["x-api-key"] = key
    created = (await client.post("/v1/sessions", json=LOCAL)).json()
    assert created["session"]["expiration"] is None
    assert created["usage"]["minutes"] == {"total_remaining": 1_000_000, "unlimited": True}
    now.advance(30)
    usage = (await client.get("/v1/usage")).json()["usage"]
    assert usage["included_minutes"] == {"total": 1_000_000, "used": 1, "remaining": 1_000_000}
    assert usage["total_remaining"] == 1_000_000
    assert usage["unlimited"] is True
    assert usage["avatars"] == {"limit": None, "used": 0, "remaining": None}
    assert usage["plan"]["max_session_duration"] is None


async def test_an_avatar_that_was_deleted_meanwhile(
    client: httpx.AsyncClient, services: Services, now: ApiTime
) -> None:
    await client.post("/v1/sessions", json=LOCAL)
    await services.store.delete_avatar("PUBLIC/Avatars/anna", now())
    (session,) = (await client.get("/v1/usage")).json()["usage"]["active_sessions"]
    assert session["avatar"] == {"avatar_id": "PUBLIC/Avatars/anna", "url": ""}
