"""Encodes a live room once for all its viewers: VP8 or H.264, and Opus. Blocking; no event loop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from models.engine import FPS, Canvas
from worker.rooms.colour import tag_bt601
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME

VideoCodec = Literal["VP8", "H264"]

MEDIA_TIME_BASE = Fraction(1, MEDIA_RATE)
"""Time stamps of both tracks count 48 kHz samples from the same beginning."""

OPUS_SAMPLES = MEDIA_RATE // 50
"""An Opus packet holds 20 ms, which is what every receiver expects."""

OPUS_BITRATE = 64_000
"""Of the mono Opus track, bit/s."""


def default_bitrate(canvas: Canvas) -> int:
    """Video bit/s for a canvas: 1.2 Mbit/s up to 640 pixels square, 2.5 Mbit/s above."""
    return 1_200_000 if canvas.width * canvas.height <= 640 * 640 else 2_500_000


@dataclass(frozen=True)
class EncodedPicture:
    """One compressed picture."""

    packet: av.Packet
    keyframe: bool


@dataclass(frozen=True)
class EncodedBlock:
    """40 ms, compressed: a picture per codec in use (or none), and two Opus packets."""

    pictures: dict[VideoCodec, EncodedPicture]
    audio: list[av.Packet]


class LiveEncoder:
    """Encoders of one room. Calls must not overlap."""

    def __init__(self, canvas: Canvas, bitrate: int | None = None) -> None:
        self._canvas = canvas
        self._bitrate = bitrate or default_bitrate(canvas)
        self._videos: dict[VideoCodec, VideoCodecContext] = {}
        self._opus: AudioCodecContext | None = None

    def encode(
        self,
        picture: np.ndarray | None,
        audio: np.ndarray,
        media_time: int,
        codecs: Collection[VideoCodec],
        keyframes: Collection[VideoCodec] = (),
    ) -> EncodedBlock:
        """Compress one block.

        Args:
            picture: I420 uint8 (height * 3 / 2, width); None sends sound only.
            audio: int16, shape (1920,), 48 kHz mono.
            media_time: of the first sample, in samples; becomes the packets' time stamps.
            codecs: those some viewer needs. The encoder of one that is not named is released.
            keyframes: codecs whose picture must be a key frame. A codec's first one is anyway.
        """
        for codec in [codec for codec in self._videos if codec not in codecs]:
            del self._videos[codec]
        pictures: dict[VideoCodec, EncodedPicture] = {}
        if picture is not None:
            for codec in codecs:
                encoded = self._encode_video(codec, picture, media_time, codec in keyframes)
                if encoded is not None:
                    pictures[codec] = encoded
        return EncodedBlock(pictures, self._encode_audio(audio, media_time))

    def _encode_video(
        self, codec: VideoCodec, picture: np.ndarray, media_time: int, keyframe: bool
    ) -> EncodedPicture | None:
        context = self._videos.get(codec)
        if context is None:
            context = self._videos[codec] = self._open_video(codec)
        frame = VideoFrame.from_ndarray(picture, format="yuv420p")
        # x264 and libvpx budget bits by time stamps, so they are given true ones.
        frame.pts, frame.time_base = media_time, MEDIA_TIME_BASE
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = context.encode(frame)
        if not packets:
            return None
        data = b"".join(bytes(packet) for packet in packets)
        return EncodedPicture(_packet(data, media_time), packets[0].is_keyframe)

    def _encode_audio(self, audio: np.ndarray, media_time: int) -> list[av.Packet]:
        if self._opus is None:
            self._opus = _open_opus()
        packets = []
        for start in range(0, SAMPLES_PER_FRAME, OPUS_SAMPLES):
            piece = audio[np.newaxis, start : start + OPUS_SAMPLES]
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(piece), format="s16", layout="mono"
            )
            frame.sample_rate = MEDIA_RATE
            frame.pts, frame.time_base = media_time + start, MEDIA_TIME_BASE
            packets += [
                _packet(bytes(packet), media_time + start) for packet in self._opus.encode(frame)
            ]
        return packets

    def _open_video(self, codec: VideoCodec) -> VideoCodecContext:
        context = av.CodecContext.create("libvpx" if codec == "VP8" else "libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self._canvas.width, self._canvas.height
        context.pix_fmt = "yuv420p"
        context.time_base = MEDIA_TIME_BASE
        context.framerate = Fraction(FPS)
        context.bit_rate = self._bitrate
        # Key frames are made on demand: when somebody joins or has lost something.
        context.gop_size = 3000
        tag_bt601(context)
        # One thread: libvpx spins between rows with two, which costs more than it saves.
        context.thread_count = 1
        if codec == "VP8":
            context.qmin, context.qmax = 4, 52
            context.options = {
                "deadline": "realtime",
                "cpu-used": "-8",
                "lag-in-frames": "0",
                "error-resilient": "1",
                "static-thresh": "1",
                "maxrate": str(self._bitrate),
                "bufsize": str(self._bitrate // 2),
                "undershoot-pct": "100",
                "overshoot-pct": "15",
            }
        else:
            context.profile = "Baseline"
            context.options = {
                "preset": "superfast",
                "tune": "zerolatency",
                "maxrate": str(self._bitrate),
                "bufsize": str(self._bitrate // 2),
                "forced-idr": "1",
            }
        context.open()
        return context


def _open_opus() -> AudioCodecContext:
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = MEDIA_RATE, "mono", "s16"
    context.bit_rate = OPUS_BITRATE
    context.time_base = MEDIA_TIME_BASE
    context.options = {"application": "voip", "frame_duration": "20"}
    context.open()
    return context


def _packet(data: bytes, media_time: int) -> av.Packet:
    packet = av.Packet(data)
    packet.pts, packet.time_base = media_time, MEDIA_TIME_BASE
    return packet
