"""The client's side of the gateway: one accepted WebSocket, as messages and one way to end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from starlette.websockets import WebSocket, WebSocketDisconnect

from api.gateway.socket import LOST, SHUTDOWN
from protocol.actions import Action, Close, SendText

SEND_TIMEOUT_S = 20.0
"""A client that takes nothing for this long is gone."""

MAX_REASON_BYTES = 123


@dataclass(frozen=True)
class Disconnect:
    """The client's connection is over. ``closed``: it said goodbye. ``lost``: it did not.
    ``shutdown``: we are about to exit."""

    how: Literal["closed", "lost", "shutdown"]
    code: int = 1000


class ClientLost(Exception):
    """The client does not take what it is sent."""


class ClientSocket:
    """Messages to and from one client. One task receives, one sends."""

    def __init__(self, websocket: WebSocket, send_timeout_s: float) -> None:
        self._websocket = websocket
        self._send_timeout_s = send_timeout_s
        self.close_reason: str | None = None
        """The reason we gave for our goodbye; None: we have not said it."""

    async def receive(self) -> str | bytes | Disconnect:
        """The next message, or how it ended."""
        message = await self._websocket.receive()
        if message["type"] != "websocket.disconnect":
            text = message.get("text")
            return text if text is not None else message["bytes"]
        code = int(message.get("code") or 1005)
        if code == SHUTDOWN:
            return Disconnect("shutdown", code)
        # A server other than ours calls a loss 1005 as well, but has no reason to give.
        lost = code == LOST or (code == 1005 and "reason" not in message)
        return Disconnect("lost" if lost else "closed", code)

    async def send(self, message: str | bytes) -> None:
        """Send one message; waits while much is unsent.

        Raises:
            ClientLost: the connection is gone, or nothing was taken for too long.
        """
        try:
            async with asyncio.timeout(self._send_timeout_s):
                if isinstance(message, str):
                    await self._websocket.send_text(message)
                else:
                    await self._websocket.send_bytes(message)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            raise ClientLost from None

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye; does nothing when the connection is gone."""
        if self.close_reason is not None:
            return
        self.close_reason = reason
        reason = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(self._send_timeout_s):
                await self._websocket.close(code, reason)

    async def perform(self, actions: Sequence[Action]) -> None:
        """Send what the protocol says."""
        for action in actions:
            match action:
                case SendText(text):
                    await self.send(text)
                case Close(code, reason):
                    await self.close(code, reason)
