"""A stranger's key at every address of the API: nothing of the other account is seen or changed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from api.app import create_app
from api.container.services import Services
from api.records import Account
from tests.api.conftest import add_avatar
from tests.fakes.dispatcher import FakeDispatcher

OPEN = {
    "/healthz",
    "/readyz",
    "/ping",
    "/metrics",
    "/openapi.json",
    # By signature or single-use link instead of a key; their own tests see to them.
    "/media/",
    "/preview/",
    "/whep/",
    "/watch/",
    # The page: static files, and a key for this machine only.
    "/",
}
"""Addresses, or beginnings of addresses, that ask for no key."""


def http_routes(services: Services) -> list[tuple[str, str]]:
    app = create_app(services)
    found = []
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            continue
        assert isinstance(route, Route) or hasattr(route, "methods"), route
        found += [(method, route.path) for method in sorted(route.methods or ())]
    return found


async def snapshot(services: Services, account: Account) -> Any:
    sessions, total = await services.store.sessions_of(account.id, None, 500, 0)
    plan = services.plans.get(account.plan_key)
    return (
        sessions,
        total,
        await services.store.avatars_of(account.id),
        await services.store.keys(account.id),
        await services.store.usage(account, plan, services.now()),
    )


async def test_every_route_with_a_strangers_key(
    client: httpx.AsyncClient,
    services: Services,
    account: Account,
    dispatcher: FakeDispatcher,
) -> None:
    await add_avatar(services, "avat_mine", account.id)
    body = {"avatar": "avat_mine", "room": {"platform": "local"}, "metadata": {"who": "me-only"}}
    started = (await client.post("/v1/sessions", json=body)).json()["session"]
    created = (await client.post("/v1/sessions", json={**body, "auto_start": False})).json()
    ended = (await client.post("/v1/sessions", json=body)).json()["session"]
    await client.post(f"/v1/sessions/{ended['session_id']}/end")
    ids = [started["session_id"], created["session"]["session_id"], ended["session_id"]]
    before = await snapshot(services, account)
    told = {name: list(run.told) for name, run in dispatcher.runs.items()}

    other = await services.store.create_account("stranger", "growth", services.now())
    _, key = await services.store.create_key(other.id, "k", services.now())
    client.headers["x-api-key"] = key
    secrets = [*ids, started["session_token"], "me-only", account.id, account.name]

    walked = set()
    for method, template in http_routes(services):
        if template in OPEN or template.startswith(tuple(each for each in OPEN if len(each) > 1)):
            continue
        if not template.startswith("/v1/"):
            continue
        for session_id in ids:
            path = (
                template.replace("{session_id}", session_id)
                .replace("{avatar_id:path}", "avat_mine")
                .replace("{avatar_id}", "avat_mine")
            )
            assert "{" not in path, f"{template}: say here what stands for its parameters"
            sent: dict[str, Any] = {**body, "avatar_id": "avat_mine", "account_id": account.id}
            answer = await client.request(
                method, path, json=sent, headers={"Idempotency-Key": session_id}
            )
            walked.add((method, template))
            said = answer.text.replace(path, "")
            for secret in secrets:
                assert secret not in said, f"{method} {template} tells {secret}"
            if "{" in template:
                assert answer.status_code in (403, 404), f"{method} {template}: {answer.text}"
    assert await snapshot(services, account) == before
    assert {name: run.told for name, run in dispatcher.runs.items()} == told
    assert ("POST", "/v1/sessions/{session_id}/end") in walked
    assert len(walked) >= 9


async def test_every_route_wants_a_key(client: httpx.AsyncClient, services: Services) -> None:
    del client.headers["x-api-key"]
    for method, template in http_routes(services):
        if not template.startswith("/v1/"):
            assert (
                template in OPEN
                or template.startswith(tuple(each for each in OPEN if len(each) > 1))
                or _is_page(template)
            ), f"{template} is open; list it here if it should be"
            continue
        path = template.replace("{", "").replace("}", "").replace(":path", "")
        answer = await client.request(method, path, json={})
        assert answer.status_code == 401, f"{method} {template} answers {answer.status_code}"
        assert answer.json() == {"error": "API key required"}


def _is_page(template: str) -> bool:
    return template.startswith("/console")


@pytest.mark.parametrize("header", ["x-api-key", "Authorization"])
async def test_an_idempotency_key_is_the_accounts_own(
    client: httpx.AsyncClient, services: Services, header: str
) -> None:
    body = {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}
    room = {"platform": "livekit", "url": "wss://lk.test", "token": "t"}
    mine = [
        await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "k"}),
        await client.post("/v1/sessions", json={**body, "room": room}),
    ]
    other = await services.store.create_account("stranger", "growth", services.now())
    _, key = await services.store.create_key(other.id, "k", services.now())
    del client.headers["x-api-key"]
    client.headers[header] = key if header == "x-api-key" else f"Bearer {key}"
    theirs = [
        await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "k"}),
        await client.post("/v1/sessions", json={**body, "room": room}),
    ]
    for one, another in zip(mine, theirs, strict=True):
        assert one.status_code == another.status_code == 200
        assert one.json()["session"]["session_id"] != another.json()["session"]["session_id"]
        assert json.dumps(one.json()["session"]["session_token"]) not in another.text
