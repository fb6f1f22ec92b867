"""The commands for accounts, keys and minutes. Each prints what it did."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from api.cli_text import UsageError, limit_text, print_table

if TYPE_CHECKING:
    from api.plans import Plans
    from api.records import Account, ApiKey
    from api.settings import ApiSettings
    from api.store.sql import SqlStore

T = TypeVar("T")


def account_create(arguments: argparse.Namespace) -> None:
    """Make an account."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        plan = arguments.plan or settings.default_plan
        if plan not in plans:
            known = ", ".join(each.key for each in plans)
            raise UsageError(f"there is no plan {plan!r}; there are: {known}")
        account = await _or_usage(
            store.create_account(arguments.name, plan, _now(), arguments.anchor_day)
        )
        print(f"{account.id}  {account.name}  plan {plan}")
        print(f"next: python -m api key create {account.id}")

    _with_store(work)


def account_list(arguments: argparse.Namespace) -> None:
    """List the accounts, oldest first."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        rows = [
            (
                account.id,
                account.name,
                account.plan_key if account.plan_key in plans else f"{account.plan_key} (gone)",
                f"day {account.anchor_day}" if account.anchor_day else "calendar month",
                _date(account.created_at),
            )
            for account in await store.accounts()
        ]
        print_table(("id", "name", "plan", "period", "created"), rows)

    _with_store(work)


def key_create(arguments: argparse.Namespace) -> None:
    """Make an API key and print it, once. It is stored as a hash and cannot be shown again; the
    key goes to standard output, everything else to standard error."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        now = _now()
        expires = now + arguments.expires_in if arguments.expires_in else None
        key, text = await store.create_key(
            account.id, arguments.name, now, test=arguments.test, expires_at=expires
        )
        print(text, flush=True)
        until = f", until {_date(expires)}" if expires else ""
        print(
            f"key {key.id} of {account.name}{until}; keep it now, it is not shown again",
            file=sys.stderr,
        )

    _with_store(work)


def key_list(arguments: argparse.Namespace) -> None:
    """List an account's keys, oldest first. Only their ends are known."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        now = _now()
        rows = [
            (key.id, key.hint, key.name or "-", _date(key.created_at), _key_state(key, now))
            for key in await store.keys(account.id)
        ]
        print_table(("id", "key", "name", "created", "state"), rows)

    _with_store(work)


def key_revoke(arguments: argparse.Namespace) -> None:
    """Refuse a key from now on."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        if not await store.revoke_key(arguments.id, _now()):
            raise UsageError(
                f"there is no key {arguments.id!r}; python -m api key list ACCOUNT shows their ids"
            )
        print(f"{arguments.id} is revoked")

    _with_store(work)


def grant_minutes(arguments: argparse.Namespace) -> None:
    """Add a package of purchased minutes. They last until they are used."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        left = await _or_usage(
            store.grant_minutes(account.id, arguments.minutes, arguments.note, _now())
        )
        print(f"{account.name} has {left} purchased minutes left")

    _with_store(work)


def show_usage(arguments: argparse.Namespace) -> None:
    """Show an account's billing period as it stands."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        plan = plans.get(account.plan_key)
        usage = await store.usage(account, plan, _now())
        included = limit_text(usage.included_total)
        rows = [
            ("account", f"{account.name} ({account.id})"),
            ("plan", plan.name),
            ("period", f"{_date(usage.period_start)} to {_date(usage.period_end)}"),
            (
                "included minutes",
                f"{usage.included_used} of {included} used",
            ),
            (
                "purchased minutes",
                f"{usage.purchased_remaining} of {usage.purchased_total} left",
            ),
            ("minutes left", limit_text(usage.total_remaining)),
            ("running sessions", f"{len(usage.active)} of {plan.concurrency}"),
            ("avatars made", f"{usage.avatars_used} of {limit_text(plan.avatars_per_cycle)}"),
        ]
        for name, value in rows:
            print(f"{name:<18} {value}")

    _with_store(work)


def _with_store(work: Callable[[SqlStore, ApiSettings, Plans], Awaitable[None]]) -> None:
    """Run ``work`` with the store; a new SQLite file gets its tables first."""
    from api.plans import load_plans
    from api.settings import load_settings
    from api.store.migrate import is_new, migrate
    from api.store.sql import open_store

    settings = load_settings()
    plans = load_plans(settings.plans_file, settings.default_plan)

    async def run() -> None:
        if is_new(settings.database):
            await migrate(settings.database)
        store = await open_store(settings.database)
        try:
            await store.check()
            await work(store, settings, plans)
        finally:
            await store.aclose()

    asyncio.run(run())


async def _account(store: SqlStore, text: str) -> Account:
    account = await store.account_named(text) or await store.account(text)
    if account is None:
        raise UsageError(f"there is no account {text!r}; python -m api account list shows them")
    return account


async def _or_usage(work: Awaitable[T]) -> T:
    try:
        return await work
    except ValueError as error:
        raise UsageError(str(error)) from error


def _key_state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {_date(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    return f"{'works until' if now < key.expires_at else 'expired'} {_date(key.expires_at)}"


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _now() -> datetime:
    return datetime.now(UTC)
