"""Minutes add up: what is bought, what is charged, what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api.records import Account, Bill, EndReason, Plan
from api.store.sql import SqlStore
from tests.api.store.rows import NOON, account_in, later, ledger, new_session, plan, started


async def run(
    store: SqlStore, account: Account, of: Plan, minutes: float, at: datetime = NOON
) -> Bill:
    session = await started(store, account, at, of)
    end = at + timedelta(minutes=minutes)
    ended = await store.end_session(session.id, "client_request", of, end)
    assert ended is not None
    assert ended.bill is not None
    assert ended == await store.session(session.id)
    return ended.bill


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0, 0), (0.9, 0), (1, 1), (60, 1), (60.9, 1), (61, 2), (330, 6)]
)
async def test_a_bill_is_the_shown_duration_rounded_up(
    store: SqlStore, seconds: float, minutes: int
) -> None:
    account = await account_in(store)
    session = await started(store, account)
    end = later(seconds=seconds)
    usage = await store.usage(account, plan(), end)
    ended = await store.end_session(session.id, "client_request", plan(), end)
    assert ended is not None
    assert ended.bill == Bill(minutes, minutes, 0)
    assert ended.ended_at == end
    assert ended.duration_s(later(days=1)) == int(seconds)
    assert usage.active_minutes == minutes, "and the same while it ran"


async def test_a_session_is_billed_once(store: SqlStore) -> None:
    account = await account_in(store)
    session = await started(store, account)
    first = await store.end_session(session.id, "room_empty", plan(), later(minutes=2))
    assert first is not None
    assert await store.end_session(session.id, "expired", plan(), later(minutes=60)) is None
    assert await store.session(session.id) == first
    assert first.end_reason == "room_empty"
    assert [row.minutes for row in await ledger(store, account)] == [-2]


async def test_included_minutes_first_then_packages_oldest_first(store: SqlStore) -> None:
    account, small = await account_in(store), plan(included=10)
    assert await store.grant_minutes(account.id, 5, "first", later(seconds=1)) == 5
    assert await store.grant_minutes(account.id, 20, "second", later(seconds=2)) == 25

    assert await run(store, account, small, 8) == Bill(8, 8, 0)
    assert await run(store, account, small, 4) == Bill(4, 2, 2)
    assert await run(store, account, small, 6) == Bill(6, 0, 6)

    rows = await ledger(store, account)
    first, second = (row.source for row in rows if row.kind == "grant")
    charged: dict[str, int] = {}
    for row in rows:
        if row.kind != "grant":
            charged[row.source] = charged.get(row.source, 0) - row.minutes
    assert charged == {"plan": 10, first: 5, second: 3}

    usage = await store.usage(account, small, later(hours=1))
    assert (usage.included_used, usage.included_remaining) == (10, 0)
    assert (usage.purchased_total, usage.purchased_remaining) == (25, 17)
    assert usage.total_remaining == 17


async def test_minutes_nobody_had_are_charged_to_the_plan(store: SqlStore) -> None:
    account, small = await account_in(store), plan(included=2)
    await store.grant_minutes(account.id, 1, "", NOON)
    assert await run(store, account, small, 5) == Bill(5, 4, 1)
    usage = await store.usage(account, small, later(hours=1))
    assert (usage.included_used, usage.included_remaining, usage.purchased_remaining) == (4, 0, 0)
    # What was overdrawn is not taken from the next package.
    assert await store.grant_minutes(account.id, 10, "", later(hours=1)) == 10


async def test_an_unlimited_plan_pays_all_and_keeps_packages(store: SqlStore) -> None:
    account, endless = await account_in(store), plan(included=None)
    await store.grant_minutes(account.id, 5, "", NOON)
    assert await run(store, account, endless, 30) == Bill(30, 30, 0)
    usage = await store.usage(account, endless, later(hours=1))
    assert (usage.included_total, usage.included_used, usage.total_remaining) == (None, 30, None)
    assert usage.purchased_remaining == 5


async def test_running_sessions_are_part_of_what_is_used(store: SqlStore) -> None:
    account, small = await account_in(store), plan(included=10)
    await store.grant_minutes(account.id, 5, "", NOON)
    first = await started(store, account, NOON, small)
    second = await started(store, account, later(seconds=30), small)

    usage = await store.usage(account, small, later(seconds=450))
    assert [session.id for session in usage.active] == [first.id, second.id]
    assert usage.active_minutes == 8 + 7
    assert (usage.included_used, usage.purchased_remaining) == (10, 0)
    assert usage.total_remaining == 0
    for session in (second, first):
        await store.end_session(session.id, "client_request", small, later(seconds=450))
    after = await store.usage(account, small, later(seconds=450))
    assert (after.included_used, after.purchased_remaining) == (10, 0)
    assert (after.active, after.active_minutes) == ([], 0)


async def test_a_new_period_has_its_minutes_again(store: SqlStore) -> None:
    account, small = await account_in(store), plan(included=10)
    await store.grant_minutes(account.id, 5, "", NOON)
    await run(store, account, small, 12)
    april = await store.usage(account, small, datetime(2026, 4, 1, tzinfo=UTC))
    assert (april.included_used, april.purchased_remaining, april.total_remaining) == (0, 3, 13)
    assert april.period_start == datetime(2026, 4, 1, tzinfo=UTC)
    assert april.period_end == datetime(2026, 5, 1, tzinfo=UTC)


async def test_a_period_begins_on_the_anchor_day(store: SqlStore) -> None:
    account, small = await account_in(store, anchor_day=15), plan(included=10)
    await run(store, account, small, 4)
    day = datetime(2026, 3, 15, tzinfo=UTC)
    assert (await store.usage(account, small, day - timedelta(seconds=1))).included_used == 4
    assert (await store.usage(account, small, day)).included_used == 0


@pytest.mark.parametrize(
    ("reason", "ready", "minutes"),
    [
        ("join_failed", False, 0),
        ("join_failed", True, 0),
        ("server_error", False, 0),
        ("server_error", True, 5),
        ("client_request", False, 5),
        ("expired", True, 5),
    ],
)
async def test_what_served_nobody_costs_nothing(
    store: SqlStore, reason: EndReason, ready: bool, minutes: int
) -> None:
    account = await account_in(store)
    session = await started(store, account)
    await store.place_session(session.id, "w", None, None, None, NOON)
    await store.note_seen(session.id, later(seconds=1), ready=ready)
    ended = await store.end_session(session.id, reason, plan(), later(minutes=5))
    assert ended is not None
    assert ended.bill == Bill(minutes, minutes, 0)
    assert -sum(row.minutes for row in await ledger(store, account)) == minutes


async def test_an_end_before_the_start_costs_nothing(store: SqlStore) -> None:
    """A worker's clock may be behind ours."""
    account = await account_in(store)
    session = await started(store, account)
    ended = await store.end_session(session.id, "room_empty", plan(), later(seconds=-5))
    assert ended is not None
    assert (ended.ended_at, ended.bill) == (NOON, Bill(0, 0, 0))


