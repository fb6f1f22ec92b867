"""Open and close many sessions in one process and see whether anything stays behind.

Every session is real: asked for over HTTP, spoken to over its WebSocket, interrupted or not, ended
by its client. Memory, threads and open files are sampled while no session runs.

    python scripts/soak.py --room whep --sessions 200
    LIVEKIT_URL=ws://localhost:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret \\
        python scripts/soak.py --room livekit

Exit status 1: after the first sessions, resident memory grew by more than a tenth, or the number of
threads or open files changed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import os
import platform
import secrets
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import numpy as np
from tqdm import tqdm
from websockets.asyncio.client import connect

from common.logs import configure_logging
from worker.engines import engine_loader, sample_portrait
from worker.server import http_server, speech_server
from worker.service import Worker
from worker.settings import LogSettings, WorkerSettings, load_settings

SAMPLE_EVERY = 10
SETTLE = 20
"""Sessions after which the process is taken to be as it stays: pools filled, caches warm."""

ALLOWED_GROWTH = 0.10

SETTLE_S = 0.5
"""Time between the last session's end and a sample, for what closes behind it."""


class SoakError(RuntimeError):
    """A session did not go as it should; the text says which and how."""


@dataclass(frozen=True)
class Sample:
    """The process while no session runs."""

    sessions: int
    seconds: float
    rss_mb: float
    threads: int
    """Threads of Python."""
    native_threads: int
    """All threads, codecs and transports included."""
    files: int


def sample(sessions: int, begun: float) -> Sample:
    """Look at this process (Linux: through /proc)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        sessions,
        round(time.perf_counter() - begun, 1),
        round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        # A thread of an SDK that once called into Python is listed from then on as Dummy-N; it is
        # counted below.
        sum(not thread.name.startswith("Dummy-") for thread in threading.enumerate()),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
    )


def verdict(samples: list[Sample], settle: int = SETTLE) -> list[str]:
    """What stayed behind between the first sample at ``settle`` sessions and the last one."""
    settled = [each for each in samples if each.sessions >= settle]
    if len(settled) < 2:
        return [f"too few sessions to tell: give more than {settle + SAMPLE_EVERY}"]
    first, last = settled[0], settled[-1]
    growth = last.rss_mb / first.rss_mb - 1
    found = []
    if growth > ALLOWED_GROWTH:
        found.append(f"memory grew by {growth:.0%}, from {first.rss_mb} to {last.rss_mb} MB")
    for name in ("threads", "native_threads", "files"):
        before, after = getattr(first, name), getattr(last, name)
        if before != after:
            found.append(f"{name.replace('_', ' ')} went from {before} to {after}")
    return found


class Rooms:
    """The ``room`` of each session's request."""

    def __init__(self, platform_name: str) -> None:
        """Raises SoakError: a LiveKit server was asked for and the environment names none."""
        self.platform = platform_name
        if platform_name == "livekit":
            names = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
            self._livekit = [os.environ.get(name, "") for name in names]
            if missing := [
                name for name, value in zip(names, self._livekit, strict=True) if not value
            ]:
                raise SoakError(f"--room livekit needs {', '.join(missing)} in the environment")

    def body(self, number: int) -> dict[str, Any]:
        """The request's ``room`` for session ``number``."""
        if self.platform == "file":
            return {"platform": "file", "path": f"{number}.mp4"}
        if self.platform == "livekit":
            from livekit import api

            url, key, secret = self._livekit
            grants = api.VideoGrants(room_join=True, room=f"soak-{number}", can_subscribe=False)
            token = api.AccessToken(key, secret).with_identity("avatar").with_grants(grants)
            jwt = token.with_ttl(timedelta(minutes=5)).to_jwt()
            return {"platform": "livekit", "url": url, "token": jwt}
        return {"platform": "whep"}


async def one_session(
    http: httpx.AsyncClient, number: int, room: dict[str, Any], photo: str, size: str, speech: str
) -> None:
    """One session's life. Raises SoakError or TimeoutError."""
    session_id, token = f"soak-{number}", secrets.token_urlsafe(24)
    answer = await http.post(
        "/sessions",
        json={
            "session_id": session_id,
            "session_token": token,
            "room": room,
            "size": size,
            "avatar": {"image_base64": photo},
        },
    )
    if answer.status_code != 200:
        raise SoakError(f"session {number} was refused: {answer.status_code} {answer.text[:300]}")
    async with asyncio.timeout(30), connect(answer.json()["ws_uri"]) as socket:
        init = {"type": "session.init", "session_id": session_id, "session_token": token}
        await socket.send(json.dumps(init | {"events": ["playback"]}))
        await _until(socket, "connection.established")
        await socket.send(json.dumps({"type": "agent.speak", "audio": speech}))
        await _until(socket, "agent.speak.started")
        if number % 2:
            await socket.send(json.dumps({"type": "agent.interrupt"}))
            await _until(socket, "agent.interrupt.confirmed")
        if number % 3 == 0:
            await http.delete(f"/sessions/{session_id}")
    for _ in range(500):
        if (await http.get(f"/sessions/{session_id}")).status_code == 404:
            return
        await asyncio.sleep(0.03)
    raise SoakError(f"session {number} is still there 15 s after its client left")


