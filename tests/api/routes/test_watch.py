from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from api.app import create_app
from api.container.services import Services, utc_now
from api.records import Session
from api.sessions.watch_links import WatchLinks
from tests.fakes.resident import Running
from tests.fakes.speech_path import SpeechPath, speech_services, store_of, until
from tests.fakes.whep_client import WhepClient

SDP = {"Content-Type": "application/sdp"}
OFFER = "v=0\r\n"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[SpeechPath]:
    async with store_of(tmp_path) as store:
        account = await store.create_account("test", "enterprise", utc_now())
        yield SpeechPath(speech_services(store, tmp_path), account.id)


@pytest.fixture
async def http(path: SpeechPath) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi(path.app) as client:
        yield client


@asynccontextmanager
async def asgi(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000"
        ) as client,
    ):
        yield client


def links(services: Services, session: Session) -> dict[str, str]:
    made = WatchLinks(services.secret, services.settings)
    return made.urls(session.id, session.expires_at, utc_now())


async def watched(path: SpeechPath, worker_url: str) -> Session:
    """A session whose worker's WHEP address is ``worker_url`` and its id."""
    session = await path.new_session()
    uri = f"{worker_url}/whep/{session.id}"
    await path.store.place_session(session.id, worker_url, "i", "ws://127.0.0.1:1/", uri, utc_now())
    return session


async def code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Access-Control-Allow-Origin"] == "*", "a page can read why"
    return str(answer.json()["error"]["code"])


# With a real worker


async def test_a_viewer_joins_watches_and_leaves(path: SpeechPath, http: httpx.AsyncClient) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        urls = links(path.services, session)

        async def exchange(offer: str) -> str:
            nonlocal location
            answer = await http.post(urls["whep_url"], content=offer, headers=SDP)
            assert answer.status_code == 201, answer.text
            assert answer.headers["Content-Type"] == "application/sdp"
            assert answer.headers["Access-Control-Expose-Headers"] == "Location"
            location = answer.headers["Location"]
            return answer.text

        location = ""
        async with WhepClient() as viewer:
            await viewer.join(exchange)
            async with asyncio.timeout(20):
                assert (await viewer.picture()).width == 64
            assert urlsplit(location).path.startswith(f"/whep/{session.id}/")
            assert parse_qs(urlsplit(location).query).keys() == {"exp", "sig"}
            room = worker.worker.whep_room(session.id)
            assert room is not None
            assert room.viewers == 1
            assert (await http.delete(location)).status_code == 200
            await until(lambda: room.viewers == 0)
            assert await code(await http.delete(location), 404) == "VIEWER_NOT_FOUND"


async def test_a_room_that_is_full_says_so(path: SpeechPath, http: httpx.AsyncClient) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        room = worker.worker.whep_room(session.id)
        assert room is not None
        room._max_viewers = 0
        async with WhepClient() as viewer:
            answer = await http.post(
                links(path.services, session)["whep_url"], content=await viewer.offer(), headers=SDP
            )
        assert await code(answer, 503) == "ROOM_FULL"


async def test_the_session_s_token_opens_as_well(path: SpeechPath, http: httpx.AsyncClient) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        bearer = {"Authorization": f"Bearer {path.token(session.id)}"}
        async with WhepClient() as viewer:
            answer = await http.post(
                f"/whep/{session.id}", content=await viewer.offer(), headers=SDP | bearer
            )
            assert answer.status_code == 201
            assert "?" not in answer.headers["Location"], "no token in an address"
            left = await http.delete(answer.headers["Location"], headers=bearer)
            assert left.status_code == 200


async def test_what_the_worker_thinks_of_an_offer_is_told(
    path: SpeechPath, http: httpx.AsyncClient
) -> None:
    async with Running() as worker:
        await worker.worker.start()
        session = await path.new_session()
        await path.place(session, worker)
        url = links(path.services, session)["whep_url"]
        assert await code(await http.post(url, content="no", headers=SDP), 400) == "BAD_OFFER"
        async with WhepClient(kinds=("video",)) as viewer:
            viewer.peer.createDataChannel("x")
            answer = await http.post(url, content=await viewer.offer(), headers=SDP)
            assert await code(answer, 406) == "UNUSABLE_OFFER"
        await worker.worker.end(session.id, "client_request")
        answer = await http.post(url, content=OFFER, headers=SDP)
        assert await code(answer, 404) == "SESSION_NOT_FOUND", "the worker knows first"


# Who may watch


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
async def test_without_a_right_to_nobody_watches(
    path: SpeechPath, http: httpx.AsyncClient, method: str
) -> None:
    session, other = await watched(path, "http://127.0.0.1:1"), await path.new_session()
    place = {"POST": "/whep/{}", "DELETE": "/whep/{}/v1", "GET": "/watch/{}"}[method]
    address = place.format(session.id)
    genuine = urlsplit(links(path.services, session)["whep_url"]).query
    foreign = urlsplit(links(path.services, other)["whep_url"]).query
    for query, token in (
        ("", None),
        (f"?{foreign}", None),
        (f"?{genuine[:-2]}", None),
        ("", path.token(other.id)),
        ("", ""),
        (f"?token={path.token(session.id)}", None),
    ):
        headers = SDP | ({} if token is None else {"Authorization": f"Bearer {token}"})
        answer = await http.request(method, address + query, headers=headers)
        assert await code(answer, 403) == "WATCH_LINK_INVALID"


