"""``/v1/sessions`` as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from pydantic import BaseModel, SecretStr

from api.avatars.catalogue import PUBLIC
from api.container.services import Services
from api.dispatch.port import NoWorker, OrderRefused
from api.records import Account
from api.settings import LiveKitSettings
from tests.api.conftest import add_avatar
from tests.fakes.api_time import ApiTime
from tests.fakes.dispatcher import FakeDispatcher

SAMPLE = "PUBLIC/Avatars/anna"
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


async def test_a_session_with_each_public_avatar_and_with_the_former_one(
    client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
) -> None:
    for avatar_id in PUBLIC:
        await add_avatar(services, avatar_id, None)
    shown = {avatar_id: avatar_id for avatar_id in PUBLIC}
    shown["PUBLIC/Avatars/sample"] = SAMPLE
    for asked, avatar_id in shown.items():
        session = await create(client, avatar=asked)
        order = dispatcher.runs[session["session_id"]].order
        assert order.portrait == f"4:3 of photo avatars/{avatar_id}/original".encode()
        await client.post(f"/v1/sessions/{session['session_id']}/end")


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
    dispatcher.refusal = OrderRefused(
        "ROOM_TOKEN_EXPIRED", "Room token has expired", "Make another"
    )
    answer = await client.post("/v1/sessions", json=LIVEKIT)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "code": "ROOM_TOKEN_EXPIRED",
        "message": "Room token has expired",
        "suggestion": "Make another",
    }
    assert await services.store.running_count(account.id) == 0


async def test_fifty_at_once_on_a_plan_of_ten(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/v1/sessions", json=LOCAL) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 40


class TestRepetition:
    async def test_the_same_room_again_is_the_same_session(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher, now: ApiTime
    ) -> None:
        first = await create(client)
        now.advance(59)
        again = await create(client, metadata={"retry": 1})
        assert again == first
        assert dispatcher.places == 1
        other = await create(client, aspect_ratio="1:1")
        assert other["session_id"] != first["session_id"]
        now.advance(1)
        later = await create(client)
        assert later["session_id"] != first["session_id"]

    async def test_an_ended_session_is_not_repeated(self, client: httpx.AsyncClient) -> None:
        first = await create(client)
        await client.post(f"/v1/sessions/{first['session_id']}/end")
        assert (await create(client))["session_id"] != first["session_id"]

    async def test_local_rooms_are_never_shared(self, client: httpx.AsyncClient) -> None:
        ids = {
            (await client.post("/v1/sessions", json=LOCAL)).json()["session"]["session_id"]
            for _ in range(3)
        }
        assert len(ids) == 3

    async def test_at_once_one_worker_is_asked_and_both_wait(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        dispatcher.place_gate.clear()
        asking = [asyncio.create_task(client.post("/v1/sessions", json=LIVEKIT)) for _ in range(3)]
        await dispatcher.placing.wait()
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in asking)
        dispatcher.place_gate.set()
        answers = [await task for task in asking]
        assert len({answer.json()["session"]["session_id"] for answer in answers}) == 1
        assert dispatcher.places == 1

    async def test_at_once_with_no_worker_nobody_gets_a_session(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        dispatcher.place_gate.clear()
        dispatcher.refusal = NoWorker()
        asking = [asyncio.create_task(client.post("/v1/sessions", json=LIVEKIT)) for _ in range(3)]
        await dispatcher.placing.wait()
        await asyncio.sleep(0.1)
        dispatcher.place_gate.set()
        assert [(await task).status_code for task in asking] == [503] * 3
        assert (await client.get("/v1/sessions")).json()["total"] == 0

    async def test_idempotency_key(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher, now: ApiTime
    ) -> None:
        headers = {"Idempotency-Key": "order 66"}
        first = await client.post("/v1/sessions", json=LOCAL, headers=headers)
        now.advance(3600)
        again = await client.post("/v1/sessions", json=LOCAL, headers=headers)
        for field in ("session_id", "session_token", "started_at"):
            assert again.json()["session"][field] == first.json()["session"][field]
        changed = {**LOCAL, "metadata": {"a": 1}}
        answer = await client.post("/v1/sessions", json=changed, headers=headers)
        assert answer.status_code == 409
        assert answer.json()["error"] == {
            "code": "IDEMPOTENCY_CONFLICT",
            "message": "Idempotency key was used with a different request",
        }
        # Also where the avatar is wrong: idempotency comes first.
        unknown = {**LOCAL, "avatar": "avat_none"}
        answer = await client.post("/v1/sessions", json=unknown, headers=headers)
        assert answer.status_code == 409
        assert dispatcher.places == 1
        await client.post(f"/v1/sessions/{first.json()['session']['session_id']}/end")
        now.advance(24 * 3600)
        answer = await client.post("/v1/sessions", json=changed, headers=headers)
        assert answer.status_code == 200

    async def test_a_repetition_is_answered_though_the_plan_is_full(
        self, client: httpx.AsyncClient, services: Services
    ) -> None:
        free = await services.store.create_account("free", "free", services.now())
        _, key = await services.store.create_key(free.id, "k", services.now())
        headers = {"x-api-key": key, "Idempotency-Key": "k"}
        first = await client.post("/v1/sessions", json=LOCAL, headers=headers)
        again = await client.post("/v1/sessions", json=LOCAL, headers=headers)
        assert first.status_code == again.status_code == 200
        assert first.json()["session"]["session_id"] == again.json()["session"]["session_id"]

    async def test_a_key_nobody_could_keep(self, client: httpx.AsyncClient) -> None:
        for key in ("", "x" * 129, "é"):
            answer = await client.post(
                "/v1/sessions", json=LOCAL, headers={"Idempotency-Key": key.encode()}
            )
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "INVALID_IDEMPOTENCY_KEY"


class TestStart:
    async def created(self, client: httpx.AsyncClient) -> str:
        session = await create(client, auto_start=False)
        assert (session["status"], session["started_at"]) == ("created", None)
        assert session["expiration"] is None
        session_id: str = session["session_id"]
        return session_id

    async def test_in_its_three_states(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher, now: ApiTime
    ) -> None:
        session_id = await self.created(client)
        assert dispatcher.places == 0
        now.advance(600)
        for method in ("PUT", "POST", "PUT"):
            answer = await client.request(
                method, f"/v1/sessions/{session_id}/start", content=b"no json"
            )
            assert answer.status_code == 200
            assert answer.json() == {
                "success": True,
                "ws_uri": "wss://avatars.test/v1/ws",
                "expiration": "2026-03-14T18:19:26Z",
                "message": "Session started successfully",
            }
        assert dispatcher.places == 1
        assert dispatcher.runs[session_id].order.room.token == "a.b.c"
        await client.post(f"/v1/sessions/{session_id}/end")
        answer = await client.put(f"/v1/sessions/{session_id}/start")
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "code": "SESSION_ENDED",
            "message": "Session has already ended",
        }

    async def test_a_worker_that_does_not_come_leaves_it_created(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        session_id = await self.created(client)
        dispatcher.refusal = NoWorker()
        answer = await client.put(f"/v1/sessions/{session_id}/start")
        assert answer.json()["error"]["code"] == "NO_CAPACITY"
        shown = (await client.get(f"/v1/sessions/{session_id}")).json()["session"]
        assert (shown["status"], shown["started_at"]) == ("created", None)
        dispatcher.refusal = None
        assert (await client.put(f"/v1/sessions/{session_id}/start")).status_code == 200

    async def test_it_cannot_be_ended_before(self, client: httpx.AsyncClient) -> None:
        session_id = await self.created(client)
        answer = await client.post(f"/v1/sessions/{session_id}/end")
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "code": "SESSION_NOT_STARTED",
            "message": "Only started sessions can be ended",
        }

    async def test_limits_are_those_of_create(
        self, client: httpx.AsyncClient, services: Services
    ) -> None:
        free = await services.store.create_account("free", "free", services.now())
        _, key = await services.store.create_key(free.id, "k", services.now())
        client.headers["x-api-key"] = key
        session_id = await self.created(client)
        await create(client, room={"platform": "local"})
        answer = await client.put(f"/v1/sessions/{session_id}/start")
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "CONCURRENCY_LIMIT_REACHED"

    async def test_the_avatar_was_deleted_meanwhile(
        self, client: httpx.AsyncClient, services: Services
    ) -> None:
        session_id = await self.created(client)
        await services.store.delete_avatar(SAMPLE, services.now())
        answer = await client.put(f"/v1/sessions/{session_id}/start")
        assert answer.json()["error"]["code"] == "AVATAR_NOT_FOUND"


class TestLimits:
    async def test_concurrency(
        self, client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
    ) -> None:
        free = await services.store.create_account("free", "free", services.now())
        _, key = await services.store.create_key(free.id, "k", services.now())
        client.headers["x-api-key"] = key
        first = await create(client, room={"platform": "local"})
        answer = await client.post("/v1/sessions", json=LOCAL)
        assert answer.status_code == 429
        assert answer.json() == {
            "success": False,
            "error": {
                "code": "CONCURRENCY_LIMIT_REACHED",
                "message": "Concurrent session limit reached. End a running session or upgrade"
                " your plan.",
                "details": {"concurrency": {"current": 1, "max": 1, "available": 0}},
            },
        }
        # It has just ended on its worker, and nobody looked yet.
        run = dispatcher.runs[first["session_id"]]
        run.state, run.reason = "ended", "room_empty"
        answer = await client.post("/v1/sessions", json=LOCAL)
        assert answer.status_code == 200

    async def test_an_image_needs_a_paid_plan(
        self, client: httpx.AsyncClient, services: Services
    ) -> None:
        free = await services.store.create_account("free", "free", services.now())
        _, key = await services.store.create_key(free.id, "k", services.now())
        for avatar in ("https://x.test/a.jpg", "data:image/jpeg;base64,cGhvdG8="):
            answer = await client.post(
                "/v1/sessions", json={**LOCAL, "avatar": avatar}, headers={"x-api-key": key}
            )
            assert answer.status_code == 403
            assert answer.json()["error"] == {
                "code": "IMAGE_INPUT_NOT_ALLOWED",
                "message": "Image URLs and base64 images require a paid plan",
                "suggestion": "Use an avatar ID or upgrade your plan",
            }

    async def test_an_image_becomes_an_avatar_once(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        photo = "data:image/jpeg;base64,cGhvdG8gb2YgbWU="
        for _ in range(2):
            session = await create(client, avatar=photo, room={"platform": "local"})
            order = dispatcher.runs[session["session_id"]].order
            assert order.portrait == b"4:3 of photo of me"
        mine = (await client.get("/v1/avatars")).json()["my_avatars"]
        assert len(mine) == 1
        answer = await client.post("/v1/sessions", json={**LOCAL, "avatar": "data:,bm8="})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in ("INVALID_BASE64", "INVALID_IMAGE")

    async def test_minutes_come_before_concurrency_and_the_avatar(
        self, client: httpx.AsyncClient, services: Services, now: ApiTime
    ) -> None:
        free = await services.store.create_account("free", "free", services.now())
        _, key = await services.store.create_key(free.id, "k", services.now())
        client.headers["x-api-key"] = key
        await create(client, room={"platform": "local"})
        unknown = {**LOCAL, "avatar": "avat_none"}
        answer = await client.post("/v1/sessions", json=unknown)
        assert answer.json()["error"]["code"] == "CONCURRENCY_LIMIT_REACHED"
        now.advance(120 * 60)
        for body in (LOCAL, unknown):
            answer = await client.post("/v1/sessions", json=body)
            assert answer.status_code == 403
            assert answer.json()["error"] == {
                "code": "INSUFFICIENT_MINUTES",
                "message": "No minutes remaining. Please purchase additional minutes or upgrade"
                " your plan.",
                "details": {"minutes": {"total_remaining": 0}},
            }

    @pytest.mark.parametrize(
        ("avatar", "status", "code"),
        [("avat_none", 404, "AVATAR_NOT_FOUND"), ("avat_theirs", 403, "AVATAR_ACCESS_DENIED")],
    )
    async def test_avatars_one_cannot_have(
        self, client: httpx.AsyncClient, services: Services, avatar: str, status: int, code: str
    ) -> None:
        other = await services.store.create_account("other", "growth", services.now())
        await add_avatar(services, "avat_theirs", other.id)
        answer = await client.post("/v1/sessions", json={**LOCAL, "avatar": avatar})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    async def test_default_ids_of_stock_clients(self, client: httpx.AsyncClient) -> None:
        for avatar in ("avat_01KMZHXFPBVCXA5ATK85HCP8G1", "avat_01KMZJ4WE5QCD9G3EK21QW8NJK"):
            await create(client, avatar=avatar, room={"platform": "local"})

    async def test_draining(self, client: httpx.AsyncClient, services: Services) -> None:
        created = await create(client, auto_start=False)
        services.sessions.draining = True
        for answer in (
            await client.post("/v1/sessions", json=LOCAL),
            await client.put(f"/v1/sessions/{created['session_id']}/start"),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["error"] == {
                "code": "DRAINING",
                "message": "Server is shutting down",
            }


class TestProxy:
    @pytest.fixture
    async def livekit(self) -> AsyncIterator[Any]:
        pytest.importorskip("livekit.api")
        from api.sessions.livekit_rooms import LiveKitRooms

        rooms = LiveKitRooms(
            LiveKitSettings(
                url="wss://lk.test",
                api_url="http://127.0.0.1:9",
                api_key="key",
                api_secret=SecretStr("s" * 32),
            )
        )
        yield rooms
        await rooms.aclose()

    async def test_proxy_as_pipecat_reads_it(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        body = {"avatar": SAMPLE, "aspect_ratio": "4:3", "room": {"platform": "proxy"}}
        answer = await client.post("/v1/sessions", json=body)
        pipecat = PipecatSession.model_validate(answer.json()["session"])
        assert pipecat.room.roomURL == "wss://lk.test"
        order = dispatcher.runs[pipecat.session_id].order
        assert order.room.platform == "livekit"
        claims = jwt.decode(pipecat.room.participantToken, options={"verify_signature": False})
        assert claims["sub"] == f"client-{pipecat.session_id[-8:]}"
        assert claims["video"]["room"] == pipecat.session_id
        assert order.room.token is not None
        claims = jwt.decode(order.room.token, options={"verify_signature": False})
        assert claims["sub"] == "agenthuman-avatar-agent"
        for method, path in (
            ("GET", f"/v1/sessions/{pipecat.session_id}"),
            ("POST", f"/v1/sessions/{pipecat.session_id}/end"),
        ):
            shown = (await client.request(method, path)).json()["session"]
            assert "room" not in shown
            assert shown["duration"] is not None
            PipecatView.model_validate(shown)


class TestRooms:
    async def test_local(self, client: httpx.AsyncClient) -> None:
        room = (await create(client, room={"platform": "local"}))["room"]
        assert set(room) == {"whep_url", "watch_url"}
        assert all(url.startswith("https://avatars.test/") for url in room.values())

    async def test_daily_name(self, client: httpx.AsyncClient, dispatcher: FakeDispatcher) -> None:
        room = {"platform": "daily", "url": "https://x.daily.co/r", "token": "t"}
        session = await create(client, room=room)
        assert "room" not in session
        assert dispatcher.runs[session["session_id"]].order.room.user_name == "AI Avatar"


class PipecatRoom(BaseModel):
    roomURL: str
    participantToken: str


class PipecatView(BaseModel):
    """The public Pipecat client's types: defaults where a key may be absent, null nowhere else."""

    session_id: str
    status: str
    started_at: str | None = None
    ended_at: str | None = None
    expiration: str | None = None
    aspect_ratio: str = ""
    duration: int = 0
    metadata: dict[str, Any] = {}


