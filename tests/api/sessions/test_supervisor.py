"""Every way a running session ends without its client asking, on a fake clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from api.container.services import Services
from api.plans import load_plans
from api.records import Account, Session
from api.sessions.sessions import Sessions
from api.sessions.supervisor import Supervisor
from tests.fakes.api_time import ApiTime
from tests.fakes.dispatcher import FakeDispatcher

LOCAL = {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}


class Watched:
    """One session, and what becomes of it."""

    def __init__(self, services: Services, dispatcher: FakeDispatcher, session_id: str) -> None:
        self.id = session_id
        self.run = dispatcher.runs[session_id]
        self._services = services

    async def poll(self) -> Session:
        await self._services.supervisor.poll_all()
        return await self.session()

    async def session(self) -> Session:
        found = await self._services.store.session(self.id)
        assert found is not None
        return found


@pytest.fixture
async def watched(
    client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
) -> Watched:
    answer = await client.post("/v1/sessions", json=LOCAL)
    return Watched(services, dispatcher, answer.json()["session"]["session_id"])


async def be_ready(watched: Watched, now: ApiTime) -> None:
    watched.run.ready = True
    now.advance(2)
    assert (await watched.poll()).ready_at == now()


async def test_ready_is_noted_once(watched: Watched, now: ApiTime) -> None:
    assert (await watched.poll()).ready_at is None
    await be_ready(watched, now)
    first = now()
    now.advance(30)
    session = await watched.poll()
    assert (session.ready_at, session.seen_at) == (first, now())


async def test_running_is_written_every_few_seconds_only(
    watched: Watched, services: Services, now: ApiTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await be_ready(watched, now)
    written = []
    note = services.store.note_seen

    async def counted(*args: object, **more: object) -> None:
        written.append(now())
        await note(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(services.store, "note_seen", counted)
    for _ in range(20):
        now.advance(1)
        await watched.poll()
    assert len(written) == 4


async def test_addresses_are_learnt_later(
    client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
) -> None:
    dispatcher.addressed = False
    answer = await client.post("/v1/sessions", json=LOCAL)
    session_id = answer.json()["session"]["session_id"]
    run = dispatcher.runs[session_id]
    run.state = "starting"
    await services.supervisor.poll_all()
    started = await client.put(f"/v1/sessions/{session_id}/start")
    assert started.json()["ws_uri"] == "try_again"
    run.state = "running"
    await services.supervisor.poll_all()
    started = await client.put(f"/v1/sessions/{session_id}/start")
    assert started.json()["ws_uri"] == "wss://avatars.test/v1/ws"
    session = await services.store.session(session_id)
    assert session is not None
    assert session.watch_uri == f"http://127.0.0.1:1/whep/{session_id}"


async def test_the_workers_reason_and_time_count(watched: Watched, now: ApiTime) -> None:
    await be_ready(watched, now)
    now.advance(88)
    watched.run.state, watched.run.reason = "ended", "room_empty"
    watched.run.ended_at = now() - timedelta(seconds=30)
    session = await watched.poll()
    assert (session.status, session.end_reason) == ("ended", "room_empty")
    assert session.ended_at == watched.run.ended_at
    assert session.bill is not None
    assert session.bill.minutes_used == 1
    assert watched.run.told == []


@pytest.mark.parametrize("wrong", [timedelta(hours=1), -timedelta(hours=1)])
async def test_a_worker_with_a_wrong_clock(
    watched: Watched, now: ApiTime, wrong: timedelta
) -> None:
    began = now()
    now.advance(90)
    watched.run.state, watched.run.reason = "ended", "room_empty"
    watched.run.ended_at = now() + wrong
    session = await watched.poll()
    assert session.ended_at == (now() if wrong > timedelta() else began)


async def test_a_lost_session_is_billed_to_when_it_was_last_seen(
    watched: Watched, now: ApiTime
) -> None:
    await be_ready(watched, now)
    seen = now()
    now.advance(200)
    watched.run.state = "lost"
    session = await watched.poll()
    assert (session.end_reason, session.ended_at) == ("server_error", seen)
    assert session.bill is not None
    assert session.bill.minutes_used == 1


async def test_a_lost_session_that_never_was_in_its_room_costs_nothing(
    watched: Watched, now: ApiTime
) -> None:
    now.advance(5)
    watched.run.state = "lost"
    session = await watched.poll()
    assert session.end_reason == "server_error"
    assert session.bill is not None
    assert session.bill.minutes_used == 0


async def test_silence_ends_after_the_heartbeat(watched: Watched, now: ApiTime) -> None:
    await be_ready(watched, now)
    seen = now()
    watched.run.state = "silent"
    for _ in range(15):
        now.advance(1)
        assert (await watched.poll()).status == "started"
    now.advance(1)
    session = await watched.poll()
    assert (session.end_reason, session.ended_at) == ("server_error", seen)
    # It may be there after all.
    assert watched.run.told == ["server_error"]


async def test_a_worker_that_comes_back_in_time_goes_on(watched: Watched, now: ApiTime) -> None:
    await be_ready(watched, now)
    watched.run.state = "silent"
    now.advance(14)
    await watched.poll()
    watched.run.state = "running"
    now.advance(1)
    await watched.poll()
    watched.run.state = "silent"
    now.advance(14)
    assert (await watched.poll()).status == "started"


async def test_after_a_pause_of_ours_workers_get_their_time_anew(
    watched: Watched, services: Services, dispatcher: FakeDispatcher, now: ApiTime
) -> None:
    await be_ready(watched, now)
    seen = now()
    now.advance(600)
    watched.run.state = "silent"
    fresh = Supervisor(
        services.settings.lifecycle,
        services.store,
        dispatcher,
        services.plans,
        services.metrics,
        services.sessions,
        now,
    )
    await fresh.poll_all()
    assert (await watched.session()).status == "started"
    now.advance(16)
    await fresh.poll_all()
    assert (await watched.session()).ended_at == seen


async def test_not_in_its_room_in_time(watched: Watched, now: ApiTime) -> None:
    now.advance(60)
    assert (await watched.poll()).status == "started"
    now.advance(1)
    session = await watched.poll()
    assert session.end_reason == "join_failed"
    assert session.bill is not None
    assert session.bill.minutes_used == 0
    assert watched.run.told == ["join_failed"]


async def test_expiry(watched: Watched, now: ApiTime) -> None:
    await be_ready(watched, now)
    expires = (await watched.session()).expires_at
    assert expires is not None
    now.now = expires - timedelta(seconds=1)
    assert (await watched.poll()).status == "started"
    now.advance(5)
    session = await watched.poll()
    assert (session.end_reason, session.ended_at) == ("expired", expires)
    assert session.bill is not None
    assert session.bill.minutes_used == 180
    assert watched.run.told == ["expired"]


async def test_reserved_but_never_placed(
    client: httpx.AsyncClient,
    services: Services,
    account: Account,
    dispatcher: FakeDispatcher,
    now: ApiTime,
) -> None:
    """As when the process died between reserving and placing."""
    dispatcher.place_gate.clear()
    asking = asyncio.create_task(client.post("/v1/sessions", json=LOCAL))
    await dispatcher.placing.wait()
    assert await services.store.running_count(account.id) == 1
    now.advance(61)
    await services.supervisor.poll_all()
    assert await services.store.running_count(account.id) == 0
    ((session,), _) = await services.store.sessions_of(account.id, None, 10, 0)
    assert session.end_reason == "join_failed"
    assert session.bill is not None
    assert session.bill.minutes_used == 0
    assert dispatcher.ends == [(session.id, None, "join_failed")], (
        "ended at whichever worker has it"
    )
    # The worker answers at last, and is sent away again.
    dispatcher.place_gate.set()
    answer = await asking
    assert answer.json()["session"]["status"] == "ended"
    assert dispatcher.runs[session.id].told == ["join_failed"]


async def test_created_and_never_started(
    client: httpx.AsyncClient, services: Services, now: ApiTime
) -> None:
    answer = await client.post("/v1/sessions", json={**LOCAL, "auto_start": False})
    session_id = answer.json()["session"]["session_id"]
    now.advance(3599)
    await services.supervisor.sweep_created()
    session = await services.store.session(session_id)
    assert session is not None
    assert session.status == "created"
    now.advance(2)
    await services.supervisor.sweep_created()
    answer = await client.get(f"/v1/sessions/{session_id}")
    shown = answer.json()["session"]
    assert (shown["status"], shown["end_reason"]) == ("ended", "never_started")
    assert shown["duration"] == 0
    assert shown["billing"] == {"minutes_used": 0, "from_plan": 0, "from_purchased": 0}


class TestMinutes:
    """The account's plan includes 1500 minutes; sessions on it last 180 at most."""

    @pytest.fixture
    async def account(self, services: Services) -> Account:
        return await services.store.create_account("tester", "free", services.now())

    async def use_up(self, services: Services, account: Account, minutes: int) -> None:
        """As earlier sessions would have."""
        from api.records import NewSession, RoomOrder

        plan = load_plans(None, "enterprise").get("enterprise")
        new = NewSession(
            id="sess_earlier",
            account_id=account.id,
            avatar_id="a",
            aspect_ratio="4:3",
            room=RoomOrder("local"),
            metadata={},
            token_digest=b"x",
            start=True,
            fingerprint="",
        )
        began = services.now()
        await services.store.create_session(new, plan, began)
        await services.store.end_session(
            new.id,
            "client_request",
            services.plans.get("free"),
            began + timedelta(minutes=minutes),
        )

    async def start(
        self, client: httpx.AsyncClient, services: Services, dispatcher: FakeDispatcher
    ) -> Watched:
        answer = await client.post("/v1/sessions", json=LOCAL)
        assert answer.status_code == 200, answer.text
        return Watched(services, dispatcher, answer.json()["session"]["session_id"])

    async def run(self, watched: Watched, services: Services, now: ApiTime, seconds: int) -> None:
        """The loops of the supervisor, at their pace."""
        for second in range(seconds):
            if second % 15 == 0:
                await services.supervisor.check_minutes()
            await services.supervisor.poll_all()
            now.advance(1)

    async def test_the_last_minute_is_had_to_its_end_and_not_more(
        self,
        client: httpx.AsyncClient,
        services: Services,
        account: Account,
        dispatcher: FakeDispatcher,
        now: ApiTime,
    ) -> None:
        await self.use_up(services, account, 118)
        now.advance(118 * 60)
        watched = await self.start(client, services, dispatcher)
        watched.run.ready = True
        await self.run(watched, services, now, 118)
        assert (await watched.session()).status == "started"
        await self.run(watched, services, now, 20)
        session = await watched.session()
        assert session.end_reason == "minutes_exhausted"
        assert session.duration_s(now()) == 120
        assert session.bill is not None
        assert session.bill.minutes_used == 2
        assert watched.run.told == ["minutes_exhausted"]
        answer = await client.post("/v1/sessions", json=LOCAL)
        assert answer.status_code == 403
        assert answer.json()["error"] == {
            "code": "INSUFFICIENT_MINUTES",
            "message": "No minutes remaining. Please purchase additional minutes or upgrade your"
            " plan.",
            "details": {"minutes": {"total_remaining": 0}},
        }

    async def test_minutes_bought_meanwhile_are_had(
        self,
        client: httpx.AsyncClient,
        services: Services,
        account: Account,
        dispatcher: FakeDispatcher,
        now: ApiTime,
    ) -> None:
        await self.use_up(services, account, 119)
        now.advance(119 * 60)
        watched = await self.start(client, services, dispatcher)
        watched.run.ready = True
        await self.run(watched, services, now, 50)
        await services.supervisor.check_minutes()
        await services.store.grant_minutes(account.id, 1, "more", now())
        now.advance(11)
        assert (await watched.poll()).status == "started"
        await self.run(watched, services, now, 70)
        session = await watched.session()
        assert session.duration_s(now()) == 120
        assert session.bill is not None
        assert (session.bill.from_plan, session.bill.from_purchased) == (1, 1)


