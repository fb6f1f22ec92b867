"""The command line: ``python -m api serve | account | key | grant-minutes | usage | plans | ...``.

Settings are environment variables AVATAR_API_*; see docs/configuration.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from api.plans import Plans
    from api.records import Account, ApiKey
    from api.settings import ApiSettings
    from api.store.sql import SqlStore

T = TypeVar("T")

EXIT_FAILED, EXIT_USAGE = 1, 2

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class UsageError(Exception):
    """What was asked for does not exist or cannot be; the text says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 wrong use."""
    arguments = _parser().parse_args(argv)
    # Heavy imports wait until the arguments are known to be right.
    from api.settings import SettingsError
    from api.store.engine import StoreError

    try:
        return int(arguments.run(arguments) or 0)
    except (SettingsError, UsageError) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # whoever read us had enough
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        parent: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        run: Callable[[argparse.Namespace], int | None],
    ) -> argparse.ArgumentParser:
        text = (run.__doc__ or "").split(".")[0]
        made = parent.add_parser(name, help=text[0].lower() + text[1:], description=run.__doc__)
        made.set_defaults(run=run)
        return made

    command(commands, "serve", _serve)
    command(commands, "migrate", _migrate)
    command(commands, "plans", _plans)

    account = commands.add_parser("account", help="accounts").add_subparsers(
        required=True, metavar="command"
    )
    create = command(account, "create", _account_create)
    create.add_argument("name", help="name of the account")
    create.add_argument("--plan", help="key of its plan; default: AVATAR_API_DEFAULT_PLAN")
    create.add_argument(
        "--anchor-day",
        type=_anchor_day,
        metavar="DAY",
        help="day of the month its billing period begins on, 1-28; default: calendar months",
    )
    command(account, "list", _account_list)

    key = commands.add_parser("key", help="API keys").add_subparsers(
        required=True, metavar="command"
    )
    create = command(key, "create", _key_create)
    create.add_argument("account", help="name or id of the account")
    create.add_argument("--name", default="", help="what the key is for")
    create.add_argument("--test", action="store_true", help="ah_test_… instead of ah_live_…")
    create.add_argument(
        "--expires-in", type=_duration, metavar="TIME", help="such as 90d, 12h or 30m"
    )
    listing = command(key, "list", _key_list)
    listing.add_argument("account", help="name or id of the account")
    revoke = command(key, "revoke", _key_revoke)
    revoke.add_argument("id", help="id of the key, from: key list")

    grant = command(commands, "grant-minutes", _grant_minutes)
    grant.add_argument("account", help="name or id of the account")
    grant.add_argument("minutes", type=int, help="how many")
    grant.add_argument("--note", default="", help="kept in the ledger")
    usage = command(commands, "usage", _usage)
    usage.add_argument("account", help="name or id of the account")

    copy = command(commands, "backup", _backup)
    copy.add_argument("file", type=Path, help="the file to write")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    """Run the control plane."""
    from api.server import PortError, serve
    from api.settings import load_settings

    try:
        asyncio.run(serve(load_settings()))
    except PortError as error:
        return _fail(str(error), EXIT_FAILED)
    return 0


def _migrate(arguments: argparse.Namespace) -> None:
    """Bring the database to the current schema. Safe while others do the same."""
    from api.settings import load_settings
    from api.store.migrate import head, migrate

    asyncio.run(migrate(load_settings().database))
    print(f"the database has schema {head()}")


def _plans(arguments: argparse.Namespace) -> None:
    """Show the plans. They come from AVATAR_API_PLANS_FILE, or are the built-in ones."""
    from api.plans import load_plans
    from api.settings import load_settings

    settings = load_settings()
    rows = [
        (
            plan.key + ("*" if plan.key == settings.default_plan else ""),
            plan.name,
            str(plan.concurrency),
            _limit(plan.avatars_per_cycle),
            _limit(plan.included_minutes),
            _limit(plan.session_minutes),
            "yes" if plan.images_in_sessions else "no",
        )
        for plan in load_plans(settings.plans_file, settings.default_plan)
    ]
    heads = ("key", "name", "sessions", "avatars", "minutes", "session limit", "images")
    _print_table(heads, rows)
    print("\n* the plan of accounts without one; minutes and avatars are per billing period")


def _account_create(arguments: argparse.Namespace) -> None:
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


def _account_list(arguments: argparse.Namespace) -> None:
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
        _print_table(("id", "name", "plan", "period", "created"), rows)

    _with_store(work)


def _key_create(arguments: argparse.Namespace) -> None:
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


def _key_list(arguments: argparse.Namespace) -> None:
    """List an account's keys, oldest first. Only their ends are known."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        now = _now()
        rows = [
            (key.id, key.hint, key.name or "-", _date(key.created_at), _key_state(key, now))
            for key in await store.keys(account.id)
        ]
        _print_table(("id", "key", "name", "created", "state"), rows)

    _with_store(work)


def _key_revoke(arguments: argparse.Namespace) -> None:
    """Refuse a key from now on."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        if not await store.revoke_key(arguments.id, _now()):
            raise UsageError(
                f"there is no key {arguments.id!r}; python -m api key list ACCOUNT shows their ids"
            )
        print(f"{arguments.id} is revoked")

    _with_store(work)


def _grant_minutes(arguments: argparse.Namespace) -> None:
    """Add a package of purchased minutes. They last until they are used."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        left = await _or_usage(
            store.grant_minutes(account.id, arguments.minutes, arguments.note, _now())
        )
        print(f"{account.name} has {left} purchased minutes left")

    _with_store(work)


def _usage(arguments: argparse.Namespace) -> None:
    """Show an account's billing period as it stands."""

    async def work(store: SqlStore, settings: ApiSettings, plans: Plans) -> None:
        account = await _account(store, arguments.account)
        plan = plans.get(account.plan_key)
        usage = await store.usage(account, plan, _now())
        rows = [
            ("account", f"{account.name} ({account.id})"),
            ("plan", plan.name),
            ("period", f"{_date(usage.period_start)} to {_date(usage.period_end)}"),
            ("included minutes", f"{usage.included_used} of {_limit(usage.included_total)} used"),
            (
                "purchased minutes",
                f"{usage.purchased_remaining} of {usage.purchased_total} left",
            ),
            ("minutes left", _limit(usage.total_remaining)),
            ("running sessions", f"{len(usage.active)} of {plan.concurrency}"),
            ("avatars made", f"{usage.avatars_used} of {_limit(plan.avatars_per_cycle)}"),
        ]
        for name, value in rows:
            print(f"{name:<18} {value}")

    _with_store(work)


def _backup(arguments: argparse.Namespace) -> None:
    """Copy the SQLite database to FILE while it is in use. Photos and the installation's secret
    are files of their own; Postgres is backed up by pg_dump."""
    from api.settings import load_settings
    from api.store.backup import backup

    size = backup(load_settings().database, arguments.file)
    print(f"{arguments.file}: {size} bytes")


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


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _anchor_day(text: str) -> int:
    if not re.fullmatch(r"\d{1,2}", text) or not 1 <= int(text) <= 28:
        raise argparse.ArgumentTypeError(f"{text!r} is not in every month; give 1 to 28")
    return int(text)


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _now() -> datetime:
    return datetime.now(UTC)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def _fail(sentence: str, status: int) -> int:
    print(f"api: {sentence}", file=sys.stderr)
    return status
