"""The benchmarks of a whole worker: ``scripts/benchmark.py engine | latency | capacity``.

Everything runs in this process on the loopback interface, through the same code a resident worker
runs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from websockets.asyncio.client import connect

from models.engine import Canvas, Engine
from models.face.photo import load_photo
from models.warp.pose import WarpPose
from models.warp.render.renderer import STAGES, render_frame
from worker.diagnostics.capacity import encode_cpu_s, measured_speed, sessions_held
from worker.engines import engine_loader, sample_portrait
from worker.ingest.speech_file import read_speech
from worker.interfaces import FileRoom as FileSpec
from worker.interfaces import SessionRequest
from worker.interfaces import WhepRoom as WhepSpec
from worker.pipeline.render_pool import pool_size
from worker.rooms.file.mp4 import Mp4Writer
from worker.rooms.port import SAMPLES_PER_FRAME, Room
from worker.server import speech_server
from worker.service import Worker
from worker.session import Session
from worker.settings import WorkerSettings, load_settings

FRAME_MS = 40.0
STAGE_FRAMES = 25
"""Pictures that are compressed, and at least rendered, to time the stages."""
_ROOMS = {"file": "each recorded to MP4", "whep": "nobody watching"}
SPEECH = Path(__file__).parent.parent / "assets" / "speech.ogg"


class ProbeRoom:
    """A room that notes when each frame was handed over, and passes it on."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.realtime, self.starts_on_speech, self.multi_party = (
            room.realtime,
            room.starts_on_speech,
            room.multi_party,
        )
        self.handed: list[tuple[float, bool, bool]] = []
        """Time in s, whether it was speech, whether it had a picture of its own."""
        self.silenced: list[float] = []
        """When the last sample that a clear could not take back had been heard, in s."""
        self._pushed = 0
        self.connect, self.aclose = room.connect, room.aclose

    @property
    def viewers(self) -> int:
        """The room's own."""
        return self._room.viewers

    @property
    def played(self) -> int:
        """The room's own."""
        return self._room.played

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """Note the time and pass the frame on."""
        self.handed.append((time.perf_counter(), speaking, picture is not None))
        self._pushed += len(audio)
        await self._room.publish(picture, audio, speaking)

    def clear(self) -> int:
        """Clear, and note when the room falls silent."""
        cleared = self._room.clear()
        self._pushed -= cleared
        left_s = (self._pushed - self._room.played) / 48_000
        self.silenced.append(time.perf_counter() + left_s)
        return cleared


class ProbedWorker(Worker):
    """A worker whose rooms are probed."""

    probes: dict[str, ProbeRoom]

    def _room(self, request: SessionRequest) -> Room:
        probe = ProbeRoom(super()._room(request))
        self.__dict__.setdefault("probes", {})[request.session_id] = probe
        return probe


def engine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the render pool makes, by size and threads, and where the time of a frame goes."""
    settings = _settings(arguments)
    loaded = engine_loader(settings)()
    photo = _photo(arguments)
    speeds, stages = [], []
    for size in arguments.sizes:
        canvas = _canvas(size)
        for threads in arguments.threads or sorted({1, settings.threads}):
            speed = measured_speed(
                loaded, photo, canvas, threads=threads, seconds=arguments.seconds
            )
            speeds.append(
                {
                    "size": size,
                    "threads": pool_size(loaded, threads),
                    "frames/s": round(speed.frames_per_second, 1),
                    "CPU ms/frame": round(1000 * speed.render_cpu_s, 2),
                    "sessions": sessions_held(speed),
                }
            )
        stages += [{"size": size, **row} for row in _stages(arguments, loaded, canvas)]
    return {
        "tables": {"Speech to pictures, all sessions speaking": speeds, "Stages": stages},
        "notes": ["sessions: what a worker would promise here, compressing to VP8 included"],
    }


def _stages(
    arguments: argparse.Namespace, loaded: Engine, canvas: Canvas
) -> list[dict[str, str | float]]:
    """CPU time of each step from a photo to a compressed picture, in one thread."""
    photo, rng = _photo(arguments), np.random.default_rng(0)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.thread_time()
        done = work()
        times.setdefault(name, []).append((time.thread_time() - begun) * 1000)
        return done

    identity = timed("prepare a portrait", lambda: loaded.prepare(photo, canvas))
    actor = loaded.actor(identity)
    actor.push_audio(rng.integers(-3000, 3000, 16_000).astype(np.int16))
    pictures: list[np.ndarray] = []
    until = time.perf_counter() + arguments.seconds
    while time.perf_counter() < until or len(pictures) < STAGE_FRAMES:
        actor.push_audio(rng.integers(-3000, 3000, 640).astype(np.int16))
        pose = timed("motion", lambda: actor.next_poses(1, True)[0])
        pictures.append(timed("render", lambda pose=pose: loaded.render([pose])[0]))
        del pictures[:-STAGE_FRAMES]
        if isinstance(pose, WarpPose):
            stages_ns = np.zeros(len(STAGES), np.int64)
            render_frame(pose.identity, pose.motion, stages_ns)
            for name, ns in zip(STAGES, stages_ns, strict=True):
                times.setdefault(f"render: {name}", []).append(ns * 1e-6)
    del times["motion"][0], times["render"][0]  # what is made once
    times["compress to VP8"] = [1000 * encode_cpu_s(pictures, canvas)]
    times["compress to MP4"] = [_mp4_cpu_ms(arguments, pictures, canvas)]
    return [
        {
            "stage": name,
            "CPU ms median": round(float(np.median(values)), 2),
            "95 %": round(float(np.percentile(values, 95)), 2),
        }
        for name, values in times.items()
    ]


def _mp4_cpu_ms(arguments: argparse.Namespace, pictures: list[np.ndarray], canvas: Canvas) -> float:
    """CPU time of a recorded picture with its sound."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    path = arguments.out.parent / "benchmark-stages.mp4"
    writer = Mp4Writer(path, canvas)
    begun = time.process_time()
    for picture in pictures:
        writer.write(picture, np.zeros(SAMPLES_PER_FRAME, np.int16))
    taken = time.process_time() - begun
    writer.discard()
    return taken * 1000 / len(pictures)


