"""``talk``: a portrait and a speech file become a video, through a whole real session.

The worker runs in this process, but the speech takes the way every client's does: a WebSocket on
the loopback interface, the speech core, the render pool, playout, and a file room.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from common.canvas_settings import AspectRatio
from models.engine import FPS, Canvas, Engine
from worker.ingest.speech_file import read_speech
from worker.interfaces import FileRoom, SessionRequest
from worker.rooms.file import room as file
from worker.server import speech_server
from worker.service import Worker
from worker.settings import WorkerSettings

PIECE_S = 0.1
"""Seconds of speech per WebSocket message."""

AHEAD_S = 60.0
"""Seconds that are sent ahead of the recording: a session's backlog is bounded."""

TAIL_FRAMES = 10
"""Frames after the last speech frame that the recording keeps."""

STALL_S = 20.0
"""The recording has stopped when no frame came for so long; a slow machine may take its time."""


class TalkError(RuntimeError):
    """The session failed; the text says what went wrong."""


@dataclass
class TalkReport:
    """Where time went, in seconds, and what came out."""

    seconds: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    speech_s: float = 0.0
    first_frame_ms: int | None = None
    render_ms_p50: float = 0.0
    render_ms_p95: float = 0.0


async def talk(
    *,
    photo: bytes,
    speech: Path,
    out: Path,
    settings: WorkerSettings,
    load_engine: Callable[[], Engine],
    canvas: Canvas,
    aspect_ratio: AspectRatio = "4:3",
    fast: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TalkReport:
    """Render ``speech`` spoken by the face in ``photo`` (an image file) into the MP4 ``out``.

    ``fast`` drops real-time pacing; the frames are the same. ``progress(frames, total)`` is called
    as the recording grows.

    Raises:
        SpeechFileError, PortraitError, RoomError, TalkError: one sentence each.
    """
    report = TalkReport()
    laps = _Laps(report)
    pcm, rate = read_speech(speech)
    report.speech_s = len(pcm) / rate
    laps.lap("read files")
    worker = Worker(settings, load_engine)
    try:
        async with speech_server(worker, settings):
            await worker.start()
            laps.lap("load engine")
            session_id, token = "talk", secrets.token_urlsafe(32)
            room = FileRoom(out, paced=not fast, starts_on_speech=True)
            await worker.create(
                SessionRequest(session_id, token, canvas, aspect_ratio, room, photo)
            )
            laps.lap("prepare portrait")
            session = worker.session(session_id)
            assert session is not None
            assert isinstance(session.room, file.FileRoom)
            total = -(-len(pcm) * FPS // rate) + TAIL_FRAMES
            recording = _Recording(session.room, total, progress)
            watching = asyncio.create_task(recording.watch())
            try:
                await _converse(worker.ws_uri, session_id, token, pcm, rate, recording)
            except TalkError as error:
                raise TalkError(session.failure or str(error)) from None
            finally:
                watching.cancel()
            await session.closed.wait()
            if session.failure is not None:
                raise TalkError(session.failure)
            laps.lap("speak and record")
            report.frames = session.room.frames_written
            report.first_frame_ms = session.stats.first_frame_ms
            times = sorted(session.render_ms) or [0.0]
            report.render_ms_p50 = times[len(times) // 2]
            report.render_ms_p95 = times[int(len(times) * 0.95)]
    finally:
        await worker.aclose()
    return report


async def _converse(
    uri: str,
    session_id: str,
    token: str,
    pcm: np.ndarray,
    rate: int,
    recording: _Recording,
) -> None:
    """The client's side of the session."""
    async with connect(uri, max_size=None) as socket:
        await _send(
            socket,
            type="session.init",
            session_id=session_id,
            session_token=token,
            events=["playback", "lifecycle"],
            audio={"sample_rate": rate, "format": "pcm_s16le", "channels": 1},
        )
        await _receive(socket, "session.ready")
        await _send(socket, type="agent.speak.begin")
        piece = max(1, round(PIECE_S * rate))
        for at in range(0, len(pcm), piece):
            # The count grows in the encoder's thread: there is no event to wait for.
            while at / rate - recording.seconds > AHEAD_S:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await socket.send(pcm[at : at + piece].astype("<i2").tobytes())
        await _send(socket, type="agent.speak.end")
        ended = await _receive(socket, "agent.speak.ended")
        if ended["reason"] != "completed":
            raise TalkError(f"speech was not played to its end ({ended['reason']})")
        await recording.finish()
        await _send(socket, type="session.end")
        await _receive(socket, "session.ended")


async def _send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def _receive(socket: ClientConnection, wanted: str) -> dict[str, Any]:
    async for text in socket:
        message: dict[str, Any] = json.loads(text)
        if message["type"] == wanted:
            return message
        if message["type"] == "error":
            raise TalkError(f"the worker refused: {message['error']}")
        if message["type"] == "session.ended":
            raise TalkError(f"the session ended early ({message['reason']})")
    raise TalkError("the worker closed the connection; see its log")


class _Recording:
    """How far the recording has come."""

    def __init__(
        self, room: file.FileRoom, total: int, progress: Callable[[int, int], None]
    ) -> None:
        self.complete = asyncio.Event()
        self._room = room
        self._total = total
        self._progress = progress

    @property
    def seconds(self) -> float:
        return self._room.frames_written / FPS

    async def finish(self) -> None:
        """Wait until the recording holds all its frames.

        Raises:
            TalkError: frames have stopped coming.
        """
        while not self.complete.is_set():
            before = self._room.frames_written
            try:
                async with asyncio.timeout(STALL_S):
                    await self.complete.wait()
            except TimeoutError:
                if self._room.frames_written == before:
                    raise TalkError(
                        f"the recording stopped at frame {before} of {self._total}; see the log"
                    ) from None

    async def watch(self) -> None:
        """Report progress until the recording holds all its frames."""
        while (done := self._room.frames_written) < self._total:
            self._progress(done, self._total)
            await asyncio.sleep(0.05)
        self._progress(self._total, self._total)
        self.complete.set()


class _Laps:
    def __init__(self, report: TalkReport) -> None:
        self._report = report
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._report.seconds[name] = now - self._since
        self._since = now