class TestManyAndBroken:
    async def test_one_failing_session_does_not_stop_the_others(
        self,
        client: httpx.AsyncClient,
        services: Services,
        dispatcher: FakeDispatcher,
        now: ApiTime,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ids = [
            (await client.post("/v1/sessions", json=LOCAL)).json()["session"]["session_id"]
            for _ in range(3)
        ]
        for run in dispatcher.runs.values():
            run.state, run.reason = "ended", "room_empty"
        end = services.store.end_session

        async def broken(session_id: str, *args: object) -> object:
            if session_id == ids[0]:
                raise RuntimeError("the database hiccups")
            return await end(session_id, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(services.store, "end_session", broken)
        await services.supervisor.poll_all()
        assert (await services.store.totals()) == {"created": 0, "started": 1, "ended": 2}
        monkeypatch.undo()
        await services.supervisor.poll_all()
        assert (await services.store.totals())["started"] == 0

    async def test_the_clock_counts_when_no_worker_can_be_asked(
        self, watched: Watched, dispatcher: FakeDispatcher, now: ApiTime
    ) -> None:
        dispatcher.poll_failure = RuntimeError("network")
        await watched.poll()
        now.advance(4 * 3600)
        assert (await watched.poll()).status == "ended"

    async def test_two_supervisors_end_and_bill_once(
        self, watched: Watched, services: Services, dispatcher: FakeDispatcher, now: ApiTime
    ) -> None:
        await be_ready(watched, now)
        now.advance(100)
        watched.run.state, watched.run.reason = "ended", "agent_left"
        other_sessions = Sessions(
            services.settings,
            services.secret,
            services.store,
            dispatcher,
            services.plans,
            services.metrics,
            None,
            services.avatars,
            now,
        )
        other = Supervisor(
            services.settings.lifecycle,
            services.store,
            dispatcher,
            services.plans,
            services.metrics,
            other_sessions,
            now,
        )
        await asyncio.gather(*(each.poll_all() for each in (services.supervisor, other) * 5))
        text = services.metrics.exposition(
            await services.store.totals(), await dispatcher.capacity()
        ).decode()
        assert 'avatar_api_sessions_ended_total{reason="agent_left"} 1.0' in text
        account = await services.store.account((await watched.session()).account_id)
        assert account is not None
        usage = await services.store.usage(account, services.plans.get(account.plan_key), now())
        assert usage.included_used == 2

    async def test_the_loops_run_and_stop(
        self, watched: Watched, services: Services, dispatcher: FakeDispatcher
    ) -> None:
        services.supervisor.start()
        async with asyncio.timeout(5):
            while dispatcher.looks < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await services.supervisor.aclose()
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("supervisor")]
