"""A throw-away Postgres cluster, made by the machine's own ``initdb`` and ``postgres``.

It listens on a Unix socket in a temporary folder only, runs as an unprivileged user when we are
root, and is gone afterwards. ``AVATAR_TEST_POSTGRES`` names a server to use instead: a URL whose
user may create databases.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

VARIABLE = "AVATAR_TEST_POSTGRES"
START_TIMEOUT_S = 30

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "16MB",
    # Nobody needs this data after a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


class PostgresUnavailable(Exception):
    """There is no Postgres to test with; the text says why."""


class PostgresServer:
    """A server we may make databases on."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin.set(drivername="postgresql+asyncpg")

    @asynccontextmanager
    async def database(self, template: str | None = None) -> AsyncIterator[str]:
        """The URL of a database of our own, dropped at the end; a copy of ``template``'s."""
        name = f"avatar_test_{uuid.uuid4().hex[:12]}"
        copied = "" if template is None else f' TEMPLATE "{make_url(template).database}"'
        await self._run(f'CREATE DATABASE "{name}"{copied}')
        try:
            yield self._admin.set(database=name).render_as_string(hide_password=False)
        finally:
            await self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _run(self, statement: str) -> None:
        engine = create_async_engine(self._admin, isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                await connection.execute(text(statement))
        finally:
            await engine.dispose()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for tests.

    Raises:
        PostgresUnavailable: no server is named, and none can be started here.
    """
    named = os.environ.get(VARIABLE)
    if named:
        yield PostgresServer(make_url(named))
        return
    with _cluster() as folder:
        query = {"host": str(folder)}
        yield PostgresServer(
            URL.create("postgresql", username="postgres", database="postgres", query=query)
        )


@contextmanager
def _cluster() -> Iterator[Path]:
    initdb, postgres = _program("initdb"), _program("postgres")
    # Not pytest's folder: only its owner can enter that. Short, as socket paths must be.
    folder = Path(tempfile.mkdtemp(prefix="avatar-pg-"))
    try:
        who = _unprivileged()
        if who:
            shutil.chown(folder, who["user"], who["group"])
        data = folder / "data"
        _initialise(initdb, data, who)
        with _running(postgres, folder, data, who):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True
    )
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, versions)])
    found = shutil.which(name, path=path)
    if found is None:
        raise PostgresUnavailable(f"no {name} on this machine; install Postgres or set {VARIABLE}")
    return found


def _unprivileged() -> dict[str, Any]:
    """How to start a process that Postgres accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise PostgresUnavailable("we are root, and there is no user postgres or nobody to be instead")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _initialise(initdb: str, data: Path, who: dict[str, Any]) -> None:
    options = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
    try:
        subprocess.run(
            [initdb, "-D", str(data), *options],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env=_environment(),
            timeout=120,
            **who,
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise PostgresUnavailable(f"initdb failed: {detail.strip().splitlines()[-1]}") from error


@contextmanager
def _running(postgres: str, folder: Path, data: Path, who: dict[str, Any]) -> Iterator[None]:
    settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [postgres, "-D", str(data), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            **who,
        )
    try:
        _wait_until_ready(process, data, log)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: there is nothing to save
        process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    status = data / "postmaster.pid"
    while process.poll() is None and time.monotonic() < deadline:
        # The last line of the file says how far the server is.
        if status.exists() and status.read_text().rstrip().endswith("ready"):
            return
        time.sleep(0.02)
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    raise PostgresUnavailable(f"postgres did not start: {lines[-1]}")
