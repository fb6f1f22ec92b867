"""The page's files, and who gets an API key for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.container.services import Services
from api.settings import ApiSettings
from tests.fakes.api_time import ApiTime

HERE = "http://127.0.0.1:8000"
OURS = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        _env_file=None,
        data_dir=tmp_path,
        secret="a secret of the tests, of 32 characters or more",
        rate_limit_per_minute=0,
    )


@asynccontextmanager
async def browser(
    services: Services, at: str = HERE, address: str = "127.0.0.1", **changed: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app at ``at``, coming from ``address``; ``changed``: other settings."""
    settings = services.settings.model_copy(update=changed)
    app = create_app(replace(services, settings=settings))
    transport = httpx.ASGITransport(app, client=(address, 40000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=at) as client,
    ):
        yield client


async def test_the_page_and_all_it_names_are_served_and_nothing_else_may_run(
    services: Services,
) -> None:
    async with browser(services) as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert not re.search(r"https?://|\sstyle=|\son\w+=|<style|<script>|\{\{", page.text)
        names = set(re.findall(r"/console/([\w.-]+)", page.text))
        assert {"main.js", "console.css", "icon.svg"} <= names
        seen: set[str] = set()
        while names - seen:
            name = (names - seen).pop()
            seen.add(name)
            answer = await client.get(f"/console/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["x-content-type-options"] == "nosniff"
            if name.endswith(".js"):
                assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
                names |= set(re.findall(r'"\./([\w.-]+\.js)"', answer.text))
        assert {"api.js", "session.js", "watch.js", "recorder-worklet.js"} <= seen
        sample = await client.get("/console/sample.ogg")
        assert sample.headers["content-type"] == "audio/ogg"
        assert sample.content.startswith(b"OggS")


async def test_files_are_asked_for_again_but_not_sent_again(services: Services) -> None:
    async with browser(services) as client:
        first = await client.get("/console/main.js")
        again = await client.get(
            "/console/main.js", headers={"If-None-Match": first.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        for name in ("index.html", "../settings.py", "..%2fsettings.py", "nothing.js"):
            assert (await client.get(f"/console/{name}")).status_code == 404


async def test_a_gateway_and_a_bucket_elsewhere_are_allowed_by_name(services: Services) -> None:
    async with browser(
        services,
        public_ws_url="wss://speech.test/v1/ws",
        media_url="s3://bucket?endpoint_url=http://minio.test:9000",
    ) as client:
        page = await client.get("/")
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self' wss://speech.test;" in policy
    assert "img-src 'self' blob: https: http://minio.test:9000;" in policy
    assert 'content="wss://speech.test/v1/ws"' in page.text


async def test_on_this_machine_the_page_gets_a_key_that_works(
    services: Services, now: ApiTime
) -> None:
    async with browser(services) as client:
        assert '<meta name="avatar-key" content="made">' in (await client.get("/")).text
        answer = await client.post("/console/key", headers=OURS)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        key = answer.json()["api_key"]
        assert (await client.get("/v1/usage", headers={"x-api-key": key})).status_code == 200
        found = await services.store.find_key(key)
        assert found is not None
        made, account = found
        assert (account.name, account.plan_key) == ("local", "enterprise")
        assert (made.name, made.expires_at) == ("console", now() + timedelta(hours=12))


async def test_one_key_for_every_page_until_it_is_old_or_revoked(
    services: Services, now: ApiTime
) -> None:
    async with browser(services) as client:

        async def key() -> str:
            return str((await client.post("/console/key", headers=OURS)).json()["api_key"])

        first, *others = await asyncio.gather(*[key() for _ in range(8)])
        assert set(others) == {first}
        now.advance(10 * 3600)
        assert await key() == first
        now.advance(2 * 3600)
        second = await key()
        assert second != first
        found = await services.store.find_key(second)
        assert found is not None
        await services.store.revoke_key(found[0].id, now())
        assert await key() not in (first, second)
        assert len(await services.store.keys(found[1].id)) == 3


@pytest.mark.parametrize(
    ("why", "headers"),
    [
        ("another web page", {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}),
        ("another port of this machine", {"Origin": "http://127.0.0.1:9000"}),
        ("same site, another origin", {**OURS, "Sec-Fetch-Site": "same-site"}),
        ("no browser at all", {}),
        ("an opaque origin", {"Origin": "null"}),
        ("a reverse proxy", {**OURS, "X-Forwarded-For": "203.0.113.9"}),
        ("a reverse proxy of another kind", {**OURS, "Forwarded": "for=203.0.113.9"}),
        ("a name pointed at us", {"Host": "evil.test:8000", "Origin": "http://evil.test:8000"}),
        ("a name that looks like ours", {"Host": "127.0.0.1.evil.test", **OURS}),
    ],
)
async def test_nobody_else_gets_a_key(
    services: Services, why: str, headers: dict[str, str]
) -> None:
    async with browser(services) as client:
        answer = await client.post("/console/key", headers=headers)
        assert answer.status_code == 404, why
        assert "api_key" not in answer.text
    assert await services.store.account_named("local") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"console": "on"},
        {"host": "0.0.0.0"},
        {"public_url": "https://avatars.test"},
    ],
)
async def test_where_others_can_reach_us_the_page_asks_for_a_key(
    services: Services, changed: dict[str, str]
) -> None:
    async with browser(services, **changed) as client:
        page = await client.get("/")
        assert '<meta name="avatar-key" content="asked">' in page.text
        assert (await client.post("/console/key", headers=OURS)).status_code == 404


async def test_an_address_of_another_machine_gets_no_key(services: Services) -> None:
    async with browser(services, address="192.0.2.7") as client:
        assert (await client.post("/console/key", headers=OURS)).status_code == 404


async def test_localhost_and_ipv6_are_this_machine(services: Services) -> None:
    for at in ("http://localhost:8000", "http://[::1]:8000"):
        async with browser(services, at=at, address="::1") as client:
            answer = await client.post("/console/key", headers={"Origin": at})
            assert answer.status_code == 200, at


async def test_switched_off_there_is_neither_page_nor_key(services: Services) -> None:
    async with browser(services, console="off") as client:
        page = await client.get("/")
        assert page.status_code == 404
        assert page.json()["error"]["code"] == "NOT_FOUND"
        assert (await client.post("/console/key", headers=OURS)).status_code == 404
