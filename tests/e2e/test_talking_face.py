"""Somebody opens the watch page while the avatar speaks: the whole product, nothing replaced."""

import asyncio
import base64
import json
from pathlib import Path

import httpx
import numpy as np
from websockets.asyncio.client import connect

from models.engine import Canvas
from models.face import default_analyzer, frame_portrait, load_photo
from models.face.topology import LIPS
from portraits import ANNA
from tests.e2e.browser import chromium, observe, open_page, wait_for_state, wait_until_live
from worker.engines import engine_loader
from worker.ingest.speech_file import read_speech
from worker.server import http_server, speech_server
from worker.service import Worker
from worker.settings import WorkerSettings

ASSETS = Path(__file__).parents[2] / "assets"
CANVAS = Canvas(320, 240)


def mouth_box(photo: bytes) -> tuple[float, float, float, float]:
    """Where the mouth is in the rendered picture, with room to move: shares of its size."""
    portrait = load_photo(photo)
    face = default_analyzer().analyze(portrait)[0]
    lips = frame_portrait(portrait, face, CANVAS).landmarks[list(LIPS), :2]
    low, high = lips.min(axis=0) - 6, lips.max(axis=0) + np.array([6, 14])
    left, top = low / (CANVAS.width, CANVAS.height)
    width, height = (high - low) / (CANVAS.width, CANVAS.height)
    return (float(left), float(top), float(width), float(height))


async def say(socket, pcm: np.ndarray, rate: int) -> None:
    for at in range(0, len(pcm), rate):
        audio = base64.b64encode(pcm[at : at + rate].astype("<i2").tobytes()).decode()
        await socket.send(json.dumps({"type": "agent.speak", "audio": audio, "sample_rate": rate}))
    await socket.send(json.dumps({"type": "agent.speak.end"}))


async def test_a_browser_sees_the_mouth_move_and_hears_the_voice():
    chromium()
    photo = ANNA.path.read_bytes()
    pcm, rate = read_speech(ASSETS / "speech.ogg")
    settings = WorkerSettings(http_port=0, ws_port=0, max_sessions=1)
    worker = Worker(settings, engine_loader(settings))
    try:
        async with http_server(worker, settings), speech_server(worker, settings):
            await worker.start()
            async with httpx.AsyncClient(timeout=60) as http:
                created = await http.post(
                    f"{worker.http_url}/sessions",
                    json={
                        "session_id": "sess-e2e",
                        "session_token": "token-of-this-test",
                        "size": f"{CANVAS.width}x{CANVAS.height}",
                        "room": {"platform": "whep"},
                        "avatar": {"image_base64": base64.b64encode(photo).decode()},
                    },
                )
            assert created.status_code == 200, created.text
            box = await asyncio.to_thread(mouth_box, photo)
            async with connect(worker.ws_uri) as socket:
                init = {
                    "type": "session.init",
                    "session_id": "sess-e2e",
                    "session_token": "token-of-this-test",
                }
                await socket.send(json.dumps(init))
                async with open_page(created.json()["watch_url"]) as page:
                    await wait_until_live(page)
                    idle = await observe(page, 2.0, box)
                    await say(socket, pcm, rate)
                    speaking = await observe(page, 5.0, box)
                    await socket.send(json.dumps({"type": "session.end"}))
                    await wait_for_state(page, "ended")
    finally:
        await worker.aclose()
    assert (idle.width, idle.height) == (CANVAS.width, CANVAS.height)
    assert idle.loudest < 0.001
    assert speaking.loudest > 0.02
    assert speaking.motion > 2 * idle.motion
    assert speaking.fps > 5
