"""The command line: ``python -m api serve | account | key | grant-minutes | usage | plans | ...``.

Settings are environment variables AVATAR_API_*; see docs/configuration.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from api import cli_accounts
from api.cli_text import UsageError, limit_text, print_table

if TYPE_CHECKING:
    from api.settings import ApiSettings

EXIT_FAILED, EXIT_USAGE = 1, 2

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 wrong use."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # the reader of our output closed it
        sys.stderr.close()
        return 0
    except Exception as error:
        status = _status_of(error)
        if status is None:
            raise
        return _fail(str(error), status)


def _status_of(error: Exception) -> int | None:
    # Heavy imports wait until something needs them: a health check runs every few seconds.
    from api.settings import SettingsError
    from api.store.engine import StoreError

    if isinstance(error, (SettingsError, UsageError)):
        return EXIT_USAGE
    return EXIT_FAILED if isinstance(error, StoreError) else None


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
    command(commands, "health", _health)
    command(commands, "migrate", _migrate)
    command(commands, "plans", _plans)

    account = commands.add_parser("account", help="accounts").add_subparsers(
        required=True, metavar="command"
    )
    create = command(account, "create", cli_accounts.account_create)
    create.add_argument("name", help="name of the account")
    create.add_argument("--plan", help="key of its plan; default: AVATAR_API_DEFAULT_PLAN")
    create.add_argument(
        "--anchor-day",
        type=_anchor_day,
        metavar="DAY",
        help="day of the month its billing period begins on, 1-28; default: calendar months",
    )
    command(account, "list", cli_accounts.account_list)

    key = commands.add_parser("key", help="API keys").add_subparsers(
        required=True, metavar="command"
    )
    create = command(key, "create", cli_accounts.key_create)
    create.add_argument("account", help="name or id of the account")
    create.add_argument("--name", default="", help="what the key is for")
    create.add_argument("--test", action="store_true", help="ah_test_… instead of ah_live_…")
    create.add_argument(
        "--expires-in", type=_duration, metavar="TIME", help="such as 90d, 12h or 30m"
    )
    listing = command(key, "list", cli_accounts.key_list)
    listing.add_argument("account", help="name or id of the account")
    revoke = command(key, "revoke", cli_accounts.key_revoke)
    revoke.add_argument("id", help="id of the key, from: key list")

    grant = command(commands, "grant-minutes", cli_accounts.grant_minutes)
    grant.add_argument("account", help="name or id of the account")
    grant.add_argument("minutes", type=int, help="how many")
    grant.add_argument("--note", default="", help="kept in the ledger")
    usage = command(commands, "usage", cli_accounts.show_usage)
    usage.add_argument("account", help="name or id of the account")

    copy = command(commands, "backup", _backup)
    copy.add_argument("file", type=Path, help="the file to write")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    """Run the control plane."""
    from api.http.listen import PortError
    from api.settings import load_settings

    try:
        with asyncio.Runner(loop_factory=_event_loop) as runner:
            runner.run(_start(load_settings()))
    except PortError as error:
        return _fail(str(error), EXIT_FAILED)
    return 0


async def _start(settings: ApiSettings) -> None:
    """Run the control plane. A worker of our own is started first: it loads its engine while we
    load everything else."""
    from api.dispatch.choose import open_dispatcher
    from api.http.listen import bind
    from common.logs import configure_logging

    configure_logging(settings.log)
    listener = bind(settings)
    try:
        async with AsyncExitStack() as stack:
            dispatcher = open_dispatcher(settings)
            stack.push_async_callback(dispatcher.aclose)
            await dispatcher.start()
            server = await asyncio.to_thread(importlib.import_module, "api.server")
            await server.serve(settings, listener, dispatcher)
    finally:
        listener.close()


def _event_loop() -> asyncio.AbstractEventLoop:
    """The fastest there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _health(arguments: argparse.Namespace) -> int:
    """Ask the server on this machine whether it is alive. Exit status 1: it is not."""
    from api.healthcheck import alive, own_address

    host, port = own_address()
    if alive(host, port):
        return 0
    return _fail(f"nothing alive answers on {host}:{port}", EXIT_FAILED)


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
            limit_text(plan.avatars_per_cycle),
            limit_text(plan.included_minutes),
            limit_text(plan.session_minutes),
            "yes" if plan.images_in_sessions else "no",
        )
        for plan in load_plans(settings.plans_file, settings.default_plan)
    ]
    heads = ("key", "name", "sessions", "avatars", "minutes", "session limit", "images")
    print_table(heads, rows)
    print("\n* the plan of accounts without one; minutes and avatars are per billing period")


def _backup(arguments: argparse.Namespace) -> None:
    """Copy the SQLite database to FILE while it is in use. Photos and the installation's secret
    are files of their own; Postgres is backed up by pg_dump."""
    from api.settings import load_settings
    from api.store.backup import backup

    size = backup(load_settings().database, arguments.file)
    print(f"{arguments.file}: {size} bytes")


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _anchor_day(text: str) -> int:
    if not re.fullmatch(r"\d{1,2}", text) or not 1 <= int(text) <= 28:
        raise argparse.ArgumentTypeError(f"{text!r} is not in every month; give 1 to 28")
    return int(text)


def _fail(sentence: str, status: int) -> int:
    print(f"api: {sentence}", file=sys.stderr)
    return status