def latency(arguments: argparse.Namespace) -> dict[str, Any]:
    """Client sends speech -> first synced frame at the room; interrupt -> silence; session asked
    for -> first frame, with a portrait the worker has not seen and with one it knows."""
    return asyncio.run(_latency(arguments))


async def _latency(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = _settings(arguments)
    pcm, rate = _speech(arguments)
    pcm = pcm[_onset(pcm, rate) :]
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {"tts": [], "microphone": [], "interrupt": []}
    async with _Live(settings, arguments, 1) as live:
        socket, probe = live.sockets[0], live.probes[0]
        await asyncio.sleep(1.0)
        for kind in ("tts", "microphone"):
            for _ in tqdm(range(arguments.trials), desc=kind):
                await asyncio.sleep(0.3 + rng.random() * 0.08)
                since = len(probe.handed)
                begun = time.perf_counter()
                feed = asyncio.create_task(
                    _say(socket, pcm, rate, seconds=1.2, paced=kind == "microphone")
                )
                first = await _until(lambda at=since: _first_speech(probe, at))
                times[kind].append((first - begun) * 1000)
                await feed
                await asyncio.sleep(rng.random() * 0.08)
                asked = time.perf_counter()
                await socket.send(json.dumps({"type": "agent.interrupt"}))
                count = len(probe.silenced)
                silent = await _until(
                    lambda n=count: probe.silenced[n] if len(probe.silenced) > n else None
                )
                times["interrupt"].append((silent - asked) * 1000)
                heard_after = [at for at, speaking, _ in probe.handed if speaking and at > silent]
                if heard_after:
                    raise RuntimeError("speech was handed over after an interrupt")
    async with _Live(settings, arguments, 1) as live:
        times["new portrait"] = live.joined_ms
        times["known portrait"] = [await live.join() for _ in range(3)]
    rows = [{"what": kind, **_percentiles(values)} for kind, values in times.items()]
    return {"rows": rows, "size": arguments.sizes[0], "trials": arguments.trials}


def capacity(arguments: argparse.Namespace) -> dict[str, Any]:
    """How many sessions that all speak at once hold 25 frames/s, each recorded or watched by
    nobody (``--room``)."""
    rows = [
        asyncio.run(_capacity(arguments, count))
        for count in tqdm(arguments.sessions, desc="sessions")
    ]
    threads = _settings(arguments).threads
    return {
        "rows": rows,
        "size": arguments.sizes[0],
        "seconds": arguments.seconds,
        "threads": threads,
        "notes": [f"{arguments.sizes[0]}, {threads} render threads, {_ROOMS[arguments.room]}"],
    }


async def _capacity(arguments: argparse.Namespace, count: int) -> dict[str, Any]:
    settings = _settings(arguments)
    pcm, rate = _speech(arguments)
    async with _Live(settings, arguments, count) as live:
        feeds = [
            asyncio.create_task(_keep_saying(socket, pcm, rate, arguments.seconds + 2))
            for socket in live.sockets
        ]
        await asyncio.sleep(1.0)
        begun, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(arguments.seconds)
        elapsed = time.perf_counter() - begun
        cores = (time.process_time() - cpu) / elapsed
        gaps: list[float] = []
        fps = []
        render_ms = list(itertools.chain.from_iterable(each.render_ms for each in live.sessions))
        for probe in live.probes:
            handed = [item for item in probe.handed if begun <= item[0] < begun + elapsed]
            fps.append(sum(with_picture for _, _, with_picture in handed) / elapsed)
            gaps += [(b[0] - a[0]) * 1000 for a, b in itertools.pairwise(handed)]
        for feed in feeds:
            feed.cancel()
        await asyncio.gather(*feeds, return_exceptions=True)
    jitter = np.abs(np.array(gaps) - FRAME_MS)
    return {
        "sessions": count,
        "fps worst": round(min(fps), 2),
        "fps mean": round(float(np.mean(fps)), 2),
        "jitter p95 ms": round(float(np.percentile(jitter, 95)), 2),
        "render p50 ms": round(float(np.percentile(render_ms, 50)), 1),
        "render p95 ms": round(float(np.percentile(render_ms, 95)), 1),
        "cores busy": round(cores, 2),
        "holds": min(fps) >= 24.75,
    }


class _Live:
    """A worker with ``count`` sessions in paced rooms and their sockets."""

    def __init__(self, settings: WorkerSettings, arguments: argparse.Namespace, count: int) -> None:
        self._settings = settings
        self._arguments = arguments
        self._count = count
        self._stack = AsyncExitStack()
        self.sockets: list[Any] = []
        self.probes: list[ProbeRoom] = []
        self.sessions: list[Session] = []
        self.joined_ms: list[float] = []

    async def __aenter__(self) -> _Live:
        self._worker = ProbedWorker(self._settings, engine_loader(self._settings))
        self._stack.push_async_callback(self._worker.aclose)
        await self._stack.enter_async_context(speech_server(self._worker, self._settings))
        await self._worker.start()
        self._arguments.out.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(self._count):
            self.joined_ms.append(await self.join())
        return self

    async def join(self) -> float:
        """Open one more session; returns ms from asking for it to its first frame."""
        index = len(self.sockets)
        session_id, token = f"bench-{index}", secrets.token_urlsafe(16)
        video = self._arguments.out.parent / f"benchmark-{index}.mp4"
        self._stack.callback(video.unlink, missing_ok=True)
        canvas, photo = _canvas(self._arguments.sizes[0]), _photo_bytes(self._arguments)
        room = FileSpec(video) if self._arguments.room == "file" else WhepSpec()
        begun = time.perf_counter()
        await self._worker.create(SessionRequest(session_id, token, canvas, "4:3", room, photo))
        probe = self._worker.probes[session_id]
        first = await _until(lambda: probe.handed[0][0] if probe.handed else None)
        uri = self._worker.ws_uri
        socket = await self._stack.enter_async_context(connect(uri, max_size=None))
        init = {"type": "session.init", "session_id": session_id, "session_token": token}
        await socket.send(json.dumps(init))
        await socket.recv()
        self.sockets.append(socket)
        self.probes.append(probe)
        session = self._worker.session(session_id)
        assert session is not None
        self.sessions.append(session)
        drain = asyncio.create_task(_read_away(socket))
        self._stack.callback(drain.cancel)
        return (first - begun) * 1000

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def _read_away(socket: Any) -> None:
    async for _ in socket:
        pass


async def _say(socket: Any, pcm: np.ndarray, rate: int, *, seconds: float, paced: bool) -> None:
    piece = rate // 50 if paced else rate // 4
    begun = time.perf_counter()
    for index, at in enumerate(range(0, int(seconds * rate), piece)):
        if paced:
            await asyncio.sleep(max(0.0, begun + index * 0.02 - time.perf_counter()))
        audio = base64.b64encode(pcm[at : at + piece].astype("<i2").tobytes()).decode()
        message = {"type": "agent.speak", "audio": audio, "sample_rate": rate}
        await socket.send(json.dumps(message))


async def _keep_saying(socket: Any, pcm: np.ndarray, rate: int, seconds: float) -> None:
    until = time.perf_counter() + seconds
    length = len(pcm) / rate
    while time.perf_counter() < until:
        await _say(socket, pcm, rate, seconds=length, paced=False)
        await asyncio.sleep(length * 0.9)


def _first_speech(probe: ProbeRoom, since: int) -> float | None:
    return next((at for at, speaking, _ in probe.handed[since:] if speaking), None)


async def _until(look: Callable[[], float | None]) -> float:
    for _ in range(3000):
        if (seen := look()) is not None:
            return seen
        await asyncio.sleep(0.001)
    raise TimeoutError("nothing came within 3 s")


def _onset(pcm: np.ndarray, rate: int) -> int:
    """The first sample of 20 ms that are clearly loud: latency counts from speech, not silence."""
    frames = np.abs(pcm[: len(pcm) // (rate // 50) * (rate // 50)].astype(int))
    loud = frames.reshape(-1, rate // 50).max(axis=1) > 1500
    return int(np.argmax(loud)) * (rate // 50)


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    figures = np.percentile(list(values), [50, 95, 100])
    return dict(zip(("p50 ms", "p95 ms", "max ms"), figures.round(1).tolist(), strict=True))


def _settings(arguments: argparse.Namespace) -> WorkerSettings:
    threads = {"render_threads": arguments.threads[0]} if arguments.threads else {}
    return load_settings(
        host="127.0.0.1",
        ws_port=0,
        device=arguments.device,
        max_sessions=64,
        public_ws_url=None,
        **threads,
    )


def _speech(arguments: argparse.Namespace) -> tuple[np.ndarray, int]:
    return read_speech(arguments.speech or SPEECH)


def _photo_bytes(arguments: argparse.Namespace) -> bytes:
    return Path(arguments.portrait or sample_portrait()).read_bytes()


def _photo(arguments: argparse.Namespace) -> np.ndarray:
    return load_photo(_photo_bytes(arguments))


def _canvas(size: str) -> Canvas:
    width, height = (int(side) for side in size.split("x"))
    return Canvas(width, height)
