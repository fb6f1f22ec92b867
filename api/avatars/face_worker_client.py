"""A process that examines photos, seen from the event loop. See ``api.avatars.face_worker``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

logger = structlog.get_logger(__name__)

LONGEST_LINE = 64 * 1024
STOP_S = 2.0
"""Time a process has to end by itself."""

_SECRETS = ("AVATAR_API_", "AWS_", "LIVEKIT_", "RUNPOD_")
"""Environment variables the process has no use for."""


class FaceWorkerGone(Exception):
    """The process died over a photo."""


class FaceWorkerFailed(Exception):
    """The process could not start, or met a fault that is not the photo's."""


class FaceWorkerClient:
    """One process, started when first needed and again when it died. One photo at a time."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """``command``: what to run instead of ``python -m api.avatars.face_worker``."""
        self._command = command or (sys.executable, "-m", "api.avatars.face_worker")
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def ready(self) -> None:
        """Wait until it can take a photo. A caller that gives up does not stop it.

        Raises:
            FaceWorkerFailed: it cannot be started.
        """
        if self._process is not None and self._process.returncode is None:
            return
        if self._starting is None or (self._starting.done() and not _alive(self._starting)):
            self._starting = asyncio.create_task(self._start(), name="photo examiner starts")
        self._process = await asyncio.shield(self._starting)

    async def ask(
        self, head: Mapping[str, Any], photo: bytes
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Its answer. When the caller gives up, the process is killed: its photo may be what
        keeps it.

        Raises:
            FaceWorkerGone: it died meanwhile.
            FaceWorkerFailed: it met a fault that is not the photo's.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = json.dumps({**head, "sizes": [len(photo)]})
            process.stdin.write(line.encode() + b"\n")
            process.stdin.write(photo)
            await process.stdin.drain()
            answer = await _read(process.stdout)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._kill()
            raise FaceWorkerGone(f"exit status {process.returncode}") from error
        except BaseException:
            await asyncio.shield(self._kill())
            raise
        if "failed" in answer[0]:
            raise FaceWorkerFailed(answer[0]["failed"])
        return answer

    async def aclose(self) -> None:
        """End the process."""
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._starting
        process, self._process = self._process, None
        if process is not None:
            await _stop(process)

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            env=_environment(),
        )
        try:
            assert process.stdout is not None
            head, _ = await _read(process.stdout)
        except asyncio.IncompleteReadError as error:
            await _stop(process)
            raise FaceWorkerFailed(f"it ended with status {process.returncode}") from error
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if "failed" in head:
            await _stop(process)
            raise FaceWorkerFailed(head["failed"])
        return process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        self._starting = None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _alive(starting: asyncio.Task[asyncio.subprocess.Process]) -> bool:
    if starting.cancelled() or starting.exception() is not None:
        return False
    return starting.result().returncode is None


async def _read(stream: asyncio.StreamReader) -> tuple[dict[str, Any], list[bytes]]:
    head = json.loads(await stream.readuntil(b"\n"))
    return head, [await stream.readexactly(size) for size in head["sizes"]]


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(_SECRETS)
    }
    # Found from wherever the server was started.
    root = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    return kept
