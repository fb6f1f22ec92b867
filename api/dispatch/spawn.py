"""A worker of our own: a child process with its own ports and secret, kept alive while we live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

import structlog
from pydantic import SecretStr

from api.settings import LogSettings

logger = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between a worker's death and its next start; doubled with every death."""

STEADY_S = 60.0
"""A worker that lived so long begins with the first pause again."""

LEAVE_S = 5.0
"""After its sessions' time is over, a worker may take so long to close everything."""

SERVE = (sys.executable, "-m", "worker", "serve")

_PREFIX = "AVATAR_WORKER_"


class SpawnedWorker:
    """Runs ``python -m worker serve`` until closed; started again, at the same addresses, whenever
    it dies. It stops by itself when this process is gone, however that happened."""

    def __init__(
        self,
        log: LogSettings,
        *,
        drain_s: float,
        command: Sequence[str] = SERVE,
        environ: Mapping[str, str] | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """``environ``: what the worker inherits; its own ``AVATAR_WORKER_*`` settings are kept,
        those of the control plane are not passed on. ``drain_s``: how long its sessions may go on
        when it is told to stop."""
        self.handle = f"spawned-{secrets.token_hex(6)}"
        """Of this process alone: nobody else can talk to the worker."""
        self.secret = SecretStr(secrets.token_urlsafe(32))
        self._log = log
        self._drain_s = drain_s
        self._command = list(command)
        self._environ = dict(os.environ if environ is None else environ)
        self._first_pause_s = first_pause_s
        self._http_port = 0
        self._ws_port = 0
        self._keeper: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def address(self) -> str:
        """Its HTTP address, the same for as long as we live."""
        return f"http://127.0.0.1:{self._http_port}"

    @property
    def starting(self) -> bool:
        """It is worth waiting for when it does not answer."""
        return self._keeper is not None and not self._keeper.done()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Choose the ports and start it; returns before it answers."""
        self._http_port, self._ws_port = _free_ports(2)
        self._keeper = asyncio.create_task(self._keep(), name="spawned worker")

    async def aclose(self) -> None:
        """Have it drain and leave; what is still there then is killed."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._drain_s + LEAVE_S):
                await process.wait()
        except TimeoutError:
            logger.warning("the worker did not leave; it is killed", pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = self._first_pause_s
        while True:
            begun = loop.time()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    env=self._environment(),
                    # Ctrl-C in a terminal reaches us alone; the worker is told by us.
                    start_new_session=True,
                )
            except OSError as error:
                logger.error("the worker could not be started", error=error.strerror)
            else:
                self.starts += 1
                logger.info("worker started", pid=self._process.pid, address=self.address)
                status = await self._process.wait()
                logger.error("the worker died", status=status, again_in_s=pause_s)
            if loop.time() - begun > STEADY_S:
                pause_s = self._first_pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in self._environ.items()
            if not name.upper().startswith("AVATAR_API_")
        }
        defaults = {
            _PREFIX + "LOG__LEVEL": self._log.level,
            _PREFIX + "LOG__FORMAT": self._log.format,
        }
        ours = {
            _PREFIX + "HOST": "127.0.0.1",
            _PREFIX + "HTTP_PORT": str(self._http_port),
            _PREFIX + "WS_PORT": str(self._ws_port),
            _PREFIX + "SECRET": self.secret.get_secret_value(),
            _PREFIX + "DRAIN_TIMEOUT_S": str(self._drain_s),
            _PREFIX + "PARENT_PID": str(os.getpid()),
        }
        return defaults | kept | ours


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
