"""Preview links: opened by anybody, used once, paid for by the account."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import httpx
import pytest

from api.container.services import Services
from api.dispatch.port import NoWorker
from api.records import Account
from tests.api.conftest import SAMPLE, add_avatar
from tests.fakes.api_time import ApiTime
from tests.fakes.dispatcher import FakeDispatcher


@pytest.fixture
def anybody(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same server, without a key."""
    del client.headers["x-api-key"]
    return client


async def link(client: httpx.AsyncClient, key: str, avatar_id: str = SAMPLE) -> str:
    answer = await client.post(
        "/v1/avatars/preview", json={"avatar_id": avatar_id}, headers={"x-api-key": key}
    )
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"success", "url"}
    url = str(answer.json()["url"])
    assert re.fullmatch(r"https://avatars\.test/preview/lnk_[0-9A-Z]{26}", url)
    return url


async def test_looking_at_a_link_does_not_use_it_and_starting_does(
    anybody: httpx.AsyncClient, key: str, services: Services, account: Account, now: ApiTime
) -> None:
    url = await link(anybody, key)
    for _ in range(3):  # chat programs, mail programs, the person
        page = await anybody.get(url)
        assert page.status_code == 200
    assert "/media/avatars/" in page.text
    assert key not in page.text
    assert "session_token" not in page.text
    assert "unsafe" not in page.headers["content-security-policy"]

    started = await anybody.post(f"{url}/start")
    assert started.status_code == 200
    session = started.json()["session"]
    assert session["room"]["whep_url"].startswith("https://avatars.test/whep/")
    stored = await services.store.session(session["session_id"])
    assert stored is not None
    assert (stored.account_id, stored.platform, stored.status) == (account.id, "local", "started")
    assert stored.expires_at == now() + timedelta(minutes=2)
    assert await services.store.running_count(account.id) == 1

    again = await anybody.post(f"{url}/start")
    assert again.status_code == 404
    assert again.json()["error"]["code"] == "PREVIEW_NOT_FOUND"
    gone = await anybody.get(url)
    assert gone.status_code == 404
    assert gone.headers["content-type"] == "text/html; charset=utf-8"
    assert "no longer available" in gone.text


async def test_of_many_who_press_at_once_one_gets_the_session(
    anybody: httpx.AsyncClient, key: str, services: Services, account: Account
) -> None:
    url = await link(anybody, key)
    answers = await asyncio.gather(*[anybody.post(f"{url}/start") for _ in range(8)])
    assert sorted(each.status_code for each in answers) == [200] + [404] * 7
    assert await services.store.running_count(account.id) == 1


async def test_two_previews_of_one_avatar_are_two_sessions(
    anybody: httpx.AsyncClient, key: str
) -> None:
    ids = [
        (await anybody.post(f"{await link(anybody, key)}/start")).json()["session"]["session_id"]
        for _ in range(2)
    ]
    assert len(set(ids)) == 2


async def test_a_link_works_for_five_minutes(
    anybody: httpx.AsyncClient, key: str, now: ApiTime
) -> None:
    url = await link(anybody, key)
    now.advance(299)
    assert (await anybody.get(url)).status_code == 200
    now.advance(2)
    assert (await anybody.get(url)).status_code == 404
    assert (await anybody.post(f"{url}/start")).status_code == 404


async def test_without_a_free_worker_the_link_stays_good(
    anybody: httpx.AsyncClient, key: str, dispatcher: FakeDispatcher
) -> None:
    url = await link(anybody, key)
    dispatcher.refusal = NoWorker()
    answer = await anybody.post(f"{url}/start")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "NO_CAPACITY"
    dispatcher.refusal = None
    assert (await anybody.get(url)).status_code == 200
    assert (await anybody.post(f"{url}/start")).status_code == 200


async def test_a_preview_takes_one_of_the_accounts_sessions(
    anybody: httpx.AsyncClient, services: Services, now: ApiTime
) -> None:
    account = await services.store.create_account("small", "free", now())
    _, key = await services.store.create_key(account.id, "tests", now())
    first, second = await link(anybody, key), await link(anybody, key)
    session = (await anybody.post(f"{first}/start")).json()["session"]
    refused = await anybody.post(f"{second}/start")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "CONCURRENCY_LIMIT_REACHED"

    now.advance(20)
    wrong = {**session, "session_token": "session_token_wrong"}
    assert (await anybody.post(f"{first}/end", json=wrong)).status_code == 404
    assert await services.store.running_count(account.id) == 1
    assert (await anybody.post(f"{first}/end", json=session)).status_code == 200
    assert (await anybody.post(f"{first}/end", json=session)).status_code == 200
    assert (await anybody.post(f"{second}/start")).status_code == 200
    now.advance(20)
    used = await services.store.usage(account, services.plans.get("free"), now())
    assert used.included_used == 1 + 1  # the first one's minute, and the running one's


async def test_the_link_of_an_avatar_that_is_deleted_is_gone(
    anybody: httpx.AsyncClient, key: str, services: Services, account: Account, now: ApiTime
) -> None:
    await add_avatar(services, "avat_own", account.id)
    url = await link(anybody, key, "avat_own")
    await services.store.delete_avatar("avat_own", now())
    assert (await anybody.get(url)).status_code == 404
    assert (await anybody.post(f"{url}/start")).status_code == 404


@pytest.mark.parametrize(
    "name", ["lnk_", "lnk_01ARZ3NDEKTSV4RRFFQ69G5FAV", "lnk_%00", "lnk_%ED%A0%80", "x" * 5000]
)
async def test_links_nobody_made_are_gone(anybody: httpx.AsyncClient, name: str) -> None:
    assert (await anybody.get(f"/preview/{name}")).status_code == 404
    assert (await anybody.post(f"/preview/{name}/start")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "INVALID_JSON"),
        (b"[]", 400, "INVALID_BODY"),
        (b"{}", 400, "AVATAR_REQUIRED"),
        (b'{"avatar_id": 7}', 400, "AVATAR_REQUIRED"),
        (b'{"avatar_id": "avat_none"}', 404, "AVATAR_NOT_FOUND"),
        (b'{"avatar_id": "avat_foreign"}', 403, "AVATAR_ACCESS_DENIED"),
    ],
)
async def test_links_that_cannot_be_made(
    client: httpx.AsyncClient,
    services: Services,
    now: ApiTime,
    body: bytes,
    status: int,
    code: str,
) -> None:
    other = await services.store.create_account("somebody else", "growth", now())
    await add_avatar(services, "avat_foreign", other.id)
    answer = await client.post("/v1/avatars/preview", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_without_local_rooms_there_are_no_previews(
    client: httpx.AsyncClient, dispatcher: FakeDispatcher
) -> None:
    dispatcher.platforms = frozenset({"livekit", "proxy"})
    answer = await client.post("/v1/avatars/preview", json={"avatar_id": SAMPLE})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (
        "PLATFORM_NOT_AVAILABLE",
        "Room platform local is not available on this server",
    )


async def test_a_link_needs_a_key(anybody: httpx.AsyncClient) -> None:
    answer = await anybody.post("/v1/avatars/preview", json={"avatar_id": SAMPLE})
    assert (answer.status_code, answer.json()) == (401, {"error": "API key required"})
