"""A hundred real sessions in one process leave it as it was."""

import asyncio
import base64
import gc
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from models.engine import Canvas
from portraits import ANNA
from worker.engines import engine_loader
from worker.interfaces import FileRoom, SessionRequest, WhepRoom
from worker.server import speech_server
from worker.service import Worker
from worker.settings import WorkerSettings


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def leftovers() -> dict[str, int]:
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="counts through /proc")
async def test_a_hundred_sessions_leave_the_process_as_it_was(tmp_path):
    photo = ANNA.path.read_bytes()
    settings = WorkerSettings(ws_port=0, max_sessions=5)
    worker = Worker(settings, engine_loader(settings))
    speech = base64.b64encode(np.random.default_rng(0).integers(-9000, 9000, 8000, "<i2")).decode()

    async def life(number: int) -> None:
        session_id, token = f"sess-{number}", f"token-of-session-{number}"
        room = FileRoom(tmp_path / f"{number}.mp4") if number % 5 == 0 else WhepRoom()
        await worker.create(SessionRequest(session_id, token, Canvas(128, 96), "4:3", room, photo))
        session = worker.session(session_id)
        async with connect(worker.ws_uri) as socket:
            init = {"type": "session.init", "session_id": session_id, "session_token": token}
            await socket.send(json.dumps(init | {"events": ["playback"]}))
            await socket.recv()
            await socket.send(json.dumps({"type": "agent.speak", "audio": speech}))
            while json.loads(await socket.recv())["type"] != "agent.speak.started":
                pass
            if number % 2:
                await socket.send(json.dumps({"type": "agent.interrupt"}))
                while json.loads(await socket.recv())["type"] != "agent.interrupt.confirmed":
                    pass
        await session.closed.wait()
        assert session.end_reason == "websocket_closed"

    async def lives(numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, 5):
            await asyncio.gather(*(life(number) for number in range(start, start + 5)))

    try:
        async with speech_server(worker, settings):
            await worker.start()
            await lives(range(20))
            await asyncio.sleep(0.1)
            before, memory = leftovers(), resident_mb()
            await lives(range(20, 120))
            await asyncio.sleep(0.1)
            after, grown = leftovers(), resident_mb() - memory
        assert after == before
        assert grown < 30
        assert not worker.sessions()
    finally:
        await worker.aclose()
