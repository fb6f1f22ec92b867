from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from api.records import Bill, RoomOrder
from api.store.engine import StoreError
from api.store.port import IdempotencyConflict, SessionMissing, SessionOver
from api.store.sql import SqlStore, open_store
from tests.api.store.rows import NOON, account_in, later, new_session, plan, started


async def test_creating_is_starting(store: SqlStore) -> None:
    account = await account_in(store)
    order = new_session(account, token_digest=b"d" * 32)
    stored = await store.create_session(order, plan(session=60), NOON)

    session = stored.session
    assert stored.new
    assert await store.session(order.id) == session, "what is returned is what is kept"
    assert (session.status, session.created_at, session.started_at) == ("started", NOON, NOON)
    assert session.expires_at == later(minutes=60)
    assert session.metadata == {"user": "Ana", "tags": [1, None, "ü"]}
    assert session.bill is None
    assert await store.session_token_digest(order.id) == b"d" * 32
    assert await store.running_count(account.id) == 1


@pytest.mark.parametrize(
    ("limit", "own", "minutes"), [(60, None, 60), (60, 2, 2), (1, 2, 1), (None, 2, 2), (None,) * 3]
)
async def test_a_session_expires_after_the_shorter_limit(
    store: SqlStore, limit: int | None, own: int | None, minutes: int | None
) -> None:
    account = await account_in(store)
    expected = minutes and later(minutes=minutes)
    order = new_session(account, max_minutes=own)
    at_once = (await store.create_session(order, plan(session=limit), NOON)).session
    waiting = new_session(account, max_minutes=own, start=False)
    await store.create_session(waiting, plan(session=limit), later(hours=-1))
    session, _ = await store.start_session(waiting.id, account.id, plan(session=limit), NOON)
    assert (at_once.expires_at, session.expires_at) == (expected, expected)


async def test_another_accounts_session_is_not_found(store: SqlStore) -> None:
    mine, theirs = await account_in(store), await account_in(store)
    session = await started(store, theirs)
    assert await store.session_of(theirs.id, session.id) == session
    assert await store.session_of(mine.id, session.id) is None
    assert await store.sessions_of(mine.id, None, 100, 0) == ([], 0)
    with pytest.raises(SessionMissing):
        await store.start_session(session.id, mine.id, plan(), NOON)


@pytest.mark.parametrize("unknown", ["sess_none", "", "sess_\0", "\ud800"])
async def test_an_unknown_session_is_missing_everywhere(store: SqlStore, unknown: str) -> None:
    account = await account_in(store)
    assert await store.session(unknown) is None
    assert await store.session_of(account.id, unknown) is None
    assert await store.session_token_digest(unknown) is None
    assert await store.room_of(unknown) is None
    assert not await store.place_session(unknown, "w", None, None, None, NOON)
    assert await store.end_session(unknown, "client_request", plan(), NOON) is None
    with pytest.raises(SessionMissing):
        await store.start_session(unknown, account.id, plan(), NOON)


async def test_a_session_needs_an_account(store: SqlStore) -> None:
    account = await account_in(store)
    with pytest.raises(ValueError, match="no account 'acct_none'"):
        await store.create_session(new_session(account, account_id="acct_none"), plan(), NOON)


async def test_sessions_are_listed_newest_first_in_pages(store: SqlStore) -> None:
    account = await account_in(store)
    all_plan = plan(concurrency=10)
    made = [await started(store, account, later(seconds=n), all_plan) for n in range(5)]
    await store.end_session(made[3].id, "client_request", all_plan, later(minutes=1))
    ids = [session.id for session in reversed(made)]

    async def page(*arguments: object) -> tuple[list[str], int]:
        sessions, total = await store.sessions_of(account.id, *arguments)  # type: ignore[arg-type]
        return [session.id for session in sessions], total

    assert await page(None, 100, 0) == (ids, 5)
    assert await page(None, 2, 1) == (ids[1:3], 5)
    assert await page(None, 2, 9) == ([], 5)
    assert await page("ended", 100, 0) == ([made[3].id], 1)
    assert await page("started", 1, 0) == ([made[4].id], 4)
    assert await page("created", 100, 0) == ([], 0)
    assert [each.id for each in await store.running_sessions()] == [
        made[n].id for n in (0, 1, 2, 4)
    ]
    assert await store.totals() == {"created": 0, "started": 4, "ended": 1}