class PipecatSession(PipecatView):
    session_token: str
    room: PipecatRoom


class TestListing:
    async def test_newest_first_by_status_in_pages(
        self, client: httpx.AsyncClient, now: ApiTime
    ) -> None:
        ids = []
        for _ in range(3):
            ids.append((await create(client, room={"platform": "local"}))["session_id"])
            now.advance(1)
        waiting = (await create(client, auto_start=False))["session_id"]
        await client.post(f"/v1/sessions/{ids[0]}/end")

        async def listed(query: str) -> tuple[list[str], int]:
            body = (await client.get(f"/v1/sessions{query}")).json()
            return [session["session_id"] for session in body["sessions"]], body["total"]

        assert await listed("") == ([waiting, *reversed(ids)], 4)
        assert await listed("?status=all") == ([waiting, *reversed(ids)], 4)
        for alias in ("active", "started"):
            assert await listed(f"?status={alias}") == ([ids[2], ids[1]], 2)
        for alias in ("ended", "completed"):
            assert await listed(f"?status={alias}") == ([ids[0]], 1)
        assert await listed("?status=created") == ([waiting], 1)
        assert await listed("?limit=1&offset=1") == ([ids[2]], 4)

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("status=running", "status"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=ten", "limit"),
            ("offset=-1", "offset"),
            ("offset=99999999999999999999", "offset"),
        ],
    )
    async def test_wrong_queries(self, client: httpx.AsyncClient, query: str, name: str) -> None:
        answer = await client.get(f"/v1/sessions?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "code": "INVALID_QUERY",
            "message": f"Invalid value for query parameter `{name}`",
        }

    @pytest.mark.parametrize("session_id", ["sess_none", "x" * 3000, "%00", "%FF%FE", "%F0%9F%98"])
    async def test_unknown_ids(self, client: httpx.AsyncClient, session_id: str) -> None:
        for method, tail in (("GET", ""), ("PUT", "/start"), ("POST", "/start"), ("POST", "/end")):
            answer = await client.request(method, f"/v1/sessions/{session_id}{tail}")
            assert answer.status_code == 404
            assert answer.json()["error"] == {
                "code": "SESSION_NOT_FOUND",
                "message": "Session not found",
            }