@pytest.mark.parametrize("unknown", ["sess_unknown", "é", "%2e%2e", "a" * 300])
async def test_unknown_sessions_are_refused_like_wrong_links(
    http: httpx.AsyncClient, unknown: str
) -> None:
    bearer = {"Authorization": "Bearer session_token_x"}
    answer = await http.post(f"/whep/{unknown}?exp=9999999999&sig=x", headers=SDP | bearer)
    assert await code(answer, 403) == "WATCH_LINK_INVALID"


async def test_an_ended_session_is_told_from_a_wrong_link(
    path: SpeechPath, http: httpx.AsyncClient
) -> None:
    session = await watched(path, "http://127.0.0.1:1")
    urls = links(path.services, session)
    await path.finish(session, "expired")
    assert await code(await http.get(urls["watch_url"]), 404) == "SESSION_NOT_FOUND"
    answer = await http.post(urls["whep_url"], content=OFFER, headers=SDP)
    assert await code(answer, 404) == "SESSION_NOT_FOUND"


# What is asked


async def test_offers_have_a_type_and_a_size(path: SpeechPath, http: httpx.AsyncClient) -> None:
    url = links(path.services, await watched(path, "http://127.0.0.1:1"))["whep_url"]
    answer = await http.post(url, content=OFFER, headers={"Content-Type": "text/plain"})
    assert await code(answer, 415) == "UNSUPPORTED_MEDIA_TYPE"
    answer = await http.post(url, content="v" * 65_537, headers=SDP)
    assert await code(answer, 413) == "PAYLOAD_TOO_LARGE"


async def test_other_methods(path: SpeechPath, http: httpx.AsyncClient) -> None:
    asked = await http.options("/whep/any", headers={"Origin": "https://else.where"})
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    answer = await http.patch("/whep/any/viewer", content="a=candidate")
    assert await code(answer, 405) == "METHOD_NOT_ALLOWED"
    assert answer.headers["Allow"] == "DELETE, OPTIONS"


async def test_the_page_runs_its_own_script_only(path: SpeechPath, http: httpx.AsyncClient) -> None:
    page = await http.get(links(path.services, await path.new_session())["watch_url"])
    assert page.status_code == 200
    assert "<video" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy


async def test_a_path_before_ours(path: SpeechPath) -> None:
    settings = path.services.settings.model_copy(update={"public_url": "https://x.test/avatars"})
    services = replace(path.services, settings=settings)

    async def worker(request: Request) -> Response:
        return Response("v=0", 201, {"Location": f"{request.url.path}/abc"})

    async with asgi(create_app(services)) as http, http_worker(worker) as url:
        session = await watched(path, url)
        query = urlsplit(links(services, session)["whep_url"]).query
        answer = await http.post(f"/whep/{session.id}?{query}", content=OFFER, headers=SDP)
        assert answer.headers["Location"] == f"/avatars/whep/{session.id}/abc?{query}"


# Workers that fail


@asynccontextmanager
async def http_worker(
    handler: Callable[[Request], Awaitable[Response]],
) -> AsyncIterator[str]:
    """A worker that does what no real one should; its address."""
    app = FastAPI()
    app.add_route("/whep/{rest:path}", handler, ["POST", "DELETE"])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def test_a_worker_that_does_not_answer(path: SpeechPath, http: httpx.AsyncClient) -> None:
    starting = await path.new_session()
    for session in (starting, await watched(path, "http://127.0.0.1:1")):
        url = links(path.services, session)["whep_url"]
        answer = await http.post(url, content=OFFER, headers=SDP)
        assert await code(answer, 503) == "NO_CAPACITY"
        assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    "answer",
    [
        {"status_code": 500},
        {"status_code": 200, "content": "<html>"},
        {"status_code": 201, "content": "v=0"},
        {"status_code": 201, "content": "v=0", "headers": {"Location": "/whep/s/a b"}},
        {"status_code": 400, "content": '{"error": {"code": "SECRET", "message": "inside"}}'},
        {"status_code": 302, "headers": {"Location": "http://127.0.0.1:1/whep/x/y"}},
        {"status_code": 201, "content": "v" * 300_000, "headers": {"Location": "/whep/s/v"}},
    ],
)
async def test_a_worker_that_talks_nonsense(
    path: SpeechPath, http: httpx.AsyncClient, answer: dict[str, Any]
) -> None:
    async def worker(request: Request) -> Response:
        assert "authorization" not in request.headers
        assert request.url.query == "", "the signature is no business of the worker's"
        return Response(**answer)

    async with http_worker(worker) as url:
        session = await watched(path, url)
        told = await http.post(links(path.services, session)["whep_url"], headers=SDP)
        assert await code(told, 503) == "NO_CAPACITY"
        assert "inside" not in told.text
