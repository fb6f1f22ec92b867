"""A whole session, from the speech file through the WebSocket into an MP4 that is read back."""

import asyncio
import io
import wave
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from models.engine import Canvas
from tests.fakes.engine import LOUD, FlapEngine
from worker.settings import WorkerSettings
from worker.talk import TalkError, _Recording, talk

RATE = 24_000


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), "grey").save(buffer, "PNG")
    return buffer.getvalue()


def write_clicks(path: Path, seconds: float, clicks_s: list[float]) -> None:
    """Quiet speech with a loud 40 ms click at each of ``clicks_s`` (multiples of 40 ms)."""
    pcm = np.full(round(seconds * RATE), 300, "<i2")
    for at in clicks_s:
        start = round(at * RATE)
        pcm[start : start + RATE // 25] = 20_000 * np.sign(np.sin(np.arange(RATE // 25)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())


def flaps(path: Path) -> list[float]:
    """Times in s at which a picture turns bright."""
    times, before = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            bright = frame.to_ndarray(format="gray").mean() > (LOUD + 60) / 2
            if bright and not before:
                times.append(float(frame.time))
            before = bright
    return times


def heard_clicks(path: Path) -> list[float]:
    """Times in s at which the sound becomes loud."""
    times, last = [], -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.25)
            for at in frame.time + loud / frame.sample_rate:
                if at - last > 0.1:
                    times.append(float(at))
                last = at
    return times


async def render(folder: Path, seconds: float, clicks_s: list[float], *, fast: bool = True) -> Path:
    write_clicks(folder / "speech.wav", seconds, clicks_s)
    out = folder / ("fast.mp4" if fast else "paced.mp4")
    await talk(
        photo=photo(),
        speech=folder / "speech.wav",
        out=out,
        settings=WorkerSettings(ws_port=0, max_sessions=1),
        load_engine=FlapEngine,
        canvas=Canvas(64, 64),
        fast=fast,
    )
    return out


async def test_click_and_flap_stay_together_for_ten_minutes(tmp_path):
    clicks_s = [0.4, 1.2, 299.6, 598.4, 599.2]
    out = await render(tmp_path, 600.0, clicks_s)
    seen, heard = flaps(out), heard_clicks(out)
    assert len(seen) == len(heard) == len(clicks_s)
    for flap, click, spoken in zip(seen, heard, clicks_s, strict=True):
        assert flap == pytest.approx(click, abs=0.020)
        assert click == pytest.approx(spoken, abs=0.020)


async def test_fast_and_paced_make_the_same_frames(tmp_path):
    clicks_s = [0.2, 0.6]
    times = []
    for fast in (True, False):
        out = await render(tmp_path, 1.0, clicks_s, fast=fast)
        with av.open(str(out)) as container:
            greys = [
                round(frame.to_ndarray(format="gray").mean() / 8)
                for frame in container.decode(video=0)
            ]
        times.append(greys)
    assert times[0] == times[1]
    assert len(times[0]) == 35  # a second of speech and the tail


async def test_a_slow_machine_gets_all_the_time_it_needs_for_the_last_frames(monkeypatch):
    monkeypatch.setattr("worker.talk.STALL_S", 0.2)
    room = SimpleNamespace(frames_written=0)
    recording = _Recording(room, 10, lambda *_: None)

    async def write():
        for _ in range(10):
            await asyncio.sleep(0.05)
            room.frames_written += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(recording.watch())
        await recording.finish()
    assert room.frames_written == 10


async def test_a_recording_that_gets_no_more_frames_is_given_up(monkeypatch):
    monkeypatch.setattr("worker.talk.STALL_S", 0.05)
    with pytest.raises(TalkError, match="stopped at frame 7 of 10"):
        await _Recording(SimpleNamespace(frames_written=7), 10, lambda *_: None).finish()
