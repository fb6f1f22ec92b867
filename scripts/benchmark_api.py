"""Measure the control plane: the part ``api`` of ``scripts/benchmark.py``.

(a) On the embedded default, as ``make serve`` runs it (SQLite, one spawned worker with the warp
engine): create a session, end it, and again. (b) Mixed requests at a growing rate from this
process, sent when they are due whether or not earlier ones are answered, after a warm-up, against
one API process on SQLite; the worker is a stand-in that answers at once. Times run from when a
request was due, so they hold what this process is late by; that lateness, and the processor time of
this process and of the stand-in, are told apart. The API logs and counts requests as it does by
default.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
AVATAR = "PUBLIC/Avatars/anna"
START_S = 120.0
HELD = 0.98
"""A rate is held when this share of it is answered in time, without an error."""
MAX_LATENESS_S = 1.0
WARM_UP_PER_S, WARM_UP_S = 20, 5.0

MIX = ("get",) * 6 + ("list", "usage", "create", "end") * 3 + ("start",) * 2
"""Of 20 requests."""


def api(arguments: argparse.Namespace) -> dict[str, Any]:
    """Latency of creating sessions, and the requests a second that the control plane holds."""
    return asyncio.run(_measure(arguments.trials, arguments.rates, arguments.seconds))


async def _measure(cycles: int, rates: list[int], seconds: float) -> dict[str, Any]:
    rows = []
    async with _served({}) as (http, _):
        rows += await _cycles(http, cycles)
    async with _stand_in() as (worker, worker_pid), _served(worker) as (http, pid):
        load = _Load(http, pid, worker_pid)
        await load.run(WARM_UP_PER_S, WARM_UP_S)
        for rate in rates:
            row, by_kind = await load.run(rate, seconds)
            rows.append(row)
            if not row["held"]:
                break
    return {
        "rows": rows,
        "by request at the highest rate": by_kind,
        "notes": [
            "rows with a rate: requests leave when they are due, answered or not; the worker is a"
            " stand-in that answers at once; load, API and stand-in share the machine's cores",
            "cpu ms: what the API used per request, beside it what the load and the stand-in used;"
            " late ms: how late requests left (95 %), which their times include",
            f"load average at the end: {', '.join(f'{each:.1f}' for each in os.getloadavg())}",
        ],
    }


async def _cycles(http: aiohttp.ClientSession, cycles: int) -> list[dict[str, Any]]:
    """Create and end, one after the other, with a real worker that knows the portrait."""
    body = {"avatar": AVATAR, "room": {"platform": "local"}}
    times: dict[str, list[float]] = defaultdict(list)
    first_s = 0.0
    for number in tqdm(range(cycles + 1), desc="create and end", unit="session", leave=False):
        begun = time.perf_counter()
        answer = await _ask(http, "POST", "/v1/sessions", json=body)
        created = time.perf_counter()
        await _ask(http, "POST", f"/v1/sessions/{answer['session']['session_id']}/end")
        ended = time.perf_counter()
        if number:
            times["create"].append(created - begun)
            times["end"].append(ended - created)
        else:
            first_s = created - begun
    rows = [_row(f"{name}, real worker", None, times[name], 0, True) for name in times]
    rows[0]["first ms"] = round(first_s * 1000)
    return [{"first ms": "", **row} for row in rows]


class _Load:
    """Requests at a rate. Sessions it creates live on from one rate to the next."""

    def __init__(self, http: aiohttp.ClientSession, pid: int, worker_pid: int) -> None:
        """``pid``: of the API; ``worker_pid``: of the stand-in."""
        self._http = http
        self._pids = {"cpu ms": pid, "load's": os.getpid(), "worker's": worker_pid}
        self._late: list[float] = []
        self._running: deque[str] = deque()
        self._creating = 0
        self._numbers = itertools.count()
        self._random = random.Random(5)

    async def run(
        self, rate: int, seconds: float
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """``rate`` requests a second for ``seconds``."""
        times: dict[str, list[float]] = defaultdict(list)
        errors: Counter[str] = Counter()
        self._late = []
        used_s = {name: _cpu_seconds(pid) for name, pid in self._pids.items()}
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in tqdm(range(round(rate * seconds)), desc=f"{rate}/s", leave=False):
                due = begun + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._one(due, times, errors))
        took_s = time.perf_counter() - begun
        every = list(itertools.chain(*times.values()))
        done = len(every) / max(took_s, seconds)
        held = not errors and done >= HELD * rate and max(every) < MAX_LATENESS_S
        row = _row("mixed load, stand-in worker", rate, every, errors.total(), held)
        row["done/s"] = round(done, 1)
        row["late ms"] = _figures(self._late)["p95"]
        for name, before_s in used_s.items():
            after_s = _cpu_seconds(self._pids[name])
            if before_s is not None and after_s is not None:
                row[name] = round((after_s - before_s) * 1000 / len(every), 2)
        by_kind = {kind: _figures(times[kind]) for kind in sorted(times)}
        if errors:
            by_kind["errors"] = dict(errors)
        return {"first ms": "", **row}, by_kind

    async def _one(self, due: float, times: dict[str, list[float]], errors: Counter[str]) -> None:
        self._late.append(time.perf_counter() - due)
        kind = self._random.choice(MIX)
        if kind == "create" and len(self._running) + self._creating > 60:
            kind = "get"
        if kind in ("get", "end", "start") and len(self._running) < 20:
            kind = "create" if len(self._running) + self._creating < 40 else "list"
        try:
            await self._do(kind)
        except (AssertionError, aiohttp.ClientError, TimeoutError) as error:
            errors[f"{kind}: {type(error).__name__} {error}"[:120]] += 1
        else:
            times[kind].append(time.perf_counter() - due)

    async def _do(self, kind: str) -> None:
        match kind:
            case "create":
                body = {
                    "avatar": AVATAR,
                    "room": {"platform": "local"},
                    "metadata": {"n": next(self._numbers)},
                }
                self._creating += 1
                try:
                    answer = await _ask(self._http, "POST", "/v1/sessions", json=body)
                finally:
                    self._creating -= 1
                self._running.append(answer["session"]["session_id"])
            case "end":
                session = self._running.popleft()
                await _ask(self._http, "POST", f"/v1/sessions/{session}/end")
            case "get":
                await _ask(self._http, "GET", f"/v1/sessions/{self._some()}")
            case "start":
                # The oldest may be ending at this moment.
                await _ask(self._http, "PUT", f"/v1/sessions/{self._running[-1]}/start")
            case "list":
                await _ask(self._http, "GET", "/v1/sessions?limit=20&status=started")
            case "usage":
                await _ask(self._http, "GET", "/v1/usage")

    def _some(self) -> str:
        return self._random.choice(self._running)


async def _ask(http: aiohttp.ClientSession, method: str, path: str, **content: Any) -> Any:
    async with http.request(method, path, **content) as answer:
        body = await answer.read()
        assert answer.status == 200, f"{answer.status} {body[:200]!r}"
        return json.loads(body)


def _row(
    what: str, rate: int | None, times: list[float], errors: int, held: bool
) -> dict[str, Any]:
    figures = _figures(times)
    return {
        "what": what,
        "asked/s": rate or "",
        "done/s": "",
        "cpu ms": "",
        "load's": "",
        "worker's": "",
        "late ms": "",
        **{f"{name} ms": figures[name] for name in ("p50", "p95", "p99")},
        "requests": len(times),
        "errors": errors,
        "held": held,
    }


def _figures(times: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(times) * 1000, (50, 95, 99))
    return {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)}


def _cpu_seconds(pid: int) -> float | None:
    """Processor time a process has used; None where that is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The processes