class TestRepeats:
    async def test_the_same_key_and_request_is_the_same_session(self, store: SqlStore) -> None:
        account = await account_in(store)
        same = {"idempotency_key": "k", "request_digest": "r"}
        first = await store.create_session(new_session(account, **same), plan(), NOON)
        again = await store.create_session(new_session(account, **same), plan(), later(hours=23))
        assert (again.new, again.session) == (False, first.session)
        assert await store.running_count(account.id) == 1

    async def test_it_answers_with_an_ended_session_and_without_minutes(
        self, store: SqlStore
    ) -> None:
        account, small = await account_in(store), plan(concurrency=1, included=1)
        same = {"idempotency_key": "k", "request_digest": "r"}
        first = await store.create_session(new_session(account, **same), small, NOON)
        ended = await store.end_session(first.session.id, "client_request", small, later(minutes=1))
        again = await store.create_session(new_session(account, **same), small, later(hours=1))
        assert (again.new, again.session) == (False, ended)

    async def test_the_same_key_with_another_request_is_a_conflict(self, store: SqlStore) -> None:
        account, other = await account_in(store), await account_in(store)
        first = new_session(account, idempotency_key="k", request_digest="r")
        second = new_session(account, idempotency_key="k", request_digest="s")
        await store.create_session(first, plan(), NOON)
        with pytest.raises(IdempotencyConflict):
            await store.create_session(second, plan(), NOON)
        foreign = new_session(other, idempotency_key="k", request_digest="s")
        assert (await store.create_session(foreign, plan(), NOON)).new, "keys are an account's own"

    async def test_after_a_day_a_key_is_new_again(self, store: SqlStore) -> None:
        account, endless = await account_in(store), plan(included=None)
        same = {"idempotency_key": "k", "request_digest": "r"}
        await store.create_session(new_session(account, **same), endless, NOON)
        second = new_session(account, idempotency_key="k", request_digest="other")
        assert (await store.create_session(second, endless, later(hours=24))).new
        third = new_session(account, idempotency_key="k", request_digest="other")
        stored = await store.create_session(third, endless, later(hours=25))
        assert stored.session.id == second.id

    async def test_a_discarded_session_frees_its_key(self, store: SqlStore) -> None:
        account = await account_in(store)
        same = {"idempotency_key": "k", "request_digest": "r"}
        first = await store.create_session(new_session(account, **same), plan(), NOON)
        await store.discard_session(first.session.id)
        assert (await store.create_session(new_session(account, **same), plan(), NOON)).new

    async def test_the_same_body_within_a_minute_is_the_same_session(self, store: SqlStore) -> None:
        account, small = await account_in(store), plan(concurrency=1)
        first = await store.create_session(new_session(account, fingerprint="f"), small, NOON)
        repeat = new_session(account, fingerprint="f")
        again = await store.create_session(repeat, small, later(seconds=59.9))
        assert (again.new, again.session.id) == (False, first.session.id)

    async def test_but_not_after_a_minute_or_once_it_ended_or_for_another(
        self, store: SqlStore
    ) -> None:
        account, other = await account_in(store), await account_in(store)

        async def new(at: timedelta, whose: object = account) -> str | None:
            order = new_session(whose, fingerprint="f")  # type: ignore[arg-type]
            stored = await store.create_session(order, plan(), NOON + at)
            return stored.session.id if stored.new else None

        assert await new(timedelta())
        assert await new(timedelta(), other)
        second = await new(timedelta(seconds=60))
        assert second
        await store.end_session(second, "client_request", plan(), later(seconds=61))
        assert await new(timedelta(seconds=62))

    async def test_an_empty_fingerprint_is_never_a_repeat(self, store: SqlStore) -> None:
        account = await account_in(store)
        for _ in range(2):
            order = new_session(account, fingerprint="")
            assert (await store.create_session(order, plan(), NOON)).new


