"""A worker of our own: real processes, started, killed and orphaned."""

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import api.dispatch.spawn
from api.dispatch.local import LocalDispatcher
from api.dispatch.spawn import SpawnedWorker
from api.settings import LocalSettings, LogSettings
from tests.api.dispatch.orders import order, stored

ROOT = Path(__file__).parents[3]
WORKER = (sys.executable, "-m", "tests.fakes.resident_process")
PATIENCE_S = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def environ(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AVATAR_")}
    return kept | {"PYTHONPATH": str(ROOT), "AVATAR_WORKER_MAX_SESSIONS": "2"} | more


@asynccontextmanager
async def spawned(*, command=WORKER, drain_s=0.2, **more):
    worker = SpawnedWorker(
        LogSettings(),
        drain_s=drain_s,
        command=command,
        environ=environ(**more),
        first_pause_s=0.05,
    )
    try:
        yield worker
    finally:
        await worker.aclose()


async def until(condition, what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process nobody has waited for is as dead as it can be.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def shown(pid: int) -> tuple[str, str]:
    """Arguments, which everybody on the machine can see, and environment of a process."""
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_text(), (process / "environ").read_text()


async def test_a_session_on_a_spawned_worker_that_dies_and_comes_back():
    async with spawned(AVATAR_API_RUNPOD__API_KEY="key-of-the-control-plane") as worker:
        settings = LocalSettings(warm_wait_s=PATIENCE_S)
        local = LocalDispatcher(settings, look_s=0.05, spawned=worker)
        await local.start()
        try:
            placement = await local.place(order("sess_1"))  # it waits for the start
            assert placement.worker == worker.handle
            first = worker.pid
            assert placement.watch_uri.startswith(worker.address)
            if sys.platform == "linux":
                arguments, variables = shown(first)
                assert worker.secret.get_secret_value() not in arguments
                assert "AVATAR_WORKER_SECRET" in variables
                assert "key-of-the-control-plane" not in variables
            async with httpx.AsyncClient() as stranger:
                assert (await stranger.get(f"{worker.address}/status")).status_code == 401

            address = worker.address
            os.kill(first, signal.SIGKILL)
            session = stored(placement)
            again = await local.place(order("sess_2"))
            assert (await local.poll([session]))["sess_1"].state == "lost"
            assert worker.pid != first
            assert again.instance != placement.instance
            assert (worker.address, again.ws_uri) == (address, placement.ws_uri)
        finally:
            await local.aclose()
        assert worker.pid is None


async def test_it_drains_before_it_leaves(capfd):
    async with spawned() as worker:
        await worker.start()
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                try:
                    return (await client.get(f"{worker.address}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            async with asyncio.timeout(PATIENCE_S):
                while not await answers():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    # Its log is ours, in our format.
    log = capfd.readouterr().err
    assert '"event": "worker ready"' in log
    assert '"event": "draining"' in log
    assert worker.secret.get_secret_value() not in log


async def test_it_is_started_again_and_again_but_less_and_less_often():
    async with spawned(command=(sys.executable, "-c", "raise SystemExit(3)")) as worker:
        await worker.start()
        begun = time.monotonic()
        await until(lambda: worker.starts >= 5, "five starts")
        assert time.monotonic() - begun >= 0.05 * (1 + 2 + 4 + 8)


async def test_one_that_does_not_leave_is_killed(monkeypatch):
    monkeypatch.setattr(api.dispatch.spawn, "LEAVE_S", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    async with spawned(command=(sys.executable, "-c", f"{deaf}; time.sleep(60)")) as worker:
        await worker.start()
        await until(lambda: worker.pid, "the process")
        pid = worker.pid
        await asyncio.sleep(0.5)
    assert not alive(pid)


async def test_a_command_that_is_not_there_is_said_and_tried_again():
    async with spawned(command=("/nowhere/python",)) as worker:
        await worker.start()
        await asyncio.sleep(0.3)
        assert worker.starting
        assert worker.starts == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    log = tmp_path / "log"  # no pipe: the worker holds it, too, and waiting would be for both
    with log.open("wb") as file:
        parent = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("parent.py")),
            stdout=file,
            stderr=file,
            env=environ(),
            cwd=ROOT,
        )
    pid = None
    try:
        await until(lambda: re.search(r"^spawned .*\n", log.read_text(), re.M), "the worker's pid")
        found = re.search(r"^spawned (\d+) (\S+) (\S+)$", log.read_text(), re.M)
        pid, address, secret = int(found[1]), found[2], found[3]
        assert alive(pid)
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(base_url=address, headers=headers) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/status")).json()["state"] == "ready"
                except httpx.HTTPError:
                    return False

            async with asyncio.timeout(PATIENCE_S):
                while not await answers():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        parent.kill()
        await parent.wait()
        killed = time.monotonic()
        await until(lambda: not alive(pid), "the worker's end")
        assert time.monotonic() - killed < 10
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)
