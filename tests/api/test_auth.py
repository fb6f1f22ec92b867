"""Who is let in."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from api.container.services import Services
from api.records import Account
from api.settings import ApiSettings
from tests.fakes.api_time import ApiTime

UNKNOWN = "ah_live_" + "0" * 32


async def test_both_headers_work(client: httpx.AsyncClient, key: str) -> None:
    assert (await client.get("/v1/usage")).status_code == 200
    del client.headers["x-api-key"]
    for scheme in ("Bearer", "bearer"):
        answer = await client.get("/v1/usage", headers={"Authorization": f"{scheme} {key}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "API key required"),
        ({"x-api-key": ""}, "API key required"),
        ({"x-api-key": "  "}, "API key required"),
        ({"Authorization": "Basic abc"}, "API key required"),
        ({"x-api-key": UNKNOWN}, "Invalid API key"),
        ({"Authorization": f"Bearer {UNKNOWN}"}, "Invalid API key"),
        ({"x-api-key": "x" * 5000}, "Invalid API key"),
        ({"x-api-key": b"ah_live_\xff\xfe"}, "Invalid API key"),
    ],
)
async def test_refusals_have_their_own_form(
    client: httpx.AsyncClient, headers: dict[str, str], text: str
) -> None:
    del client.headers["x-api-key"]
    answer = await client.get("/v1/sessions", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"error": text}
    assert "x-ratelimit-limit" not in answer.headers


async def test_a_revoked_key_is_refused_at_once(
    client: httpx.AsyncClient, services: Services, account: Account
) -> None:
    assert (await client.get("/v1/usage")).status_code == 200
    (key,) = await services.store.keys(account.id)
    await services.store.revoke_key(key.id, services.now())
    answer = await client.get("/v1/usage")
    assert (answer.status_code, answer.json()) == (401, {"error": "API key is deactivated"})


async def test_a_key_ends_at_its_time(
    client: httpx.AsyncClient, services: Services, account: Account, now: ApiTime
) -> None:
    _, text = await services.store.create_key(
        account.id, "short", now(), expires_at=now() + timedelta(minutes=1)
    )
    headers = {"x-api-key": text}
    assert (await client.get("/v1/usage", headers=headers)).status_code == 200
    now.advance(60)
    answer = await client.get("/v1/usage", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "API key is deactivated"})


class TestFailuresCount:
    @pytest.fixture
    def settings(self, settings: ApiSettings) -> ApiSettings:
        return settings.model_copy(update={"rate_limit_per_minute": 3})

    async def test_by_address_and_not_against_the_right_key(
        self, client: httpx.AsyncClient
    ) -> None:
        for _ in range(3):
            answer = await client.get("/v1/usage", headers={"x-api-key": UNKNOWN})
            assert answer.status_code == 401
        answer = await client.get("/v1/usage", headers={"x-api-key": UNKNOWN})
        assert answer.status_code == 429
        assert answer.json() == {
            "success": False,
            "error": "Too many requests. Please retry after 1 minute.",
        }
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        assert (await client.get("/v1/usage")).status_code == 200