@asynccontextmanager
async def _served(environ: dict[str, str]) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    """``python -m api serve`` in a folder of its own, and a client with a key of a new account."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        kept = {name: v for name, v in os.environ.items() if not name.startswith("AVATAR_API_")}
        environ = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "AVATAR_API_DATA_DIR": folder,
            "AVATAR_API_PORT": "0",
            # Requests are counted, and none is refused.
            "AVATAR_API_RATE_LIMIT_PER_MINUTE": "10000000",
            **environ,
        }
        await _command(environ, "account", "create", "benchmark", "--plan", "enterprise")
        key = await _command(environ, "key", "create", "benchmark")
        log = stack.enter_context((Path(folder) / "log").open("w"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "api", "serve"),
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        try:
            url = ""
            async with asyncio.timeout(START_S):
                while not url:
                    text = await process.stdout.readline()
                    assert text, (Path(folder) / "log").read_text()[-2000:]
                    line = text.decode().split()
                    if line[:1] == ["Open"]:
                        url = line[1]
            async with aiohttp.ClientSession(
                url,
                headers={"x-api-key": key},
                connector=aiohttp.TCPConnector(limit=256),
                timeout=aiohttp.ClientTimeout(30),
            ) as http:
                async with asyncio.timeout(START_S):
                    while True:
                        async with http.get("/readyz") as ready:
                            if ready.status == 200:
                                break
                        await asyncio.sleep(0.2)
                yield http, process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def _command(environ: dict[str, str], *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api", *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"python -m api {arguments[0]} failed"
    return out.decode().strip()


@asynccontextmanager
async def _stand_in() -> AsyncIterator[tuple[dict[str, str], int]]:
    """The stand-in worker in a process of its own: the API's settings for it, and its id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, str(port))
    try:
        environ = {"AVATAR_API_LOCAL__WORKERS": json.dumps([f"http://127.0.0.1:{port}"])}
        yield environ, process.pid
    finally:
        process.kill()
        await process.wait()


