"""kill -9 of the API and of its workers at random moments: afterwards no slot is held, no minute
was lost, none was billed twice."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.fakes.control_plane import ControlPlane, WorkerProcess, workers_setting

INCLUDED, PURCHASED, SLOTS = 3, 1000, 10
PLAN = f"""
[crash]
name = "Crash"
concurrency = {SLOTS}
included_minutes = {INCLUDED}
images_in_sessions = true
"""
LIFECYCLE = {
    "AVATAR_API_LIFECYCLE__LOOK_S": "0.2",
    "AVATAR_API_LIFECYCLE__HEARTBEAT_S": "2",
    "AVATAR_API_LIFECYCLE__READY_TIMEOUT_S": "4",
    "AVATAR_API_LIFECYCLE__SWEEP_S": "0.5",
    "AVATAR_API_LOCAL__TIMEOUT_S": "3",
}
WORKER = {
    "AVATAR_WORKER_MAX_SESSIONS": str(SLOTS),
    "AVATAR_WORKER_LIFECYCLE__NEVER_JOINED_S": "3",
}
UNDISTURBED = 5
"""Sessions that end before anything is killed, so that there are bills however the storm goes."""
SETTLED_S = 20.0
"""After the last crash everything is over within this time: the longest of the times above, a
session's own, and reserve for a slow machine."""

PATIENCE_S = 120.0
SPEECH = base64.b64encode(bytes(3200)).decode()
UNBILLED = ("join_failed", "never_started")


