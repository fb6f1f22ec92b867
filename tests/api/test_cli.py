"""The command line as an operator uses it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from api.cli import main
from api.plans import load_plans
from api.records import Account, ApiKey
from api.store.sql import open_store
from tests.api.store.rows import new_session

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command; returns status, standard output and standard error."""
    monkeypatch.setenv("AVATAR_API_DATA_DIR", str(tmp_path / "data"))

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return command


def find_key(folder: Path, text: str) -> tuple[ApiKey, Account] | None:
    async def find() -> tuple[ApiKey, Account] | None:
        store = await open_store(f"sqlite:///{folder}/data/avatar.db")
        try:
            return await store.find_key(text)
        finally:
            await store.aclose()

    return asyncio.run(find())


def test_from_nothing_to_a_key_that_works(run: Command, tmp_path: Path) -> None:
    status, out, _ = run("account", "create", "shop", "--plan", "pro", "--anchor-day", "7")
    assert status == 0
    assert re.match(r"acct_\w{26}  shop  plan pro\n", out)

    status, out, err = run("key", "create", "shop", "--name", "laptop", "--expires-in", "2d")
    assert status == 0
    text = out.rstrip("\n")
    assert re.fullmatch(r"ah_live_\w{32}", text), "the key alone, so that a script can take it"
    assert "not shown again" in err
    assert text not in err

    found = find_key(tmp_path, text)
    assert found is not None
    key, account = found
    assert (account.name, account.plan_key, account.anchor_day) == ("shop", "pro", 7)
    assert key.name == "laptop"
    assert key.expires_at is not None
    assert 47 < (key.expires_at - datetime.now(UTC)).total_seconds() / 3600 < 49

    status, out, _ = run("key", "list", account.id)
    assert status == 0
    assert key.id in out
    assert "works until" in out
    assert text not in out

    assert run("key", "revoke", key.id)[0] == 0
    assert "revoked 20" in run("key", "list", "shop")[1]
    again = find_key(tmp_path, text)
    assert again is not None
    assert again[0].revoked_at is not None


def test_a_test_key(run: Command) -> None:
    run("account", "create", "shop")
    assert run("key", "create", "shop", "--test")[1].startswith("ah_test_")


def test_accounts_are_listed(run: Command) -> None:
    run("account", "create", "first")
    run("account", "create", "second", "--plan", "free", "--anchor-day", "28")
    status, out, _ = run("account", "list")
    assert status == 0
    heads, first, second = out.splitlines()
    assert heads.split() == ["id", "name", "plan", "period", "created"]
    assert "first  " in first
    assert "enterprise" in first, "the default plan"
    assert "calendar month" in first
    assert "free" in second
    assert "day 28" in second


def test_granted_minutes_are_in_the_usage(run: Command) -> None:
    run("account", "create", "shop", "--plan", "free")
    assert run("grant-minutes", "shop", "50", "--note", "sorry")[1] == (
        "shop has 50 purchased minutes left\n"
    )
    assert "has 80 purchased" in run("grant-minutes", "shop", "30")[1]
    status, out, _ = run("usage", "shop")
    assert status == 0
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert lines["plan"] == "Free"
    assert "included minutes   0 of 120 used" in out
    assert "purchased minutes  80 of 80 left" in out
    assert "minutes left       200" in out
    assert "running sessions   0 of 1" in out


def test_plans_are_shown(run: Command) -> None:
    status, out, _ = run("plans")
    assert status == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["free"] == ["free", "Free", "1", "0", "120", "60", "no"]
    assert rows["enterprise*"][2:] == ["100", "unlimited", "unlimited", "unlimited", "yes"]


