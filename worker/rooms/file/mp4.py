"""Writes one MP4: H.264 and AAC, picture and sound starting together. Blocking; no event loop."""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from models.engine import FPS, Canvas
from worker.rooms.colour import tag_bt601
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME


class Mp4Writer:
    """An MP4 in the making, under a temporary name until ``close``.

    Args:
        path: where the finished file appears, replacing what is there.
        canvas: size of the pictures.
        crf: constant rate factor of x264; 18 looks like the original, 23 is x264's default.
        preset: speed preset of x264.
        audio_bitrate: of the AAC track, bit/s.
        faststart: put the index before the media, so that a browser plays while it loads. Costs
            one more pass over the file at the end.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        canvas: Canvas,
        *,
        crf: int = 18,
        preset: str = "veryfast",
        audio_bitrate: int = 160_000,
        faststart: bool = True,
    ) -> None:
        self.frames = 0
        self._path = path
        self._part = path.with_name(path.name + ".part")
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        # The library opens the file with the first packet; a bad folder has to be known now.
        self._part.open("wb").close()
        self._container = av.open(
            str(self._part),
            "w",
            format="mp4",
            options={"movflags": "+faststart"} if faststart else {},
        )
        try:
            self._video = self._add_video(canvas, crf, preset)
            self._audio = self._add_audio(audio_bitrate)
        except BaseException:
            self.discard()
            raise

    def _add_video(self, canvas: Canvas, crf: int, preset: str) -> VideoStream:
        video = self._container.add_stream(
            "libx264", rate=FPS, options={"crf": str(crf), "preset": preset}
        )
        video.width, video.height, video.pix_fmt = canvas.width, canvas.height, "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, FPS)
        # One encoder thread: cores are for rendering, and a frame takes a fraction of its 40 ms.
        context.thread_count = 1
        tag_bt601(context)
        return video

    def _add_audio(self, bitrate: int) -> AudioStream:
        audio = self._container.add_stream("aac", rate=MEDIA_RATE, layout="mono")
        audio.bit_rate = bitrate
        audio.codec_context.time_base = Fraction(1, MEDIA_RATE)
        return audio

    def write(self, picture: np.ndarray, audio: np.ndarray) -> None:
        """Append one frame: I420 uint8 (height * 3 / 2, width) and int16 (1920,) at 48 kHz.

        Raises:
            OSError: the file cannot be written, for example because the disk is full.
        """
        image = VideoFrame.from_ndarray(picture, format="yuv420p")
        image.pts, image.time_base = self.frames, Fraction(1, FPS)
        sound = av.AudioFrame.from_ndarray(audio[np.newaxis], format="s16", layout="mono")
        sound.sample_rate = MEDIA_RATE
        sound.pts, sound.time_base = self.frames * SAMPLES_PER_FRAME, Fraction(1, MEDIA_RATE)
        self._container.mux(self._video.encode(image))
        # The encoder's own delay appears as negative time stamps, which the muxer turns into an
        # edit list: players start with the first real sample.
        self._container.mux(self._audio.encode(sound))
        self.frames += 1

    def close(self) -> bool:
        """Finish the file and give it its name. False, and no file, when nothing was written.

        Raises:
            OSError: the end could not be written; nothing is kept.
        """
        if self.frames == 0:
            self.discard()
            return False
        try:
            self._container.mux(self._video.encode(None))
            self._container.mux(self._audio.encode(None))
            self._container.close()
            os.replace(self._part, self._path)
        except BaseException:
            self.discard()
            raise
        return True

    def discard(self) -> None:
        """Give up: remove whatever was written."""
        with contextlib.suppress(OSError, ValueError):
            self._container.close()
        self._part.unlink(missing_ok=True)
