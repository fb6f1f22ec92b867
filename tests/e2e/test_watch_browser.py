"""The watch page in a real browser: the picture moves, the sound is heard, the end is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from fastapi import FastAPI

from models.engine import Canvas
from tests.e2e.browser import chromium, observe, open_page, wait_for_state, wait_until_live
from tests.worker.rooms.signals import SILENCE, moving_square, tone
from worker.http.whep_routes import whep_router
from worker.rooms.whep.room import WhepRoom

CANVAS = Canvas(320, 240)


@contextlib.asynccontextmanager
async def _served(app: FastAPI) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def _perform(room: WhepRoom) -> None:
    """A moving square; tone and silence in turns of 400 ms."""
    n = 0
    while True:
        speaking = n // 10 % 2 == 0
        await room.publish(moving_square(CANVAS, n), tone(n) if speaking else SILENCE, speaking)
        n += 1


@pytest.fixture
async def rooms() -> AsyncIterator[dict[str, WhepRoom]]:
    room = WhepRoom("s1", CANVAS)
    await room.connect(lambda kind, reason: None)
    performance = asyncio.create_task(_perform(room))
    yield {"s1": room}
    performance.cancel()
    await room.aclose()


async def test_a_browser_sees_motion_hears_sound_and_is_told_the_end(
    rooms: dict[str, WhepRoom],
) -> None:
    chromium()
    app = FastAPI()
    app.include_router(whep_router(rooms.get))
    async with _served(app) as url, open_page(f"{url}/watch/s1") as page:
        await wait_until_live(page)
        seen = await observe(page, seconds=3)
        assert (seen.width, seen.height) == (CANVAS.width, CANVAS.height)
        assert seen.fps > 12, seen
        assert seen.moved > 1.0, seen
        assert seen.brightest > 180, seen
        assert seen.loudest > 0.1, seen
        assert rooms["s1"].viewers == 1

        await rooms.pop("s1").aclose()
        await wait_for_state(page, "ended")
        assert await page.locator("#status").inner_text() == "The session has ended"


async def test_where_sound_needs_a_click_there_is_a_button(rooms: dict[str, WhepRoom]) -> None:
    chromium()
    app = FastAPI()
    app.include_router(whep_router(rooms.get))
    async with _served(app) as url, open_page(f"{url}/watch/s1", autoplay=False) as page:
        await wait_until_live(page)
        button = page.get_by_role("button", name="Turn sound on")
        await button.click(timeout=30_000)
        await button.wait_for(state="hidden", timeout=10_000)
        assert not await page.evaluate("document.querySelector('video').muted")
        assert (await observe(page, seconds=1.5)).loudest > 0.1