class StandIn:
    """Says what a worker says, and runs nothing."""

    def __init__(self) -> None:
        self._instance = secrets.token_hex(4)
        self._sessions: dict[str, dict[str, Any]] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=1024)
        self._number = 0

    async def status(self, request: web.Request) -> web.Response:
        """``GET /status``."""
        after = int(request.query.get("after", 0))
        return web.json_response(
            {
                "success": True,
                "instance": self._instance,
                "state": "ready",
                "capacity": 1000,
                "running": len(self._sessions),
                "engine": "none",
                "ws_uri": "ws://127.0.0.1:1/v1/ws",
                "joining": [],
                "sessions": list(self._sessions.values()),
                "ended": [each for each in self._ended if each["number"] > after],
            }
        )

    async def create(self, request: web.Request) -> web.Response:
        """``POST /sessions``."""
        session_id = (await request.json())["session_id"]
        watch = f"http://127.0.0.1:1/whep/{session_id}"
        self._sessions[session_id] = {
            "session_id": session_id,
            "ready": True,
            "watch_uri": watch,
        }
        return web.json_response(
            {
                "success": True,
                "session_id": session_id,
                "instance": self._instance,
                "ws_uri": "ws://127.0.0.1:1/v1/ws",
                "watch_uri": watch,
                "expires_at": None,
            }
        )

    async def end(self, request: web.Request) -> web.Response:
        """``DELETE /sessions/{session_id}``."""
        session_id = request.match_info["session_id"]
        if self._sessions.pop(session_id, None) is None:
            return web.json_response({"success": False}, status=404)
        self._number += 1
        self._ended.append(
            {
                "number": self._number,
                "session_id": session_id,
                "reason": request.query.get("reason", "client_request"),
                "ended_at": datetime.now(UTC).isoformat(),
            }
        )
        return web.json_response({"success": True, "session_id": session_id})

    def run(self, port: int) -> None:
        """Serve until killed."""
        app = web.Application(client_max_size=16 * 2**20)
        app.add_routes(
            [
                web.get("/status", self.status),
                web.post("/sessions", self.create),
                web.delete("/sessions/{session_id}", self.end),
                web.post("/portraits", self._fine),
            ]
        )
        web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)

    async def _fine(self, request: web.Request) -> web.Response:
        return web.json_response({"success": True})


if __name__ == "__main__":
    StandIn().run(int(sys.argv[1]))
