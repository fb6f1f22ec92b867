"""The ledger of minutes: what was bought, what was charged, and therefore what is left.

Entries are added and never changed, so every figure is a sum over them. The included minutes of a
period are the plan's, less the charges to the plan in that period; a package's are its grant less
its charges. Minutes nobody had left (a session is stopped only after they ran out) are charged to
the plan: the bill always says what ran, and what remains is never below zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select
from ulid import ULID

from api.records import Account, Bill, Plan
from api.store.periods import billing_period
from api.store.tables import minutes

PLAN = "plan"
LARGEST_GRANT = 10_000_000


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    total = func.coalesce(func.sum(minutes.c.minutes), 0)
    mine = minutes.c.account_id == bindparam("account_id")
    return select(total).where(mine, condition).scalar_subquery()


_SUMS = select(
    _sum(
        (minutes.c.kind == "plan")
        & (minutes.c.at >= bindparam("start"))
        & (minutes.c.at < bindparam("end"))
    ),
    _sum(minutes.c.kind == "grant"),
    _sum(minutes.c.kind == "package"),
)
_INSERT = insert(minutes)


@dataclass(frozen=True)
class Balance:
    """What an account has, before its running sessions are counted."""

    included_total: int | None
    """None: unlimited."""
    charged: int
    """Charged to the plan in this period."""
    purchased_total: int
    purchased_left: int

    def split(self, used: int) -> tuple[int, int]:
        """Who pays ``used`` minutes more: the plan, and packages."""
        if self.included_total is None:
            return used, 0
        included = min(used, max(0, self.included_total - self.charged))
        purchased = min(used - included, self.purchased_left)
        return used - purchased, purchased

    def left(self, used: int) -> int | None:
        """Minutes left once ``used`` more are paid; None: unlimited."""
        if self.included_total is None:
            return None
        plan, purchased = self.split(used)
        return max(0, self.included_total - self.charged - plan) + self.purchased_left - purchased


def balance(connection: Connection, account: Account, plan: Plan, now: datetime) -> Balance:
    """The account's balance in the period ``now`` is in."""
    start, end = billing_period(account.anchor_day, now)
    charged, granted, spent = connection.execute(
        _SUMS, {"account_id": account.id, "start": start, "end": end}
    ).one()
    return Balance(plan.included_minutes, -charged, granted, granted + spent)


def grant(connection: Connection, account: Account, amount: int, note: str, now: datetime) -> None:
    """Add a package."""
    package = f"pack_{ULID.from_datetime(now)}"
    connection.execute(
        _INSERT,
        {
            "id": package,
            "account_id": account.id,
            "at": now,
            "kind": "grant",
            "minutes": amount,
            "source": package,
            "note": note,
        },
    )


def charge(
    connection: Connection,
    account: Account,
    plan: Plan,
    session_id: str,
    used: int,
    now: datetime,
) -> Bill:
    """Charge a session: included minutes first, then packages, oldest first. The account is
    locked; a second charge of the same session is refused by the table."""
    if used == 0:
        return Bill(0, 0, 0)
    from_plan, from_packages = used, 0
    if plan.included_minutes is not None:
        from_plan, from_packages = balance(connection, account, plan, now).split(used)
    shares = {PLAN: from_plan} if from_plan else {}
    if from_packages:
        shares |= _from_packages(connection, account, from_packages)
    connection.execute(
        _INSERT,
        [
            {
                "id": f"mins_{ULID.from_datetime(now)}",
                "account_id": account.id,
                "at": now,
                "kind": "plan" if source == PLAN else "package",
                "minutes": -amount,
                "source": source,
                "session_id": session_id,
                "note": "",
            }
            for source, amount in shares.items()
        ],
    )
    return Bill(used, from_plan, from_packages)


def _from_packages(connection: Connection, account: Account, wanted: int) -> dict[str, int]:
    left = func.sum(minutes.c.minutes)
    query = (
        select(minutes.c.source, left)
        .where(minutes.c.account_id == account.id, minutes.c.kind.in_(("grant", "package")))
        .group_by(minutes.c.source)
        .having(left > 0)
        # Ids of packages begin with the time of their grant.
        .order_by(minutes.c.source)
    )
    shares: dict[str, int] = {}
    for source, amount in connection.execute(query).all():
        shares[source] = min(amount, wanted)
        wanted -= shares[source]
        if wanted == 0:
            break
    return shares
