"""The recording is decoded again: what went in must come out, at its time."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.clock import FakeClock, settle
from tests.worker.rooms.signals import BARS, SILENCE, click, colour_bars, flat, tone
from worker.rooms.file.mp4 import Mp4Writer
from worker.rooms.file.room import FileRoom
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError

SMALL = Canvas(64, 64)


@dataclass
class Decoded:
    pictures: list[np.ndarray]
    times: list[float]
    sound: np.ndarray
    """Mono, full scale 1, beginning at time 0."""
    rate: int


def decode(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(path)) as container:
        pieces = list(container.decode(audio=0))
    assert pieces[0].pts == 0
    sound = np.concatenate([piece.to_ndarray()[0] for piece in pieces])
    return Decoded(
        [frame.to_ndarray() for frame in frames],
        [float(frame.time or 0) for frame in frames],
        sound,
        pieces[0].sample_rate,
    )


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def record(room: FileRoom, frames: list[tuple[np.ndarray | None, np.ndarray, bool]]) -> None:
    await room.connect(lambda kind, reason: None)
    for frame in frames:
        await room.publish(*frame)
    await room.aclose()


async def test_pictures_come_back_in_number_size_and_colour(tmp_path: Path) -> None:
    canvas = Canvas(256, 144)
    room = FileRoom(tmp_path / "bars.mp4", canvas, realtime=False)
    await record(room, [(colour_bars(canvas), SILENCE, True)] + [(None, SILENCE, True)] * 49)
    decoded = decode(tmp_path / "bars.mp4")
    assert len(decoded.pictures) == 50 == room.frames_written
    assert decoded.times == pytest.approx([n / 25 for n in range(50)])
    last = decoded.pictures[-1]
    assert last.shape == canvas.i420_shape
    luma = last[: canvas.height]
    cb, cr = last[canvas.height :].reshape(2, canvas.height // 2, canvas.width // 2)
    for i, (name, (y, u, v)) in enumerate(BARS.items()):
        x = i * 32 + 16
        seen = (luma[70, x], cb[35, x // 2], cr[35, x // 2])
        assert np.abs(np.subtract(seen, (y, u, v), dtype=int)).max() <= 4, (name, seen)


async def test_the_file_says_how_its_colours_are_meant(tmp_path: Path) -> None:
    await record(
        FileRoom(tmp_path / "out.mp4", SMALL, realtime=False), [(flat(SMALL, 90), SILENCE, True)]
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert video.average_rate == 25
        frame = next(container.decode(video=0))
        # Limited range and BT.601 by their numbers in ITU-T H.273.
        assert (frame.color_range, frame.colorspace) == (1, 6)
        assert (frame.color_primaries, frame.color_trc) == (6, 6)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 48_000, 1)
    assert (tmp_path / "out.mp4").read_bytes()[:4096].find(b"moov") > 0, "index comes first"


async def test_flash_and_click_stay_together_for_ten_minutes(tmp_path: Path) -> None:
    dark, white, bang = flat(SMALL, 20), flat(SMALL, 235), click()
    seconds = 10 * 60 + 2
    room = FileRoom(tmp_path / "sync.mp4", SMALL, realtime=False, preset="ultrafast")
    await record(
        room,
        [
            (white, bang, True) if n % 25 == 7 else (dark, SILENCE, True)
            for n in range(seconds * 25)
        ],
    )
    decoded = decode(tmp_path / "sync.mp4")
    flashes = [
        time
        for time, picture in zip(decoded.times, decoded.pictures, strict=True)
        if picture[:64].mean() > 120
    ]
    loud = np.flatnonzero(np.abs(decoded.sound) > 0.25)
    clicks = loud[np.diff(loud, prepend=-48_000) > 24_000] / decoded.rate
    assert len(flashes) == len(clicks) == seconds
    offsets = np.subtract(clicks, flashes)
    assert flashes[-1] > 600
    assert np.abs(offsets).max() < 0.02
    assert abs(offsets[-1] - offsets[0]) < 0.001, "drift"


async def test_a_tone_keeps_its_pitch_and_length(tmp_path: Path) -> None:
    frames = [(flat(SMALL, 90), tone(n, hz=1000.0), True) for n in range(50)]
    await record(FileRoom(tmp_path / "tone.mp4", SMALL, realtime=False), frames)
    decoded = decode(tmp_path / "tone.mp4")
    assert decoded.rate == 48_000
    # The last AAC packet is padded to 1024 samples.
    assert 0 <= len(decoded.sound) - 50 * SAMPLES_PER_FRAME < 1024
    spectrum = np.abs(np.fft.rfft(decoded.sound[:48_000] * np.hanning(48_000)))
    assert spectrum.argmax() == 1000
    loudness = np.sqrt(np.mean(decoded.sound[4800:91_200] ** 2)) * 32_768
    assert loudness == pytest.approx(12_000 / np.sqrt(2), rel=0.05)


async def test_cue_records_speech_and_its_tail_only(tmp_path: Path) -> None:
    idle, speech = flat(SMALL, 40), flat(SMALL, 200)
    frames = [(idle, SILENCE, False)] * 20
    frames += [(speech, tone(n), True) for n in range(25)]
    frames += [(idle, SILENCE, False)] * 100
    frames += [(speech, tone(n), True) for n in range(5)]
    frames += [(idle, SILENCE, False)] * 4
    room = FileRoom(tmp_path / "cue.mp4", SMALL, realtime=False, starts_on_speech=True, tail_ms=400)
    await record(room, frames)
    assert room.played == 154 * SAMPLES_PER_FRAME
    decoded = decode(tmp_path / "cue.mp4")
    bright = [picture[:64].mean() > 120 for picture in decoded.pictures]
    assert bright == [True] * 25 + [False] * 10 + [True] * 5 + [False] * 4
    loud = np.abs(decoded.sound).reshape(-1)[: 44 * SAMPLES_PER_FRAME] > 0.1
    per_frame = loud.reshape(44, -1).mean(axis=1) > 0.2
    assert per_frame.tolist() == bright, "sound is cut where the picture is"


async def test_a_paced_recording_holds_what_was_heard(tmp_path: Path) -> None:
    clock = FakeClock()
    room = FileRoom(tmp_path / "paced.mp4", SMALL, realtime=True, clock=clock)
    await room.connect(lambda kind, reason: None)
    for n in range(30):
        await clock.drive(room.publish(flat(SMALL, 40 + n), SILENCE, True))
    assert room.clear() == 0
    await clock.advance(10_000_000)
    interrupted = asyncio.create_task(room.publish(flat(SMALL, 200), tone(0), True))
    await settle()
    assert room.clear() == SAMPLES_PER_FRAME
    await interrupted
    await clock.advance(1_000_000_000)
    assert room.played == 30 * SAMPLES_PER_FRAME
    await room.aclose()
    decoded = decode(tmp_path / "paced.mp4")
    assert len(decoded.pictures) == 30
    assert max(picture[:64].mean() for picture in decoded.pictures) < 100


async def test_until_the_end_there_is_no_file_that_looks_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the last recording")
    room = FileRoom(path, SMALL, realtime=False)
    await room.connect(lambda kind, reason: None)
    await room.publish(flat(SMALL, 90), SILENCE, True)
    assert path.read_bytes() == b"the last recording"
    await room.aclose()
    assert len(decode(path).pictures) == 1
    assert names(tmp_path) == ["out.mp4"]


async def test_without_speech_no_file_is_made(tmp_path: Path) -> None:
    room = FileRoom(tmp_path / "out.mp4", SMALL, realtime=False, starts_on_speech=True)
    await record(room, [(flat(SMALL, 90), SILENCE, False)] * 3)
    assert room.frames_written == 0
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["missing/out.mp4", "a-file/out.mp4", "a-folder.mp4"])
async def test_a_place_that_cannot_be_written_is_told_in_one_sentence(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "a-folder.mp4").mkdir()
    room = FileRoom(tmp_path / where, SMALL, realtime=False)
    with pytest.raises(RoomError, match=r"cannot record into .*; choose a") as caught:
        await room.connect(lambda kind, reason: None)
    assert "\n" not in str(caught.value)
    await room.aclose()
    with pytest.raises(RoomError):
        await room.publish(flat(SMALL, 90), SILENCE, True)
    assert names(tmp_path) == ["a-file", "a-folder.mp4"]


async def test_a_full_disk_ends_the_room_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Mp4Writer.write

    def full(self: Mp4Writer, picture: np.ndarray, audio: np.ndarray) -> None:
        if self.frames == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, picture, audio)

    monkeypatch.setattr(Mp4Writer, "write", full)
    events: list[tuple[str, str]] = []
    room = FileRoom(tmp_path / "out.mp4", SMALL, realtime=False)
    await room.connect(lambda kind, reason: events.append((kind, reason)))

    async def publish_on() -> None:
        for _ in range(100):
            await room.publish(flat(SMALL, 90), SILENCE, True)

    with pytest.raises(RoomError, match="No space left on device"):
        await publish_on()
    await room.aclose()
    await settle()
    assert [kind for kind, _ in events] == ["closed"]
    assert "No space left" in events[0][1]
    assert names(tmp_path) == []


async def test_a_disk_that_is_full_at_the_very_end_is_told_by_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    room = FileRoom(tmp_path / "out.mp4", SMALL, realtime=False)
    await room.connect(lambda kind, reason: None)
    await room.publish(flat(SMALL, 90), SILENCE, True)
    monkeypatch.setattr("worker.rooms.file.mp4.os.replace", full)
    with pytest.raises(RoomError, match="No space left on device"):
        await room.aclose()
    assert names(tmp_path) == []


async def test_joining_that_was_cancelled_leaves_nothing(tmp_path: Path) -> None:
    room = FileRoom(tmp_path / "out.mp4", SMALL, realtime=True)
    joining = asyncio.create_task(room.connect(lambda kind, reason: None))
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await room.aclose()
    assert names(tmp_path) == []