@pytest.mark.parametrize("amount", [0, -1, 10_000_001])
async def test_an_amount_that_cannot_be_granted(store: SqlStore, amount: int) -> None:
    account = await account_in(store)
    with pytest.raises(ValueError, match="cannot be granted"):
        await store.grant_minutes(account.id, amount, "", NOON)
    with pytest.raises(ValueError, match="no account"):
        await store.grant_minutes("acct_none", 5, "", NOON)
    assert await ledger(store, account) == []


async def test_the_table_itself_refuses_a_second_charge(store: SqlStore) -> None:
    account = await account_in(store)
    await run(store, account, plan(), 3)
    again = text(
        "INSERT INTO minutes SELECT 'other', account_id, at, kind, minutes, source, session_id,"
        " note FROM minutes"
    )
    with pytest.raises(IntegrityError):
        await store._database.change(again)


async def test_a_failed_charge_leaves_the_session_running(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End and charges are one transaction: a crash between them undoes both."""
    account = await account_in(store)
    session = await started(store, account)

    class Crash(BaseException):
        pass

    import api.store.sessions as module

    charge = module.charge

    def charge_and_crash(*arguments: object) -> Bill:
        charge(*arguments)  # type: ignore[arg-type]
        raise Crash

    monkeypatch.setattr(module, "charge", charge_and_crash)
    with pytest.raises(Crash):
        await store.end_session(session.id, "client_request", plan(), later(minutes=2))
    assert await store.session(session.id) == session
    assert await ledger(store, account) == []

    monkeypatch.undo()
    ended = await store.end_session(session.id, "client_request", plan(), later(minutes=3))
    assert ended is not None
    assert ended.bill == Bill(3, 3, 0)


async def test_another_accounts_minutes_stay_its_own(store: SqlStore) -> None:
    mine, theirs = await account_in(store), await account_in(store)
    await store.grant_minutes(theirs.id, 50, "", NOON)
    await store.create_session(new_session(theirs), plan(), NOON)
    await run(store, theirs, plan(), 5)
    usage = await store.usage(mine, plan(), later(minutes=5))
    assert (usage.included_used, usage.purchased_total, list(usage.active)) == (0, 0, [])
