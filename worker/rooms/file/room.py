"""A room that records: what is published becomes an MP4 file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import structlog

from models.engine import FPS, Canvas
from worker.clock import Clock, SystemClock
from worker.rooms.file.mp4 import Mp4Writer
from worker.rooms.frame import Frame, FrameGate
from worker.rooms.pacing import Pacer
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError, RoomEvent

log = structlog.get_logger(__name__)

_BACKLOG = 4
"""Frames that may wait for the encoder's thread; the publisher waits for more."""


class FileRoom:
    """Records into ``path``: H.264 at 25 frames per second, AAC at 48 kHz.

    Args:
        path: the MP4 to write. It appears, complete, when the room is left; until then and after
            a crash there is at most a ``.part`` file beside it, after an error nothing.
        canvas: size of the pictures.
        realtime: pace the publisher by the clock, as a live room would. Otherwise the
            room takes frames as fast as they come and its time stands still between.
        clock: where time comes from when ``realtime``.
        starts_on_speech: record speech only: start with the first speaking frame, go on for
            ``tail_ms`` after the last. A longer pause is cut out of the recording, picture and
            sound alike; the room's time passes there all the same.
        tail_ms: milliseconds, rounded up to whole frames.
        crf, preset, audio_bitrate, faststart: see ``Mp4Writer``.
    """

    multi_party = False

    def __init__(
        self,
        path: Path | str,
        canvas: Canvas,
        *,
        realtime: bool,
        clock: Clock | None = None,
        starts_on_speech: bool = False,
        tail_ms: int = 400,
        crf: int = 18,
        preset: str = "veryfast",
        audio_bitrate: int = 160_000,
        faststart: bool = True,
    ) -> None:
        self.realtime = realtime
        self.starts_on_speech = starts_on_speech
        self.path = Path(path)
        self._clock = clock or SystemClock()
        self._tail = -(-tail_ms * FPS // 1000)
        self._tail_left = 0
        self._gate = FrameGate(canvas)
        self._open_writer = lambda: Mp4Writer(
            self.path,
            canvas,
            crf=crf,
            preset=preset,
            audio_bitrate=audio_bitrate,
            faststart=faststart,
        )
        self._thread: ThreadPoolExecutor | None = None
        self._writer: Mp4Writer | None = None
        self._opening: asyncio.Future[Mp4Writer] | None = None
        self._writes: set[asyncio.Future[None]] = set()
        self._space = asyncio.Semaphore(_BACKLOG)
        self._pacer: Pacer[Frame] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._taken = 0
        self._played_at_close: int | None = None
        self._failure: str | None = None
        self._broken = False  # the encoder's thread knows of a failure first
        self._leaving: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """Nobody watches a recording being made."""
        return 0

    @property
    def frames_written(self) -> int:
        """Frames the recording holds so far; 0 after the end means that no file was made."""
        return self._writer.frames if self._writer is not None else 0

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Create the file. Raises ``RoomError`` when it cannot be."""
        if self._thread is not None or self._leaving is not None:
            raise RoomError("a file room records once; make a new one for the next recording")
        self._on_event = on_event
        # A thread of its own: encoding must hold up neither the event loop nor other rooms.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mp4")
        loop = asyncio.get_running_loop()
        self._opening = loop.run_in_executor(self._thread, self._open_writer)
        try:
            self._writer = await asyncio.shield(self._opening)
        except OSError as error:
            self._failure = self._sentence(error)
            raise RoomError(self._failure) from error
        if self.realtime:
            self._pacer = Pacer(self._clock)
            self._pump = asyncio.create_task(self._run_pump(self._pacer))

    async def publish(self, picture: np.ndarray | None, audio: np.ndarray, speaking: bool) -> None:
        """See ``worker.rooms.port.Room.publish``. Arrays must not change afterwards.

        Raises:
            ValueError: wrong shape or type.
            RoomError: not connected, closed, or the file could not be written.
        """
        frame = self._gate.take(picture, audio, speaking)
        self._check_open()
        if self._pacer is not None:
            await self._pacer.push(frame, SAMPLES_PER_FRAME)
        else:
            await self._record(frame)
            self._taken += SAMPLES_PER_FRAME
        self._check_open()

    def clear(self) -> int:
        """See ``worker.rooms.port.Room.clear``. A file that is not paced holds nothing back."""
        return self._pacer.clear() if self._pacer is not None else 0

    @property
    def played(self) -> int:
        """See ``worker.rooms.port.Room.played``. Unless paced: what the recording was given."""
        if self._played_at_close is not None:
            return self._played_at_close
        return self._pacer.played if self._pacer is not None else self._taken

    async def aclose(self, reason: str = "") -> None:
        """Finish the file and give it its name; what still waits for its time is left out.

        Raises:
            RoomError: the end of the file could not be written; there is no file then.
        """
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        told = self._failure
        self._played_at_close = self.played
        if self._pacer is not None:
            self._pacer.close()
        if self._pump is not None:
            await self._pump
        while self._writes:
            await asyncio.wait(self._writes)
        if self._thread is None:
            return
        try:
            if self._writer is None and self._opening is not None and self._failure is None:
                # ``connect`` was cancelled; what it began has to be undone.
                self._writer = await self._opening
            if self._writer is not None and self._failure is None:
                await self._finish(self._thread, self._writer)
        finally:
            self._thread.shutdown()
        if self._failure is not None and self._failure != told:
            raise RoomError(self._failure)

    async def _finish(self, thread: ThreadPoolExecutor, writer: Mp4Writer) -> None:
        try:
            whole = await asyncio.get_running_loop().run_in_executor(thread, writer.close)
        except Exception as error:
            self._failure = self._sentence(error)
            log.error("recording_failed", path=str(self.path), error=str(error))
        else:
            if not whole:
                log.warning("recording_empty", path=str(self.path))

    async def _run_pump(self, pacer: Pacer[Frame]) -> None:
        try:
            while True:
                await self._record((await pacer.pop()).item)
        except RoomError:
            return

    async def _record(self, frame: Frame) -> None:
        if not self._is_recorded(frame.speaking):
            await asyncio.sleep(0)
            return
        await self._space.acquire()
        if self._failure is not None or self._thread is None:
            self._space.release()
            return
        write = asyncio.get_running_loop().run_in_executor(self._thread, self._write, frame)
        self._writes.add(write)
        write.add_done_callback(self._note_written)

    def _is_recorded(self, speaking: bool) -> bool:
        if not self.starts_on_speech:
            return True
        if speaking:
            self._tail_left = self._tail
            return True
        self._tail_left -= 1
        return self._tail_left >= 0

    def _write(self, frame: Frame) -> None:
        """On the encoder's thread."""
        if self._writer is None or self._broken:
            return
        try:
            self._writer.write(frame.picture, frame.audio)
        except Exception:
            self._broken = True
            self._writer.discard()
            raise

    def _note_written(self, write: asyncio.Future[None]) -> None:
        self._writes.discard(write)
        self._space.release()
        error = None if write.cancelled() else write.exception()
        if error is None:
            return
        assert isinstance(error, Exception)
        self._failure = self._sentence(error)
        log.error("recording_failed", path=str(self.path), error=str(error))
        if self._pacer is not None:
            self._pacer.close()
        if self._leaving is None:
            self._on_event("closed", self._failure)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise RoomError(self._failure)
        if self._leaving is not None:
            raise RoomError("the room is closed; nothing can be published to it any more")
        if self._writer is None:
            raise RoomError("the room is not connected; call connect() first")

    def _sentence(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot record into {self.path}: {reason}; choose a folder that can be written to"
