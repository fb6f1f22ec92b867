"""The WebSocket under the speech gateway: uvicorn's, behaving as the speech protocol asks.

A client that we do not read for a while is not taken for dead, a lost connection is told from a
goodbye, a shutdown says 1001, and no socket outlives its handler for long, whatever waits unsent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_MESSAGE_BYTES = 10 * 2**20
PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 5.0

LOST = 1006
"""Disconnect code of a connection that ended without a goodbye."""

SHUTDOWN = 1012
"""Disconnect code that tells the application of our own shutdown."""


class SpeechSocket(WebSocketsSansIOProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = CLOSE_TIMEOUT_S
        self._heard_at = self.loop.time()
        self._cut: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Something came: the client is alive."""
        self._heard_at = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. After a close frame the application has been told already."""
        if self._cut is not None:
            self._cut.cancel()
        self._tell(LOST)
        super().connection_lost(exc)

    def handle_parser_exception(self) -> None:
        """What came is no WebSocket message, or too large: closed by us, a lost client."""
        self._tell(LOST)
        super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """No pong in time. While nothing is read none can be seen: that time does not count, and
        a client in the middle of a long message is alive."""
        patience = self.ping_timeout or PING_TIMEOUT_S
        if self.read_paused:
            self._heard_at = self.loop.time()
        left = self._heard_at + patience - self.loop.time()
        if left > 0:
            self.pong_timer = self.loop.call_later(left, self.keepalive_timeout)
            return
        self.pong_timer = None
        self._tell(LOST)
        self.transport.abort()

    def shutdown(self) -> None:
        """The server shuts down."""
        if self.close_sent or not self.handshake_complete or self.transport.is_closing():
            super().shutdown()
            return
        self.stop_keepalive()
        self._tell(SHUTDOWN)
        self.conn.send_close(1001, "server_shutdown")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with the connection."""
        super().on_task_complete(task)
        if not self.disconnected:
            # Closing waits until everything is sent, which a client that does not read prevents.
            self._cut = self.loop.call_later(2 * self.close_timeout, self.transport.abort)

    def _tell(self, code: int) -> None:
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})


SERVER_OPTIONS: dict[str, Any] = {
    "ws": SpeechSocket,
    "ws_max_size": MAX_MESSAGE_BYTES,
    "ws_ping_interval": PING_INTERVAL_S,
    "ws_ping_timeout": PING_TIMEOUT_S,
    "ws_per_message_deflate": False,
}
"""What ``uvicorn.Config`` needs to be told for the gateway."""
