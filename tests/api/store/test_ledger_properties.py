"""Whatever happens in whatever order, the figures are the ledger's sums."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.records import Account, Plan, Session, Usage
from api.store.periods import billing_period
from api.store.port import ConcurrencyReached, NoMinutes
from api.store.sql import SqlStore
from tests.api.store.rows import NOON, account_in, ledger, new_session, plan

steps = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(1, 30)),
        st.tuples(st.just("create"), st.booleans()),
        st.tuples(st.just("start"), st.integers(0, 5)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 15 * 60)),
        st.tuples(st.just("wait days"), st.integers(10, 40)),
    ),
    min_size=5,
    max_size=25,
)
plans = st.builds(
    plan, concurrency=st.integers(1, 4), included=st.none() | st.integers(0, 40), session=st.none()
)
anchor_days = st.none() | st.integers(1, 28)


@dataclass
class Story:
    """One account's life, and what must hold after every step of it."""

    store: SqlStore
    account: Account
    plan: Plan
    now: datetime = NOON
    sessions: list[Session] = field(default_factory=list)
    last: Usage | None = None

    async def step(self, what: str, value: int) -> None:
        gift = False
        match what:
            case "grant":
                await self.store.grant_minutes(self.account.id, value, "", self.now)
                gift = True
            case "create":
                await self._create(start=bool(value))
            case "start":
                await self._start(value)
            case "end":
                await self._end(value)
            case "wait":
                self.now += timedelta(seconds=value)
            case "wait days":
                self.now += timedelta(days=value)
        await self._check(gift)

    async def _create(self, start: bool) -> None:
        before = await self._usage()
        order = new_session(self.account, start=start)
        try:
            stored = await self.store.create_session(order, self.plan, self.now)
        except NoMinutes:
            assert before.total_remaining == 0
        except ConcurrencyReached:
            assert before.total_remaining != 0
            assert len(before.active) == self.plan.concurrency
        else:
            assert before.total_remaining != 0
            assert len(before.active) < self.plan.concurrency
            self.sessions.append(stored.session)

    async def _start(self, number: int) -> None:
        waiting = [
            session for session in self.sessions if (await self._now(session)).status == "created"
        ]
        if waiting:
            session = waiting[number % len(waiting)]
            try:
                _, did = await self.store.start_session(
                    session.id, self.account.id, self.plan, self.now
                )
                assert did
            except (NoMinutes, ConcurrencyReached):
                assert (await self._now(session)).status == "created"

    async def _end(self, number: int) -> None:
        if not self.sessions:
            return
        session = self.sessions[number % len(self.sessions)]
        before = await self._now(session)
        ended = await self.store.end_session(session.id, "client_request", self.plan, self.now)
        assert (ended is not None) == (before.status == "started")
        if ended is not None:
            assert before.started_at is not None
            assert ended.bill is not None
            seconds = (self.now - before.started_at).total_seconds()
            assert ended.bill.minutes_used == math.ceil(seconds / 60)
            assert ended.bill.minutes_used == ended.bill.from_plan + ended.bill.from_purchased

    async def _check(self, gift: bool) -> None:
        usage = await self._usage()
        rows = await ledger(self.store, self.account)
        start, end = billing_period(self.account.anchor_day, self.now)
        assert (usage.period_start, usage.period_end) == (start, end)
        assert start <= self.now < end

        # The ledger by itself: no package gave more than it had.
        packages: dict[str, int] = {}
        for row in rows:
            if row.source != "plan":
                packages[row.source] = packages.get(row.source, 0) + row.minutes
        assert all(left >= 0 for left in packages.values())
        left_in_packages = sum(packages.values())
        assert usage.purchased_total == sum(row.minutes for row in rows if row.minutes > 0)

        # Usage is the ledger and the running sessions, nothing else.
        charged = -sum(row.minutes for row in rows if row.source == "plan" and _at(row) >= start)
        assert usage.active_minutes == sum(
            math.ceil((self.now - (session.started_at or self.now)).total_seconds() / 60)
            for session in usage.active
        )
        from_packages = left_in_packages - usage.purchased_remaining
        assert usage.included_used == charged + usage.active_minutes - from_packages
        assert 0 <= usage.purchased_remaining <= usage.purchased_total
        if self.plan.included_minutes is None:
            assert usage.total_remaining is None
            assert from_packages == 0
        else:
            assert usage.included_remaining is not None
            assert usage.included_remaining >= 0
            if usage.purchased_remaining > 0 and usage.active_minutes:
                assert from_packages == max(
                    0, usage.active_minutes - max(0, self.plan.included_minutes - charged)
                )

        # Bills are the ledger's rows.
        for session in self.sessions:
            session = await self._now(session)
            mine = [row for row in rows if row.session_id == session.id]
            assert (session.bill is None) == (session.status != "ended")
            if session.bill is None:
                assert mine == []
                continue
            plan_share = -sum(row.minutes for row in mine if row.source == "plan")
            assert session.bill.from_plan == plan_share
            assert session.bill.minutes_used == -sum(row.minutes for row in mine)

        # Only a gift or a new period ever adds minutes.
        same_period = self.last is not None and self.last.period_start == start
        if self.last is not None and same_period and not gift:
            assert (usage.total_remaining or 0) <= (self.last.total_remaining or 0)
        self.last = usage

    async def _usage(self) -> Usage:
        return await self.store.usage(self.account, self.plan, self.now)

    async def _now(self, session: Session) -> Session:
        found = await self.store.session(session.id)
        assert found is not None
        return found


def _at(row: object) -> datetime:
    at = row.at  # type: ignore[attr-defined]
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment if moment.tzinfo else moment.replace(tzinfo=NOON.tzinfo)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=plans, anchor_day=anchor_days, steps=steps)
async def test_usage_is_the_ledger(
    store: SqlStore, plan: Plan, anchor_day: int | None, steps: list[tuple[str, int]]
) -> None:
    story = Story(store, await account_in(store, anchor_day), plan)
    for what, value in steps:
        await story.step(what, value)
