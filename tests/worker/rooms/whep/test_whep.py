"""Real viewers in this process: what they receive, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from models.engine import Canvas
from tests.fakes.whep_client import Exchange, WhepClient, watching
from tests.worker.rooms.signals import SILENCE, click, flat, tone
from worker.rooms.port import RoomError
from worker.rooms.whep import viewer as whep_viewer
from worker.rooms.whep.encoder import LiveEncoder
from worker.rooms.whep.room import RoomFull, WhepRoom

CANVAS = Canvas(160, 120)
PATIENCE_S = 20


class Stage:
    """A room that shows something, and what it told."""

    def __init__(self, room: WhepRoom) -> None:
        self.room = room
        self.events: list[tuple[str, str]] = []

    async def exchange(self, sdp: str) -> str:
        return (await self.room.join(sdp))[1]


@contextlib.asynccontextmanager
async def staged(
    show: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None, max_viewers: int = 8
) -> AsyncIterator[Stage]:
    """An open room in which frame ``n`` is ``show(n)``: picture and sound."""
    stage = Stage(WhepRoom("s1", CANVAS, max_viewers=max_viewers))
    await stage.room.connect(lambda kind, reason: stage.events.append((kind, reason)))

    async def perform() -> None:
        n = 0
        while True:
            await stage.room.publish(*(show(n) if show else (flat(CANVAS, 90), SILENCE)), True)
            n += 1

    performance = asyncio.create_task(perform())
    try:
        yield stage
    finally:
        performance.cancel()
        await asyncio.wait({performance})
        await stage.room.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def flash_and_click(n: int) -> tuple[np.ndarray, np.ndarray]:
    return (flat(CANVAS, 235), click()) if n % 15 == 0 else (flat(CANVAS, 20), SILENCE)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_flash_and_click_arrive_with_the_same_time_stamp(codec: str) -> None:
    seen: list[float] = []
    heard: list[float] = []

    async def look(client: WhepClient) -> None:
        while len(seen) < 3:
            frame = await client.picture()
            assert (frame.width, frame.height) == (CANVAS.width, CANVAS.height)
            if frame.to_ndarray(format="gray").mean() > 120:
                seen.append(frame.pts / 90_000)

    async def listen(client: WhepClient) -> None:
        at = 0.0
        while len(seen) < 3 or at < seen[-1] + 0.1:
            frame = await client.sound()
            at = frame.pts / 48_000
            loud = np.flatnonzero(np.abs(frame.to_ndarray().reshape(-1, 2)[:, 0]) > 5_000)
            # A click at the end of a packet rings into the next one.
            if loud.size and (not heard or at - heard[-1] > 0.1):
                heard.append(at + loud[0] / 48_000)

    async with (
        asyncio.timeout(PATIENCE_S),
        staged(flash_and_click) as stage,
        watching(stage.exchange, video_codec=codec) as client,
    ):
        await asyncio.gather(look(client), listen(client))
    # A busy machine may drop a flash, never a click. Opus delays sound by 6.5 ms.
    offsets = np.abs(np.subtract.outer(seen, heard)).min(axis=1)
    assert offsets.max() < 0.02, (seen, heard)


async def test_a_tone_arrives_with_its_pitch() -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        staged(lambda n: (flat(CANVAS, 90), tone(n, hz=1000.0))) as stage,
        watching(stage.exchange, kinds=["audio"]) as client,
    ):
        pieces = [(await client.sound()).to_ndarray().reshape(-1, 2)[:, 0] for _ in range(35)]
    sound = np.concatenate(pieces)[-24_000:]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(24_000)))
    assert spectrum.argmax() * 2 == pytest.approx(1000, abs=2)
    assert np.sqrt(np.mean(sound.astype(float) ** 2)) == pytest.approx(12_000 / 2**0.5, rel=0.2)


async def test_a_late_viewer_starts_with_the_newest_picture() -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        staged(lambda n: (flat(CANVAS, min(30 + n, 235)), SILENCE)) as stage,
        watching(stage.exchange) as first,
    ):
        for _ in range(20):
            await first.picture()
        async with watching(stage.exchange) as second:
            late = (await second.picture()).to_ndarray()[:120].mean()
            newest = (await first.picture()).to_ndarray()[:120].mean()
    assert abs(late - newest) < 10


async def test_each_picture_is_compressed_once_for_all_and_never_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times: list[int] = []
    encode = LiveEncoder.encode

    def counting(self: LiveEncoder, picture, audio, media_time, codecs, keyframes):  # type: ignore[no-untyped-def]
        times.append(media_time)
        return encode(self, picture, audio, media_time, codecs, keyframes)

    monkeypatch.setattr(LiveEncoder, "encode", counting)
    async with asyncio.timeout(PATIENCE_S), staged() as stage:
        await asyncio.sleep(0.2)
        assert times == []
        async with watching(stage.exchange) as first, watching(stage.exchange) as second:
            for _ in range(10):
                await asyncio.gather(first.picture(), second.picture())
        await until(lambda: not stage.room.viewers)
        assert len(times) == len(set(times)) >= 10
        count = len(times)
        await asyncio.sleep(0.2)
        assert len(times) <= count + 1


async def test_the_last_viewer_to_leave_is_told_once() -> None:
    async with asyncio.timeout(PATIENCE_S), staged() as stage:
        ids = []

        async def exchange(sdp: str) -> str:
            viewer_id, answer = await stage.room.join(sdp)
            ids.append(viewer_id)
            return answer

        async with watching(exchange) as first, watching(exchange) as second:
            await asyncio.gather(first.picture(), second.picture())
            assert stage.room.viewers == 2
            assert await stage.room.leave(ids[0])
            assert not await stage.room.leave(ids[0])
            assert stage.room.viewers == 1
            assert stage.events == []
        # The second hangs up without a word to the room.
        await until(lambda: stage.events)
        assert [kind for kind, _ in stage.events] == ["participant_left"]
        async with watching(stage.exchange) as again:
            await again.picture()
    assert len(stage.events) == 1, "closing the room is not leaving it"


async def test_one_viewer_too_many_is_refused_and_let_in_later() -> None:
    async with asyncio.timeout(PATIENCE_S), staged(max_viewers=1) as stage:
        async with watching(stage.exchange) as client:
            await client.picture()
            async with WhepClient() as other:
                with pytest.raises(RoomFull, match="1 viewers, the most it takes"):
                    await stage.room.join(await other.offer())
        await until(lambda: not stage.room.viewers)
        async with watching(stage.exchange) as client:
            await client.picture()


async def test_a_closed_room_lets_nobody_in_and_ends_what_viewers_receive() -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        staged() as stage,
        watching(stage.exchange) as client,
        WhepClient() as late,
    ):
        await client.picture()
        await stage.room.aclose()
        with pytest.raises(RoomError, match="ended"):
            await stage.room.join(await late.offer())
        await until(lambda: client.peer.connectionState in ("closed", "failed"))


async def test_who_asks_and_never_connects_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep_viewer, "JOIN_TIMEOUT_S", 0.1)
    async with asyncio.timeout(PATIENCE_S), staged(max_viewers=1) as stage, WhepClient() as client:
        await stage.room.join(await client.offer())
        with pytest.raises(RoomFull):
            await stage.room.join(await client.offer())
        await asyncio.sleep(0.2)
        viewer_id, _ = await stage.room.join(await client.offer())
        assert await stage.room.leave(viewer_id)
        assert stage.events == [], "nobody has left who never was there"


async def test_an_encoder_that_lags_drops_pictures_and_never_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode = LiveEncoder.encode

    def slow(self: LiveEncoder, picture, *rest):  # type: ignore[no-untyped-def]
        if picture is not None:
            time.sleep(0.1)
        return encode(self, picture, *rest)

    monkeypatch.setattr(LiveEncoder, "encode", slow)
    async with (
        asyncio.timeout(PATIENCE_S),
        staged() as stage,
        watching(stage.exchange) as client,
    ):
        shown = [(await client.picture()).pts / 90_000 for _ in range(10)]
        heard = [(await client.sound()).pts for _ in range(60)]
    assert shown[-1] > 9 * 0.08, "at most every second picture"
    # A machine that stalls lets the clock move on by some samples; lost sound is a packet's 960.
    assert np.diff(heard).min() == 960
    assert np.diff(heard).max() < 2 * 960


async def test_twenty_visits_leave_nothing_behind() -> None:
    async def visit(exchange: Exchange) -> None:
        async with watching(exchange) as client:
            await asyncio.gather(client.picture(), client.sound())

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with asyncio.timeout(3 * PATIENCE_S):
        async with staged() as stage:
            await visit(stage.exchange)
        await asyncio.sleep(0.1)
        gc.collect()
        before = (len(asyncio.all_tasks()), threading.active_count(), open_files())
        async with staged() as stage:
            for _ in range(5):
                await asyncio.gather(*[visit(stage.exchange) for _ in range(4)])
            await until(lambda: not stage.room.viewers)
        await asyncio.sleep(0.1)
        gc.collect()
        after = (len(asyncio.all_tasks()), threading.active_count(), open_files())
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)