class TestEnding:
    async def test_a_slow_worker_is_not_waited_for(
        self,
        client: httpx.AsyncClient,
        dispatcher: FakeDispatcher,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("api.sessions.sessions.TELL_S", 0.05)
        session = await create(client)
        dispatcher.end_gate.clear()
        answer = await client.post(f"/v1/sessions/{session['session_id']}/end")
        assert answer.json()["session"]["status"] == "ended"
        run = dispatcher.runs[session["session_id"]]
        assert run.told == []
        dispatcher.end_gate.set()
        await asyncio.sleep(0.01)
        assert run.told == ["client_request"]

    async def test_a_worker_that_fails_changes_nothing(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        session = await create(client)
        dispatcher.end_failure = RuntimeError("gone")
        answer = await client.post(f"/v1/sessions/{session['session_id']}/end")
        assert answer.json()["session"]["end_reason"] == "client_request"

    async def test_while_its_worker_is_being_found(
        self, client: httpx.AsyncClient, dispatcher: FakeDispatcher
    ) -> None:
        dispatcher.place_gate.clear()
        asking = asyncio.create_task(client.post("/v1/sessions", json=LIVEKIT))
        await dispatcher.placing.wait()
        (listed,) = (await client.get("/v1/sessions")).json()["sessions"]
        answer = await client.post(f"/v1/sessions/{listed['session_id']}/end")
        assert answer.status_code == 200
        dispatcher.place_gate.set()
        assert (await asking).json()["session"]["status"] == "ended"
        assert dispatcher.runs[listed["session_id"]].told == ["client_request"]


class TestAClientThatGoes:
    async def test_its_session_is_finished_or_never_was(
        self,
        client: httpx.AsyncClient,
        services: Services,
        account: Account,
        dispatcher: FakeDispatcher,
    ) -> None:
        for refusal, running in ((None, 1), (NoWorker(), 1)):
            dispatcher.refusal = refusal
            dispatcher.placing.clear()
            dispatcher.place_gate.clear()
            asking = asyncio.create_task(client.post("/v1/sessions", json=LOCAL))
            await dispatcher.placing.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            dispatcher.place_gate.set()
            async with asyncio.timeout(2):
                while services.sessions._background:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await services.store.running_count(account.id) == running
        (session,) = await services.store.running_sessions()
        assert session.worker == "fake"
        assert list(dispatcher.runs) == [session.id]
