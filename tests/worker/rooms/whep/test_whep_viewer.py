"""A viewer who does not keep up: bounded memory, and nothing undecodable."""

from __future__ import annotations

import asyncio

import av
import pytest
from aiortc.mediastreams import MediaStreamError

from worker.rooms.whep.encoder import EncodedPicture
from worker.rooms.whep.viewer import AUDIO_QUEUE, VIDEO_QUEUE, AudioStreamTrack, VideoStreamTrack


def packet(n: int) -> av.Packet:
    made = av.Packet(b"%d" % n)
    made.pts = n
    return made


async def test_sound_keeps_the_newest() -> None:
    track = AudioStreamTrack(lambda: None)
    for n in range(1000):
        track.put(packet(n))
    received = [(await track.recv()).pts for _ in range(AUDIO_QUEUE)]
    assert received == list(range(1000 - AUDIO_QUEUE, 1000))


async def test_pictures_are_dropped_up_to_the_next_key_frame() -> None:
    asked = []
    track = VideoStreamTrack(lambda: None, lambda: asked.append(True))
    track.put(EncodedPicture(packet(0), keyframe=False))
    assert asked, "nothing can be decoded before a key frame"
    asked.clear()
    for n in range(1, VIDEO_QUEUE + 1):
        track.put(EncodedPicture(packet(n), keyframe=n == 1))
    assert not asked
    for n in range(10, 60):
        track.put(EncodedPicture(packet(n), keyframe=False))
    assert asked
    track.put(EncodedPicture(packet(60), keyframe=True))
    track.put(EncodedPicture(packet(61), keyframe=False))
    assert [(await track.recv()).pts for _ in range(2)] == [60, 61]


async def test_a_stopped_track_ends_whoever_waits_for_it() -> None:
    track = AudioStreamTrack(lambda: None)
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    track.stop()
    with pytest.raises(MediaStreamError):
        await waiting