class TestLookingForRepeats:
    async def test_it_finds_what_a_create_would_return(self, store: SqlStore) -> None:
        account, other = await account_in(store), await account_in(store)
        keyed = new_session(account, idempotency_key="k", request_digest="r")
        alike = new_session(account, fingerprint="f")
        for order in (keyed, alike):
            await store.create_session(order, plan(), NOON)

        async def look(fingerprint: str, key: str | None, **time: float) -> str | None:
            session = await store.repeated_session(account.id, fingerprint, key, "r", later(**time))
            return session and session.id

        assert await look("", "k", hours=23) == keyed.id
        assert await look("", "k", hours=24) is None
        assert await look("f", None, seconds=59) == alike.id
        assert await look("f", None, seconds=60) is None
        assert await look("", None) is None
        assert await look("f", "k") == keyed.id
        with pytest.raises(IdempotencyConflict):
            await store.repeated_session(account.id, "", "k", "another request", NOON)
        assert await store.repeated_session(other.id, "f", "k", "r", NOON) is None


class TestStarting:
    async def test_a_created_session_starts_once(self, store: SqlStore) -> None:
        account = await account_in(store)
        order = new_session(account, start=False)
        created = (await store.create_session(order, plan(), NOON)).session
        assert (created.status, created.started_at, created.expires_at) == ("created", None, None)
        assert await store.running_count(account.id) == 0

        session, did = await store.start_session(order.id, account.id, plan(), later(minutes=5))
        assert did
        assert (session.status, session.started_at) == ("started", later(minutes=5))
        assert session == await store.session(order.id)
        again, did = await store.start_session(order.id, account.id, plan(), later(minutes=9))
        assert (again, did) == (session, False)

    async def test_an_ended_session_never_starts(self, store: SqlStore) -> None:
        account = await account_in(store)
        session = await started(store, account)
        await store.end_session(session.id, "client_request", plan(), NOON)
        with pytest.raises(SessionOver):
            await store.start_session(session.id, account.id, plan(), NOON)

    async def test_unstarted_it_may_be_started_again(self, store: SqlStore) -> None:
        account = await account_in(store)
        order = new_session(account, start=False)
        created = (await store.create_session(order, plan(), NOON)).session
        await store.start_session(order.id, account.id, plan(), NOON)
        await store.unstart_session(order.id)
        assert await store.session(order.id) == created
        assert await store.room_of(order.id) == order.room
        _, did = await store.start_session(order.id, account.id, plan(), later(seconds=5))
        assert did

    async def test_sessions_never_started_are_found_and_ended_for_nothing(
        self, store: SqlStore
    ) -> None:
        account = await account_in(store)
        orders = [new_session(account, start=False) for _ in range(2)]
        for order, at in zip(orders, (NOON, later(minutes=30)), strict=True):
            await store.create_session(order, plan(), at)
        stale = await store.stale_created(later(minutes=30))
        assert [session.id for session in stale] == [orders[0].id]

        end = later(hours=1)
        assert await store.end_session(orders[0].id, "client_request", plan(), end) is None
        ended = await store.end_session(orders[0].id, "never_started", plan(), end)
        assert ended is not None
        assert (ended.status, ended.end_reason, ended.bill) == (
            "ended",
            "never_started",
            Bill(0, 0, 0),
        )
        assert ended.duration_s(end) == 0


