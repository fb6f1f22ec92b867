from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from models.engine import Canvas
from tests.fakes.whep_client import WhepClient
from tests.worker.rooms.signals import SILENCE, flat
from worker.http.whep_routes import whep_router
from worker.rooms.whep.room import WhepRoom

CANVAS = Canvas(64, 64)
SDP = {"Content-Type": "application/sdp"}


@pytest.fixture
async def room() -> AsyncIterator[WhepRoom]:
    room = WhepRoom("s1", CANVAS, max_viewers=1)
    await room.connect(lambda kind, reason: None)
    await room.publish(flat(CANVAS, 90), SILENCE, False)
    yield room
    await room.aclose()


@pytest.fixture
async def offer() -> AsyncIterator[str]:
    async with WhepClient() as client:
        yield await client.offer()


def client(room: WhepRoom, token: str | None = None) -> httpx.AsyncClient:
    app = FastAPI()
    authorize = None if token is None else (lambda session_id, given: given == token)
    app.include_router(whep_router({"s1": room}.get, authorize))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")


async def test_join_answers_with_sdp_and_an_address_to_leave_by(room: WhepRoom, offer: str) -> None:
    async with client(room) as http:
        joined = await http.post("/whep/s1", content=offer, headers=SDP)
        assert joined.status_code == 201
        assert joined.headers["content-type"].startswith("application/sdp")
        assert joined.headers["access-control-allow-origin"] == "*"
        assert "location" in joined.headers["access-control-expose-headers"].lower()
        assert joined.text.startswith("v=0")
        assert joined.text.count("a=sendonly") == 2
        assert "a=candidate" in joined.text
        where = joined.headers["location"]
        assert where.startswith("/whep/s1/")

        full = await http.post("/whep/s1", content=offer, headers=SDP)
        assert full.status_code == 503
        assert full.headers["retry-after"]

        trickled = await http.patch(where, content="", headers=SDP)
        assert trickled.status_code == 405
        assert "DELETE" in trickled.headers["allow"]

        assert (await http.delete(where)).status_code == 200
        assert (await http.delete(where)).status_code == 404
        assert (await http.post("/whep/s1", content=offer, headers=SDP)).status_code == 201


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"v=0", "application/json", 415),
        (b"v=0", "", 415),
        (b"", "application/sdp", 400),
        (b"\xff\xfe\x00", "application/sdp", 400),
        (b"hello", "application/sdp", 400),
        (b"v=0\r\nm=video 9 UDP 97\r\na=rtpmap:97 AV1/90000\r\n", "application/sdp", 406),
        (b"v=0\r\nm=audio x y z\r\na=rtpmap:1 opus/48000/2\r\n", "application/sdp", 406),
        (b"v=0\r\n" + b"a" * 70_000, "application/sdp", 413),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(
    room: WhepRoom, body: bytes, content_type: str, status: int
) -> None:
    async with client(room) as http:
        answer = await http.post("/whep/s1", content=body, headers={"Content-Type": content_type})
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        # A page elsewhere may read the error, too.
        assert answer.headers["access-control-allow-origin"] == "*"
    assert room.viewers == 0


async def test_an_unknown_session_is_told_in_a_sentence(room: WhepRoom, offer: str) -> None:
    async with client(room) as http:
        for answer in (
            await http.get("/watch/nobody"),
            await http.post("/whep/nobody", content=offer, headers=SDP),
            await http.delete("/whep/nobody/1"),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == "This session does not exist or has ended"


async def test_a_closed_room_is_not_found(room: WhepRoom, offer: str) -> None:
    await room.aclose()
    async with client(room) as http:
        answer = await http.post("/whep/s1", content=offer, headers=SDP)
        assert answer.status_code == 404


async def test_preflight_allows_what_a_player_sends(room: WhepRoom) -> None:
    async with client(room) as http:
        for path in ("/whep/s1", "/whep/s1/v1"):
            answer = await http.options(path, headers={"Origin": "https://player.example"})
            assert answer.status_code == 204
            assert "DELETE" in answer.headers["access-control-allow-methods"]
            assert "Authorization" in answer.headers["access-control-allow-headers"]
            assert answer.headers["accept-post"] == "application/sdp"


async def test_a_token_is_asked_for_where_one_is_set(room: WhepRoom, offer: str) -> None:
    async with client(room, token="open sesame") as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic b3Blbg=="}):
            answer = await http.post("/whep/s1", content=offer, headers={**SDP, **headers})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": "Bearer open sesame"}
        joined = await http.post("/whep/s1", content=offer, headers={**SDP, **right})
        assert joined.status_code == 201
        assert (await http.delete(joined.headers["location"])).status_code == 401
        assert (await http.delete(joined.headers["location"], headers=right)).status_code == 200
        assert (await http.get("/watch/s1")).status_code == 401
        assert (await http.get("/watch/s1", params={"token": "open sesame"})).status_code == 200


async def test_the_page_loads_nothing_from_elsewhere(room: WhepRoom) -> None:
    async with client(room) as http:
        page = await http.get("/watch/s1")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "http://" not in page.text
    assert "https://" not in page.text