def test_migrate_makes_the_database_private(run: Command, tmp_path: Path) -> None:
    status, out, _ = run("migrate")
    assert (status, out) == (0, "the database has schema 0001\n")
    file = tmp_path / "data" / "avatar.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_backup_is_taken_while_the_database_is_written(run: Command, tmp_path: Path) -> None:
    run("account", "create", "shop")
    database = f"sqlite:///{tmp_path}/data/avatar.db"
    target = tmp_path / "backup.db"

    async def with_a_writer() -> None:
        store = await open_store(database)
        account = await store.account_named("shop")
        assert account is not None
        plan = load_plans(None, "pro").get("pro")
        try:
            order = new_session(account, fingerprint="")
            await store.create_session(order, plan, datetime.now(UTC))
            await asyncio.to_thread(run, "backup", str(target))
        finally:
            await store.aclose()

    asyncio.run(with_a_writer())
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "data"]
    copy = sqlite3.connect(target)
    assert copy.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    copy.close()

    # And it is a database one can go on with.
    (tmp_path / "data" / "avatar.db").unlink()
    for name in ("avatar.db-wal", "avatar.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    target.rename(tmp_path / "data" / "avatar.db")
    assert "running sessions   1 of" in run("usage", "shop")[1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["account", "create", "shop"], 2, "there is an account named 'shop' already"),
        (["account", "create", " "], 2, "an account needs a name"),
        (["account", "create", "x", "--plan", "gold"], 2, "no plan 'gold'; there are: free,"),
        (["account", "create", "x", "--anchor-day", "29"], 2, "give 1 to 28"),
        (["key", "create", "nobody"], 2, "no account 'nobody'; python -m api account list"),
        (["key", "create", "shop", "--expires-in", "3y"], 2, "write 90d, 12h or 30m"),
        (["key", "list", "nobody"], 2, "no account 'nobody'"),
        (["key", "revoke", "key_none"], 2, "no key 'key_none'"),
        (["usage", "nobody"], 2, "no account 'nobody'"),
        (["grant-minutes", "nobody", "5"], 2, "no account 'nobody'"),
        (["grant-minutes", "shop", "0"], 2, "give 1 to 10000000"),
        (["grant-minutes", "shop", "some"], 2, "invalid int value: 'some'"),
        (["backup", "{data}/avatar.db"], 1, "exists already; give another name"),
        (["backup", "{data}/none/x.db"], 1, "failed: No such file or directory"),
        (["nonsense"], 2, "invalid choice: 'nonsense'"),
        ([], 2, "required: command"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Command, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    run("account", "create", "shop")
    data = str(tmp_path / "data")
    found, out, err = run(*(part.replace("{data}", data) for part in arguments))
    assert (found, out) == (status, "")
    assert said in err
    assert "Traceback" not in err


def test_a_database_that_cannot_be_used(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AVATAR_API_DATABASE_URL", "postgresql://me:hidden-word@127.0.0.1:1/x")
    status, _, err = run("account", "list")
    assert status == 1
    assert "cannot be used" in err
    assert "hidden-word" not in err
    assert run("backup", str(tmp_path / "x"))[::2] == (
        1,
        "api: this command copies SQLite files; use pg_dump to back up Postgres\n",
    )


def test_a_setting_that_cannot_be_used(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_API_PROT", "80")
    status, _, err = run("plans")
    assert status == 2
    assert "did you mean AVATAR_API_PORT?" in err


def test_an_outdated_database_says_what_to_run(run: Command, tmp_path: Path) -> None:
    run("migrate")
    database = sqlite3.connect(tmp_path / "data" / "avatar.db")
    database.execute("UPDATE alembic_version SET version_num = '0000'")
    database.commit()
    database.close()
    status, _, err = run("account", "list")
    assert status == 1
    assert "run: python -m api migrate" in err


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1)])
def test_the_health_command_asks_the_server(
    run: Command, monkeypatch: pytest.MonkeyPatch, answer: int, status: int
) -> None:
    class Probe(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Probe) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            monkeypatch.setenv("AVATAR_API_HOST", "0.0.0.0")
            monkeypatch.setenv("AVATAR_API_PORT", str(server.server_port))
            assert run("health")[0] == status
        finally:
            server.shutdown()
            thread.join()


def test_nobody_there_is_not_healthy(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_API_PORT", "1")
    assert run("health") == (1, "", "api: nothing alive answers on 127.0.0.1:1\n")


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "plans"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "enterprise*" in done.stdout