async def _until(socket: Any, kind: str) -> None:
    while (message := json.loads(await socket.recv()))["type"] != kind:
        if message["type"] == "error":
            raise SoakError(f"waiting for {kind}: {message}")


async def soak(
    settings: WorkerSettings,
    rooms: Rooms,
    *,
    sessions: int,
    at_once: int,
    size: str,
    photo: bytes,
    folder: Path,
) -> list[Sample]:
    """Run ``sessions`` sessions, ``at_once`` at a time, and sample the process between them."""
    portrait = base64.b64encode(photo).decode()
    noise = np.random.default_rng(0).integers(-9000, 9000, 8000, "<i2")  # 0.5 s at 16 kHz
    speech = base64.b64encode(noise.tobytes()).decode()
    _fill_thread_pool()
    worker = Worker(settings, engine_loader(settings))
    samples: list[Sample] = []
    try:
        async with http_server(worker, settings), speech_server(worker, settings):
            await worker.start()
            begun = time.perf_counter()
            # No connection is kept: one that idles or expires would count as an open file.
            limits = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(
                base_url=worker.http_url, timeout=60, limits=limits
            ) as http:
                for start in tqdm(range(0, sessions, at_once), unit=f"x{at_once} sessions"):
                    numbers = range(start, min(start + at_once, sessions))
                    async with asyncio.TaskGroup() as group:
                        for number in numbers:
                            body = rooms.body(number)
                            group.create_task(
                                one_session(http, number, body, portrait, size, speech)
                            )
                    _empty(folder)
                    if numbers.stop % SAMPLE_EVERY < at_once:
                        await asyncio.sleep(SETTLE_S)
                        samples.append(sample(numbers.stop, begun))
    finally:
        await worker.aclose()
    return samples


def _fill_thread_pool(size: int = 4) -> None:
    """Give the event loop a pool whose threads are all there: one that grows now and then would
    look like a leak."""
    pool = ThreadPoolExecutor(size)
    together = threading.Barrier(size)
    for future in [pool.submit(together.wait) for _ in range(size)]:
        future.result()
    asyncio.get_running_loop().set_default_executor(pool)


def _empty(folder: Path) -> None:
    for recording in folder.glob("*.mp4"):
        recording.unlink()


def table(samples: list[Sample]) -> str:
    """The samples as a Markdown table."""
    names = ["sessions", "seconds", "rss MB", "threads", "native threads", "files"]
    rows = [[str(value) for value in asdict(each).values()] for each in samples]
    widths = [max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([line(names), rule, *map(line, rows)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", choices=["whep", "file", "livekit"], default="whep")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=5, help="at most 10")
    parser.add_argument("--size", default="128x96", help="picture of each session, 4:3")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--portrait", type=Path, default=sample_portrait())
    parser.add_argument("--out", type=Path, help="JSON to write; default out/soak-ROOM.json")
    chosen = parser.parse_args(arguments)
    if not Path("/proc/self/statm").is_file():
        print("error: the figures come from /proc; run this on Linux", file=sys.stderr)
        return 2
    if chosen.portrait is None or not chosen.portrait.is_file():
        print("error: give a photo with --portrait", file=sys.stderr)
        return 2
    if not 1 <= chosen.at_once <= SAMPLE_EVERY:
        parser.error(f"--at-once must be 1 to {SAMPLE_EVERY}")
    configure_logging(LogSettings(level="error", format="console"))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        settings = load_settings(
            host="127.0.0.1",
            http_port=0,
            ws_port=0,
            public_url=None,
            public_ws_url=None,
            secret=None,
            device=chosen.device,
            max_sessions=chosen.at_once,
            record_dir=Path(folder),
        )
        try:
            samples = asyncio.run(
                soak(
                    settings,
                    Rooms(chosen.room),
                    sessions=chosen.sessions,
                    at_once=chosen.at_once,
                    size=chosen.size,
                    photo=chosen.portrait.read_bytes(),
                    folder=Path(folder),
                )
            )
        except SoakError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BaseExceptionGroup as group:
            reasons = sorted({f"{type(each).__name__}: {each}" for each in group.exceptions})
            print(f"error: {'; '.join(reasons)}", file=sys.stderr)
            return 1
    found = verdict(samples)
    print(table(samples))
    print("\n".join(found) or "nothing stayed behind")
    out = chosen.out or Path("out") / f"soak-{chosen.room}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "room": chosen.room,
        "sessions": chosen.sessions,
        "at_once": chosen.at_once,
        "size": chosen.size,
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "samples": [asdict(each) for each in samples],
        "left_behind": found,
    }
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {out}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