class TestPlacing:
    async def test_who_runs_it_is_noted(self, store: SqlStore) -> None:
        account = await account_in(store)
        session = await started(store, account)
        assert await store.place_session(session.id, "w1", "i1", None, None, later(seconds=1))
        placed = await store.session(session.id)
        assert placed is not None
        assert (placed.worker, placed.instance, placed.ws_uri, placed.seen_at) == (
            "w1",
            "i1",
            None,
            later(seconds=1),
        )

    async def test_an_ended_or_discarded_session_is_not_placed(self, store: SqlStore) -> None:
        account = await account_in(store)
        over, gone = await started(store, account), await started(store, account)
        await store.end_session(over.id, "client_request", plan(), NOON)
        await store.discard_session(gone.id)
        for session in (over, gone):
            assert not await store.place_session(session.id, "w", None, None, None, NOON)

    async def test_what_a_worker_has_taken_is_neither_discarded_nor_unstarted(
        self, store: SqlStore
    ) -> None:
        account = await account_in(store)
        session = await started(store, account)
        await store.place_session(session.id, "w", None, None, None, NOON)
        await store.discard_session(session.id)
        await store.unstart_session(session.id)
        assert await store.running_count(account.id) == 1

    async def test_a_worker_is_heard_of(self, store: SqlStore) -> None:
        account = await account_in(store)
        session = await started(store, account)
        await store.place_session(session.id, "w", "first", None, None, NOON)
        await store.note_seen(session.id, later(seconds=1), instance="other", ws_uri="ws://a")
        await store.note_seen(session.id, later(seconds=2), ready=True, watch_uri="http://w")
        await store.note_seen(session.id, later(seconds=3), ready=True, ws_uri="ws://b")

        seen = await store.session(session.id)
        assert seen is not None
        assert (seen.instance, seen.ws_uri, seen.watch_uri) == ("first", "ws://a", "http://w")
        assert (seen.ready_at, seen.seen_at) == (later(seconds=2), later(seconds=3))

    async def test_nothing_is_heard_of_an_ended_session(self, store: SqlStore) -> None:
        account = await account_in(store)
        session = await started(store, account)
        ended = await store.end_session(session.id, "client_request", plan(), later(seconds=1))
        await store.note_seen(session.id, later(seconds=2), ready=True, ws_uri="ws://a")
        assert await store.session(session.id) == ended


class TestRooms:
    async def test_a_room_is_sealed_and_forgotten_once_placed(self, store: SqlStore) -> None:
        account = await account_in(store)
        order = new_session(account)
        session = (await store.create_session(order, plan(), NOON)).session
        assert await store.room_of(session.id) == order.room

        (row,) = await store._database.rows(text("SELECT * FROM sessions"))
        assert row.room
        assert "room-token-that-nobody-sees" not in repr(row)
        assert "rooms.example.com" not in repr(row)

        await store.place_session(session.id, "w", None, None, None, NOON)
        assert await store.room_of(session.id) is None
        assert await _sealed(store) == [None]

    async def test_an_ended_session_forgets_its_room(self, store: SqlStore) -> None:
        account = await account_in(store)
        session = await started(store, account)
        await store.end_session(session.id, "client_request", plan(), NOON)
        assert await store.room_of(session.id) is None
        assert await _sealed(store) == [None]

    async def test_a_room_without_address_has_nothing_to_seal(self, store: SqlStore) -> None:
        account = await account_in(store)
        order = new_session(account, room=RoomOrder("local"))
        await store.create_session(order, plan(), NOON)
        assert await store.room_of(order.id) == RoomOrder("local")
        assert await _sealed(store) == [None]

    async def test_another_secret_does_not_open_it(self, store: SqlStore, url: str) -> None:
        account = await account_in(store)
        session = await started(store, account)
        other = await open_store(url, bytes(32))
        try:
            with pytest.raises(StoreError, match="another secret") as failed:
                await other.room_of(session.id)
            assert "nobody-sees" not in str(failed.value)
        finally:
            await other.aclose()

    async def test_any_text_a_client_sends_comes_back(self, store: SqlStore) -> None:
        account = await account_in(store)
        room = RoomOrder("livekit", "wss://x/\0\ud800", "t\0")
        order = new_session(account, room=room, metadata={"\0": "\ud800 ✓"}, idempotency_key="\0")
        await store.create_session(order, plan(), NOON)
        assert await store.room_of(order.id) == room
        session = await store.session(order.id)
        assert session is not None
        assert session.metadata == {"\0": "\ud800 ✓"}


async def _sealed(store: SqlStore) -> list[object]:
    return [row.room for row in await store._database.rows(text("SELECT room FROM sessions"))]
