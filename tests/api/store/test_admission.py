"""Slots and minutes are enforced atomically, from any number of engines and processes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from api.store.port import ConcurrencyReached, NoMinutes
from api.store.sql import SqlStore
from tests.api.store.rows import NOON, account_in, later, ledger, new_session, plan, started

CREATE_MANY = """
import asyncio, json, sys
from pathlib import Path
from api.store.port import ConcurrencyReached
from api.store.sql import open_store
from tests.api.store.rows import NOON, SEAL_KEY, new_session, plan

async def main(url, account_id, name, go):
    store = await open_store(url, SEAL_KEY)
    account = await store.account(account_id)
    print("ready", flush=True)
    while not Path(go).exists():
        await asyncio.sleep(0.001)
    async def create(number):
        order = new_session(account, id=f"sess_{name}_{number}", fingerprint="")
        try:
            await store.create_session(order, plan(), NOON)
        except ConcurrencyReached as reached:
            return [reached.current, reached.maximum]
        return order.id
    print(json.dumps(await asyncio.gather(*(create(n) for n in range(17)))))
    await store.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_fifty_creates_of_several_processes_on_a_plan_of_five(
    store: SqlStore, url: str, tmp_path: Path
) -> None:
    account = await account_in(store)
    go = tmp_path / "go"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", CREATE_MANY, url, account.id, name, str(go)),
            stdout=asyncio.subprocess.PIPE,
        )
        for name in ("a", "b", "c")
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    go.touch()
    outputs = [(await process.communicate())[0] for process in processes]

    results = [result for output in outputs for result in json.loads(output)]
    created = [result for result in results if isinstance(result, str)]
    assert len(results) == 51
    assert len(created) == 5
    assert [result for result in results if not isinstance(result, str)] == [[5, 5]] * 46
    running, total = await store.sessions_of(account.id, "started", 100, 0)
    assert sorted(session.id for session in running) == sorted(created)
    assert total == 5


async def test_fifty_creates_of_two_engines_on_a_plan_of_five(stores: list[SqlStore]) -> None:
    account, other = await account_in(stores[0]), await account_in(stores[0])

    async def create(number: int) -> bool:
        whose = account if number % 10 else other
        try:
            await stores[number % 2].create_session(new_session(whose), plan(), NOON)
        except ConcurrencyReached:
            return False
        return True

    results = await asyncio.gather(*(create(number) for number in range(50)))
    assert sum(results) == 10, "five of each account: one does not fill another's plan"
    assert await stores[0].running_count(account.id) == 5
    assert await stores[0].running_count(other.id) == 5


async def test_parallel_repeats_are_one_session(stores: list[SqlStore]) -> None:
    account = await account_in(stores[0])

    async def create(number: int) -> str:
        order = new_session(account, idempotency_key="k", request_digest="r")
        return (await stores[number % 2].create_session(order, plan(), NOON)).session.id

    assert len(set(await asyncio.gather(*(create(number) for number in range(10))))) == 1
    assert await stores[0].running_count(account.id) == 1


async def test_parallel_starts_do_not_pass_the_plan(stores: list[SqlStore]) -> None:
    account = await account_in(stores[0])
    orders = [new_session(account, start=False) for _ in range(8)]
    for order in orders:
        await stores[0].create_session(order, plan(concurrency=3), NOON)

    async def start(number: int) -> str:
        order = orders[number % 8]
        try:
            _, did = await stores[number % 2].start_session(
                order.id, account.id, plan(concurrency=3), NOON
            )
        except ConcurrencyReached:
            return "refused"
        return "started" if did else "had been"

    results = await asyncio.gather(*(start(number) for number in range(16)))
    assert results.count("started") == 3
    assert await stores[0].running_count(account.id) == 3


async def test_an_ended_or_discarded_session_frees_its_slot(store: SqlStore) -> None:
    account, one = await account_in(store), plan(concurrency=1)
    for free in ("end", "discard"):
        session = await started(store, account, of=one)
        with pytest.raises(ConcurrencyReached) as reached:
            await started(store, account, of=one)
        assert (reached.value.current, reached.value.maximum) == (1, 1)
        if free == "end":
            await store.end_session(session.id, "client_request", one, NOON)
        else:
            await store.discard_session(session.id)
    await started(store, account, of=one)


async def test_a_failed_create_leaves_nothing(store: SqlStore) -> None:
    account, one = await account_in(store), plan(concurrency=1)
    await started(store, account, of=one)
    refused = new_session(account, idempotency_key="k", request_digest="r")
    with pytest.raises(ConcurrencyReached):
        await store.create_session(refused, one, NOON)
    assert await store.session(refused.id) is None
    assert (await store.sessions_of(account.id, None, 9, 0))[1] == 1


class TestMinutes:
    async def test_no_session_without_minutes(self, store: SqlStore) -> None:
        account, small = await account_in(store), plan(included=2)
        session = await started(store, account, of=small)
        await store.end_session(session.id, "client_request", small, later(seconds=61))
        with pytest.raises(NoMinutes):
            await started(store, account, later(minutes=3), small)
        waiting = new_session(account, start=False)
        with pytest.raises(NoMinutes):
            await store.create_session(waiting, small, later(minutes=3))

        await store.grant_minutes(account.id, 1, "gift", later(minutes=4))
        await started(store, account, later(minutes=5), small)

    async def test_running_sessions_count_rounded_up(self, store: SqlStore) -> None:
        account, small = await account_in(store), plan(included=2)
        await started(store, account, of=small)
        waiting = new_session(account, start=False)
        await store.create_session(waiting, small, later(seconds=60))
        # In its 61st second the session has used the second minute.
        with pytest.raises(NoMinutes):
            await started(store, account, later(seconds=61), small)
        with pytest.raises(NoMinutes):
            await store.start_session(waiting.id, account.id, small, later(seconds=61))

    async def test_minutes_are_looked_at_before_slots(self, store: SqlStore) -> None:
        account, small = await account_in(store), plan(concurrency=1, included=1)
        await started(store, account, of=small)
        with pytest.raises(NoMinutes):
            await started(store, account, later(minutes=2), small)

    async def test_an_unlimited_plan_never_runs_out(self, store: SqlStore) -> None:
        account, endless = await account_in(store), plan(included=None)
        session = await started(store, account, of=endless)
        await store.end_session(session.id, "client_request", endless, later(days=300))
        await started(store, account, later(days=301), endless)

    async def test_parallel_ends_share_minutes_out_once(self, stores: list[SqlStore]) -> None:
        account, small = await account_in(stores[0]), plan(included=7)
        sessions = [await started(stores[0], account, of=small) for _ in range(5)]
        await stores[0].grant_minutes(account.id, 10, "", NOON)
        # Each session twice, from two engines.
        ends = [
            store.end_session(session.id, "client_request", small, later(minutes=3))
            for session in sessions
            for store in stores
        ]
        bills = [ended.bill for ended in await asyncio.gather(*ends) if ended and ended.bill]
        assert len(bills) == 5
        assert sum(bill.minutes_used for bill in bills) == 15
        assert sum(bill.from_plan for bill in bills) == 7
        assert sum(bill.from_purchased for bill in bills) == 8
        charged = [row.minutes for row in await ledger(stores[0], account) if row.session_id]
        assert sum(charged) == -15