@dataclass
class Storm:
    """An installation of two workers, and what is done to it."""

    plane: ControlPlane
    workers: list[WorkerProcess]
    key: str
    random: random.Random
    created: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)

    async def client(self, number: int) -> None:
        """One user: has a session, speaks, leaves in one way or another."""
        how = self.random.choice(("end", "close", "cut", "forget"))
        async with self.plane.client(self.key) as http:
            session = await self.create(http, number)
            if how != "end" or number % 2:
                await self.speak(session, how)
            else:
                await asyncio.sleep(self.random.uniform(0, 2))
            if how == "end":
                await self.insist(http, "POST", f"/v1/sessions/{session['session_id']}/end")
        self.done[how] += 1

    async def create(self, http: httpx.AsyncClient, number: int) -> dict[str, Any]:
        body = {
            "avatar": "PUBLIC/Avatars/anna",
            "aspect_ratio": "1:1",
            "room": {"platform": "local"},
            "metadata": {"n": number},
        }
        answer = await self.insist(
            http, "POST", "/v1/sessions", json=body, headers={"Idempotency-Key": f"n-{number}"}
        )
        session: dict[str, Any] = answer["session"]
        self.created.append(session["session_id"])
        return session

    async def insist(
        self, http: httpx.AsyncClient, method: str, path: str, **options: Any
    ) -> dict[str, Any]:
        """Ask until there is a success; nobody home and nothing free are no answers."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(httpx.TransportError):
                    answer = await http.request(method, path, **options)
                    if answer.status_code == 200:
                        body: dict[str, Any] = answer.json()
                        return body
                    assert answer.status_code in (429, 503), answer.text
                await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def speak(self, session: dict[str, Any], how: str) -> None:
        init = {name: session[name] for name in ("session_id", "session_token")}
        with suppress(OSError, WebSocketException, TimeoutError):
            async with connect(session["ws_uri"], proxy=None, open_timeout=3) as client:
                await client.send(json.dumps({"type": "session.init", **init}))
                for _ in range(self.random.randrange(2, 8)):
                    await client.send(json.dumps({"type": "agent.speak", "audio": SPEECH}))
                    await asyncio.sleep(self.random.uniform(0.1, 0.5))
                if how == "cut":
                    client.transport.abort()
                if how == "forget":
                    await asyncio.sleep(1)

    async def crash(self) -> None:
        """Kill one process; it comes back."""
        victim = self.random.choice(("api", "api", *self.workers))
        if isinstance(victim, WorkerProcess):
            await victim.kill()
            self.killed["worker"] += 1
            await asyncio.sleep(self.random.uniform(0, 1))
            await victim.start()
        else:
            await self.plane.kill()
            self.killed["api"] += 1
            await self.plane.start()


@asynccontextmanager
async def storm(folder: Path, seed: int) -> AsyncIterator[Storm]:
    plans = folder / "plans.toml"
    plans.write_text(PLAN)
    ports = iter(free_ports(4))
    workers = [WorkerProcess(folder, next(ports), next(ports), **WORKER) for _ in range(2)]
    plane = ControlPlane(
        folder,
        AVATAR_API_PLANS_FILE=str(plans),
        AVATAR_API_DEFAULT_PLAN="crash",
        **LIFECYCLE,
        **workers_setting(*workers),
    )
    async with workers[0], workers[1], plane:
        key = await plane.new_key("crash", "crash")
        await plane.cli("grant-minutes", "crash", str(PURCHASED))
        await plane.until_ready()
        yield Storm(plane, workers, key, random.Random(seed))


async def calm(storm: Storm) -> None:
    """Sessions nothing happens to, each of one minute: more than the plan includes."""

    async def one(number: int) -> None:
        async with storm.plane.client(storm.key) as http:
            session = await storm.create(http, number)
            await asyncio.sleep(1.5)
            await storm.insist(http, "POST", f"/v1/sessions/{session['session_id']}/end")

    await asyncio.gather(*(one(-number - 1) for number in range(UNDISTURBED)))


async def weather(storm: Storm, sessions: int, crashes: int) -> None:
    """``sessions`` users, ``crashes`` spread over their time."""
    await calm(storm)
    waiting = asyncio.Queue[int]()
    for number in range(sessions):
        waiting.put_nowait(number)

    async def users() -> None:
        while not waiting.empty():
            await storm.client(waiting.get_nowait())

    async with asyncio.TaskGroup() as group:
        for _ in range(SLOTS + 2):
            group.create_task(users())
        for crash in range(crashes):
            # So many users are done when the next process dies, give or take.
            share = sessions * (crash + storm.random.random()) / crashes
            async with asyncio.timeout(PATIENCE_S):
                while storm.done.total() < min(share, sessions - 2):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await storm.crash()


async def check(storm: Storm) -> Counter[str]:
    """What must hold afterwards; the end reasons."""
    async with storm.plane.client(storm.key) as http:
        async with asyncio.timeout(SETTLED_S):
            while True:
                found = (await http.get("/v1/sessions", params={"limit": 500})).json()
                if all(each["status"] == "ended" for each in found["sessions"]):
                    break
                await asyncio.sleep(0.1)
        sessions = found["sessions"]
        assert found["total"] == len(sessions)
        known = {each["session_id"] for each in sessions}
        assert set(storm.created) <= known, "a session a client was given is there"
        numbers = [each["metadata"]["n"] for each in sessions]
        assert len(numbers) == len(set(numbers)), "one session per request, however often repeated"

        for each in sessions:
            bill = each["billing"]
            assert bill["from_plan"] + bill["from_purchased"] == bill["minutes_used"]
            lasted = _moment(each["ended_at"]) - _moment(each["started_at"])
            assert 0 <= lasted.total_seconds() < PATIENCE_S
            if each["end_reason"] in UNBILLED:
                assert bill["minutes_used"] == 0
            elif bill["minutes_used"] != math.ceil(each["duration"] / 60):
                # Never in its room: nothing was served, nothing is billed.
                assert (each["end_reason"], bill["minutes_used"]) == ("server_error", 0), each
        usage = (await http.get("/v1/usage")).json()["usage"]
        billed = [each["billing"] for each in sessions]
        assert usage["included_minutes"]["used"] == sum(each["from_plan"] for each in billed)
        spent = PURCHASED - usage["purchased_minutes"]["remaining"]
        assert spent == sum(each["from_purchased"] for each in billed)
        total = sum(each["minutes_used"] for each in billed)
        assert total >= UNDISTURBED
        assert spent == max(0, total - INCLUDED)
        assert usage["concurrency"] == {"current": 0, "max": SLOTS, "available": SLOTS}
        assert usage["active_sessions"] == []

        for worker in storm.workers:
            async with asyncio.timeout(SETTLED_S):
                while await _running(http, worker):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

        # Every slot can be had again.
        await storm.plane.until_ready()
        again = await asyncio.gather(
            *(storm.create(http, len(numbers) + 1000 + number) for number in range(SLOTS))
        )
        assert len({each["session_id"] for each in again}) == SLOTS
    return Counter(each["end_reason"] for each in sessions)


async def _running(http: httpx.AsyncClient, worker: WorkerProcess) -> bool:
    """Whether a session runs there, or nobody knows."""
    try:
        return bool((await http.get(f"{worker.address}/sessions")).json()["sessions"])
    except httpx.TransportError:
        return True


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


async def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    async with storm(tmp_path, seed=4) as weathered:
        await weather(weathered, sessions=15, crashes=3)
        await check(weathered)
        assert weathered.killed.total() == 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_kill_9_during_two_hundred_sessions(tmp_path: Path, seed: int) -> None:
    async with storm(tmp_path, seed) as weathered:
        await weather(weathered, sessions=200, crashes=40)
        reasons = await check(weathered)
        print(f"\nkilled {dict(weathered.killed)}, left by {dict(weathered.done)}")
        print(f"ended by {dict(reasons)}")
