"""The control plane as its users run it: ``python -m api`` in processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import httpx

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
LOG_TAIL = 4000


class ControlPlane:
    """One installation in ``folder``. Enter it to serve; ``kill`` and ``start`` it as you like."""

    def __init__(self, folder: Path, **environ: str) -> None:
        """``environ``: more variables, for the API and for the worker it spawns."""
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AVATAR_")}
        if "AVATAR_CACHE" in os.environ:
            kept["AVATAR_CACHE"] = os.environ["AVATAR_CACHE"]
        self.environ = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "AVATAR_API_DATA_DIR": str(folder / "data"),
            "AVATAR_API_PORT": "0",
            "AVATAR_API_RATE_LIMIT_PER_MINUTE": "0",
            "AVATAR_API_LIFECYCLE__DRAIN_S": "1",
            **environ,
        }
        self.base_url = ""
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns once it listens. The port is kept from one start to the next."""
        # Seen only when something fails.
        log = (self.folder / "serve.log").open("ab")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "api", "serve"),
                env=self.environ,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = (await self.process.stdout.readline()).decode()
                if not line:
                    raise AssertionError(f"python -m api serve ended:\n{self.log()}")
                if line.strip().startswith("Open http"):
                    self.base_url = line.split()[1].rstrip("/")
                    break
        self.environ["AVATAR_API_PORT"] = self.base_url.rsplit(":", 1)[1]
        self._reading = asyncio.create_task(_drain(self.process.stdout))

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self._gone()

    async def stop(self) -> int:
        """SIGTERM, and wait; the exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await self._gone()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"it did not stop:\n{self.log()}") from None

    async def cli(self, *arguments: str) -> str:
        """What ``python -m api`` prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "api", *arguments),
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()

    async def new_key(self, account: str, plan: str = "growth") -> str:
        """An account and its API key."""
        await self.cli("account", "create", account, "--plan", plan)
        return await self.cli("key", "create", account)

    async def until_ready(self) -> None:
        """Wait until a worker takes sessions."""
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(trust_env=False) as http:
            while (await http.get(f"{self.base_url}/readyz")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def client(self, key: str) -> AsyncIterator[httpx.AsyncClient]:
        """HTTP with an API key."""
        async with httpx.AsyncClient(
            base_url=self.base_url, headers={"x-api-key": key}, timeout=30, trust_env=False
        ) as http:
            yield http

    def log(self) -> str:
        """The end of the log."""
        return (self.folder / "serve.log").read_text(errors="replace")[-LOG_TAIL:]

    async def _gone(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            status = await self.process.wait()
        if self._reading is not None:
            await self._reading
        return status

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.stop()


class WorkerProcess:
    """A resident worker of its own, with the test engine unless told otherwise."""

    def __init__(self, folder: Path, http_port: int, ws_port: int, **environ: str) -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{http_port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AVATAR_")}
        self.environ = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "AVATAR_WORKER_HTTP_PORT": str(http_port),
            "AVATAR_WORKER_WS_PORT": str(ws_port),
            "AVATAR_WORKER_CANVAS__SCALE": "0.0625",
            "AVATAR_WORKER_DRAIN_TIMEOUT_S": "0",
            **environ,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it; returns before it answers."""
        with (self.folder / "worker.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fakes.resident_process"),
                env=self.environ,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def __aenter__(self) -> WorkerProcess:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()


def workers_setting(*workers: WorkerProcess) -> dict[str, str]:
    """What the API is told of its workers."""
    return {"AVATAR_API_LOCAL__WORKERS": json.dumps([each.address for each in workers])}


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
