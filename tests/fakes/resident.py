"""A real worker with both its servers in the test process, behind a test engine."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from models.engine import Engine
from tests.fakes.engine import FlapEngine
from worker.server import http_server, speech_server
from worker.service import Worker
from worker.settings import WorkerSettings

SECRET = "a-secret-of-the-operator"


def photo(grey: int = 128) -> bytes:
    """A PNG; another one for each ``grey``."""
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


class Running:
    """A worker with its two servers, on free ports unless the settings name some."""

    def __init__(self, *, load_engine: Callable[[], Engine] = FlapEngine, **settings: Any) -> None:
        defaults = {"http_port": 0, "ws_port": 0, "secret": SECRET, "max_sessions": 2}
        self.settings = WorkerSettings(**{**defaults, **settings})
        self.worker = Worker(self.settings, load_engine)
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Running:
        self.stack.push_async_callback(self.worker.aclose)
        self.port = await self.stack.enter_async_context(http_server(self.worker, self.settings))
        await self.stack.enter_async_context(speech_server(self.worker, self.settings))
        self.http = await self.stack.enter_async_context(
            httpx.AsyncClient(
                base_url=self.worker.http_url, headers={"Authorization": f"Bearer {SECRET}"}
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def enter(
        self, session_id: str = "sess-1", token: str = "token-of-the-session", **init: Any
    ) -> ClientConnection:
        socket = await self.stack.enter_async_context(connect(self.worker.ws_uri))
        message = {"type": "session.init", "session_id": session_id, "session_token": token, **init}
        await socket.send(json.dumps(message))
        return socket


def body(
    session_id: str = "sess-1", token: str = "token-of-the-session", **more: Any
) -> dict[str, Any]:
    """What a control plane posts."""
    return {
        "session_id": session_id,
        "session_token": token,
        "size": "64x64",
        "aspect_ratio": "1:1",
        "room": {"platform": "whep"},
        "avatar": {"image_base64": base64.b64encode(photo()).decode()},
        **more,
    }
