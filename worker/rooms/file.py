"""A room that records: what is published becomes an MP4 file."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog

from models.engine import FPS, Canvas
from worker.clock import Clock, SystemClock
from worker.rooms.frame import Frame, FrameGate
from worker.rooms.mp4 import Mp4Writer
from worker.rooms.pacing import Pacer
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError, RoomEvent

log = structlog.get_logger(__name__)

_BACKLOG = 4
"""Frames that may wait for the encoder thread."""


class FileRoom:
    """Records into ``path``: H.264 at 25 frames per second, AAC at 48 kHz.

    Args:
        path: the MP4 to write. It appears, complete, when the room is left; until then and after
            a failure there is at most a ``.part`` file beside it.
        canvas: size of the pictures.
        realtime: pace the publisher by the clock, as a live room would. Otherwise (``live`` is
            False) the room takes frames as fast as they come and its time stands still between.
        clock: where time comes from when ``realtime``.
        cue: record speech only: start with the first speaking frame, go on for ``tail_ms`` after
            the last. A longer pause is cut out of the recording, picture and sound alike; the
            room's time passes there all the same.
        tail_ms: milliseconds, rounded up to whole frames.
        crf, preset, audio_bitrate, faststart: see ``Mp4Writer``.
    """

    def __init__(
        self,
        path: Path | str,
        canvas: Canvas,
        *,
        realtime: bool,
        clock: Clock | None = None,
        cue: bool = False,
        tail_ms: int = 400,
        crf: int = 18,
        preset: str = "veryfast",
        audio_bitrate: int = 160_000,
        faststart: bool = True,
    ) -> None:
        self.live = realtime
        self.cue = cue
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
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pacer: Pacer[Frame] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._taken = 0
        self._written = 0
        self._played_at_close: int | None = None
        self._closed = False
        self._failure: str | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def frames_written(self) -> int:
        """Frames the recording holds so far; 0 after the end means that no file was made."""
        return self._written

    async def connect(self, on_event: Callable[[RoomEvent, str], None]) -> None:
        """Create the file. Raises ``RoomError`` when it cannot be."""
        if self._thread is not None or self._closed:
            raise RoomError("a file room records once; make a new one for the next recording")
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._space = asyncio.Semaphore(_BACKLOG)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._encode, args=(opened,), name=f"mp4-{self.path.name}", daemon=True
        )
        self._thread.start()
        try:
            await asyncio.shield(opened)
        except OSError as error:
            self._failure = self._sentence(error)
            raise RoomError(self._failure) from error
        if self.live:
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
            self._check_open()
            return
        if self._is_recorded(speaking):
            await self._submit(frame)
        else:
            await asyncio.sleep(0)
        self._taken += SAMPLES_PER_FRAME

    def clear(self) -> int:
        """See ``worker.rooms.port.Room.clear``. A file that is not paced holds nothing back."""
        return self._pacer.clear() if self._pacer is not None else 0

    @property
    def played(self) -> int:
        """See ``worker.rooms.port.Room.played``. Unless paced: what the recording has taken in."""
        if self._played_at_close is not None:
            return self._played_at_close
        return self._pacer.played if self._pacer is not None else self._taken

    async def aclose(self) -> None:
        """Finish the file and give it its name; what still waits for its time is left out.

        Raises:
            RoomError: the end of the file could not be written; there is no file then.
        """
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        self._played_at_close = self.played
        self._closed = True
        if self._thread is None:
            return
        failed_before = self._failure is not None
        if self._pacer is not None:
            self._pacer.close()
        if self._pump is not None:
            await asyncio.wait({self._pump})
        self._frames.put(None)
        await self._ended
        self._thread.join()
        if self._failure is not None and not failed_before:
            raise RoomError(self._failure)
        if self._failure is None and not self._written:
            log.warning("recording_empty", path=str(self.path))

    def _is_recorded(self, speaking: bool) -> bool:
        if not self.cue:
            return True
        if speaking:
            self._tail_left = self._tail
            return True
        if self._tail_left > 0:
            self._tail_left -= 1
            return True
        return False

    async def _run_pump(self, pacer: Pacer[Frame]) -> None:
        try:
            while True:
                frame = (await pacer.pop()).item
                if self._is_recorded(frame.speaking):
                    await self._submit(frame)
        except RoomError:
            return

    async def _submit(self, frame: Frame) -> None:
        await self._space.acquire()
        self._check_failure()
        self._frames.put(frame)

    def _check_open(self) -> None:
        self._check_failure()
        if self._closed:
            raise RoomError("the room is closed; nothing can be published to it any more")
        if self._thread is None:
            raise RoomError("the room is not connected; call connect() first")

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise RoomError(self._failure)

    def _fail(self, error: Exception) -> None:
        self._failure = self._sentence(error)
        log.error("recording_failed", path=str(self.path), error=str(error))
        if not self._closed:
            if self._pacer is not None:
                self._pacer.close()
            self._on_event("closed", self._failure)

    def _sentence(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot record into {self.path}: {reason}; choose a folder that can be written to"

    # Everything below runs on the encoder's thread.

    def _encode(self, opened: asyncio.Future[None]) -> None:
        try:
            writer = self._open_writer()
        except Exception as error:
            self._tell(_set_exception, opened, error)
            self._tell(_set_result, self._ended)
            return
        self._tell(_set_result, opened)
        failed = False
        while (frame := self._frames.get()) is not None:
            if not failed:
                try:
                    writer.write(frame.picture, frame.audio)
                    self._written = writer.frames
                except Exception as error:
                    failed = True
                    writer.discard()
                    self._tell(self._fail, error)
            self._tell(self._space.release)
        if not failed:
            try:
                writer.close()
            except Exception as error:
                self._tell(self._fail, error)
        self._tell(_set_result, self._ended)

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            log.warning("recording_abandoned", path=str(self.path))


def _set_result(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _set_exception(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
