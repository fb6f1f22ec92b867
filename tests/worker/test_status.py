"""What a control plane is told by a real worker, and what it can have done ahead."""

import asyncio
import base64
import json
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest

import worker.session_registry
from tests.fakes.engine import FlapEngine
from tests.fakes.resident import Running, body, photo


class SlowToPrepare(FlapEngine):
    """Prepares when it is let to, and says what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = 0
        self.preparing = threading.Event()
        self.go_on = threading.Event()

    def prepare(self, portrait, canvas):
        self.preparing.set()
        assert self.go_on.wait(10)
        self.prepared += 1
        return super().prepare(portrait, canvas)


async def status(running: Running, **query) -> dict:
    answer = await running.http.get("/status", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until_ended(running: Running, number: int) -> list[dict]:
    async with asyncio.timeout(5):
        while len(ended := (await status(running))["ended"]) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return ended


async def test_a_worker_from_warming_to_draining():
    async with Running(max_sessions=1) as running:
        warming = await status(running)
        assert (warming["state"], warming["engine"], warming["running"]) == ("warming", None, 0)
        await running.worker.start()
        ready = await status(running)
        assert (ready["state"], ready["engine"], ready["capacity"]) == ("ready", "flap", 1)
        assert ready["ws_uri"] == running.worker.ws_uri
        assert ready["instance"] == warming["instance"]
        await running.http.post("/sessions", json=body())
        full = await status(running)
        assert (full["state"], full["running"]) == ("full", 1)
        await running.worker.drain(0)
        assert (await status(running))["state"] == "draining"
    async with Running() as other:
        assert (await status(other))["instance"] != warming["instance"]


async def test_a_session_from_ready_to_ended():
    async with Running() as running:
        await running.worker.start()
        before = datetime.now(UTC)
        created = (await running.http.post("/sessions", json=body())).json()
        socket = await running.enter(events=["playback"])
        pcm = base64.b64encode(np.full(8000, 9000, "<i2").tobytes()).decode()
        await socket.send(json.dumps({"type": "agent.speak", "audio": pcm}))
        await socket.send(json.dumps({"type": "agent.speak.end"}))
        async with asyncio.timeout(5):
            async for text in socket:
                if json.loads(text)["type"] == "agent.speak.ended":
                    break
        now = await status(running)
        [session] = now["sessions"]
        assert (session["session_id"], session["ready"]) == ("sess-1", True)
        assert session["watch_uri"] == f"{running.worker.http_url}/whep/sess-1"
        assert created["watch_uri"] == session["watch_uri"]
        assert created["instance"] == now["instance"]
        assert (await running.http.post(session["watch_uri"], content=b"no offer")).status_code in (
            400,
            415,
        ), "the address is that of the room"
        ready_at = datetime.fromisoformat(session["ready_at"])
        assert abs((ready_at - before).total_seconds()) < 5
        assert now["ended"] == []

        await running.http.delete("/sessions/sess-1", params={"reason": "minutes_exhausted"})
        [ended] = await until_ended(running, 1)
        assert (await status(running))["sessions"] == []
        assert ended["reason"] == "minutes_exhausted"
        assert ended["ready_at"] == session["ready_at"]
        assert ended["speech_seconds"] == pytest.approx(0.5, abs=0.01)
        assert ended["seconds"] >= 0.5
        ended_at = datetime.fromisoformat(ended["ended_at"])
        assert ready_at <= ended_at <= datetime.now(UTC)


async def test_only_later_ends_are_told_and_only_the_latest_are_kept(monkeypatch):
    monkeypatch.setattr(worker.session_registry, "KEPT_ENDED", 3)
    async with Running() as running:
        await running.worker.start()
        for n in range(5):
            await running.http.post("/sessions", json=body(f"sess-{n}"))
            await running.http.delete(f"/sessions/sess-{n}")
        ended = await until_ended(running, 3)
        assert [(each["number"], each["session_id"]) for each in ended] == [
            (3, "sess-2"),
            (4, "sess-3"),
            (5, "sess-4"),
        ]
        later = (await status(running, after=4))["ended"]
        assert [each["session_id"] for each in later] == ["sess-4"]
        assert (await status(running, after=5))["ended"] == []


async def test_a_session_ended_before_it_began_never_begins():
    engine = SlowToPrepare()
    async with Running(load_engine=lambda: engine) as running:
        await running.worker.start()
        creating = asyncio.create_task(running.http.post("/sessions", json=body()))
        await asyncio.to_thread(engine.preparing.wait, 5)
        early = await status(running)
        assert (early["running"], early["joining"]) == (1, ["sess-1"])
        assert (await running.http.delete("/sessions/sess-1")).status_code == 200
        engine.go_on.set()
        answer = await creating
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "SESSION_CANCELLED")
        now = await status(running)
        assert (now["running"], now["sessions"], now["ended"]) == (0, [], [])
        # It left nothing behind that would refuse it a second time.
        assert (await running.http.post("/sessions", json=body())).status_code == 200


async def test_a_portrait_is_prepared_once_one_at_a_time_and_not_by_a_full_worker():
    engine = SlowToPrepare()
    ahead = {key: body()[key] for key in ("avatar", "aspect_ratio", "size")}
    other = {**ahead, "avatar": {"image_base64": base64.b64encode(photo(9)).decode()}}
    async with Running(load_engine=lambda: engine, max_sessions=1) as running:
        early = await running.http.post("/portraits", json=ahead)
        assert (early.status_code, early.json()["error"]["code"]) == (503, "WARMING_UP")
        await running.worker.start()
        preparing = asyncio.create_task(running.http.post("/portraits", json=ahead))
        await asyncio.to_thread(engine.preparing.wait, 5)
        second = await running.http.post("/portraits", json=other)
        assert (second.status_code, second.json()["error"]["code"]) == (503, "BUSY")
        engine.go_on.set()
        assert (await preparing).status_code == 200
        assert (await running.http.post("/sessions", json=body())).status_code == 200
        assert engine.prepared == 1
        full = await running.http.post("/portraits", json=other)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "NO_CAPACITY")


async def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers():
    """Nagle's algorithm would hold every answer on a used connection back for 40 ms."""
    async with Running() as running:
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            await status(running)
            times.append(time.perf_counter() - begun)
        assert min(times[10:]) < 0.03
