"""What waits to be sent on one WebSocket: bounded, in order, and never in the sender's way."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from protocol.actions import Close, SendText

logger = structlog.get_logger(__name__)

MAX_WAITING = 1024
"""Messages; a client with more unread is gone."""

REPLIES_PAUSE_AT = 64
"""Messages; above, the client's own messages wait until it has read some of their answers."""


class SendQueue:
    """Sends messages and, last, the close of one connection.

    ``put`` never waits. A client that takes nothing for ``send_timeout_s`` or lets ``MAX_WAITING``
    messages pile up is cut off, which the reader sees as a lost connection.
    """

    def __init__(self, connection: ServerConnection, send_timeout_s: float) -> None:
        self.log = logger
        self._connection = connection
        self._send_timeout_s = send_timeout_s
        self._waiting: deque[SendText | Close] = deque()
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._closing = False

    def put(self, item: SendText | Close) -> None:
        """Queue a message or the close; what comes after a close is dropped."""
        if self._closing:
            return
        self._closing = isinstance(item, Close)
        self._waiting.append(item)
        self._arrived.set()
        if len(self._waiting) > MAX_WAITING:
            self.abort("outbox_full")
        elif len(self._waiting) >= REPLIES_PAUSE_AT:
            self._roomy.clear()

    async def room_for_reply(self) -> None:
        """Wait until the client has taken most of what it was sent."""
        await self._roomy.wait()

    def abort(self, why: str) -> None:
        """Cut the connection without a close frame."""
        self.log.warning("websocket cut off", why=why)
        self._closing = True
        self._waiting.clear()
        self._roomy.set()
        self._arrived.set()
        # asyncio of Python 3.11 raises this for a transport that died while it was closing.
        with suppress(AttributeError):
            self._connection.transport.abort()

    async def run(self) -> None:
        """Send until the connection closes."""
        try:
            while True:
                while self._waiting:
                    item = self._waiting.popleft()
                    if len(self._waiting) < REPLIES_PAUSE_AT // 2:
                        self._roomy.set()
                    if isinstance(item, Close):
                        await self._connection.close(item.code, item.reason)
                        return
                    async with asyncio.timeout(self._send_timeout_s):
                        await self._connection.send(item.text)
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
        except TimeoutError:
            self.abort("send_timeout")
        except ConnectionClosed:
            pass
        finally:
            self._closing = True
            self._roomy.set()
