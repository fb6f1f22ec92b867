"""Speech on its way from a client to a worker: a bounded queue, and the pipe both ways.

Nothing here queues without bound. A worker that does not read fills the queue, then the network;
then the client is not read either. A client that does not read stops us reading from the worker.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from api.gateway.client import ClientSocket, Disconnect

MAX_EARLY_BYTES = 16 * 2**20
"""What is kept for a worker that is still starting: five minutes of speech at 16 kHz."""

PING_INTERVAL_S = 20.0
PATIENCE_S = 20.0
"""Time for a worker to answer a ping, and to take a client's last words."""


class InboundQueue:
    """The client's messages in order, and last how its connection ended. Bounded in bytes; one
    message always fits."""

    def __init__(self, limit: int = MAX_EARLY_BYTES) -> None:
        self._limit = limit
        self._items: deque[str | bytes | Disconnect] = deque()
        self._size = 0
        self._changed = asyncio.Condition()

    async def put(self, item: str | bytes | Disconnect) -> None:
        """Add one; waits until there is room."""
        size = _size(item)
        async with self._changed:
            while size and self._size and self._size + size > self._limit:
                await self._changed.wait()
            self._items.append(item)
            self._size += size
            self._changed.notify_all()

    async def get(self) -> str | bytes | Disconnect:
        """Take the oldest; waits until there is one."""
        async with self._changed:
            while not self._items:
                await self._changed.wait()
            item = self._items.popleft()
            self._size -= _size(item)
            self._changed.notify_all()
            return item

    def pass_through(self) -> None:
        """A worker reads now: from here on hold one message only."""
        self._limit = 0


def _size(item: str | bytes | Disconnect) -> int:
    """Bytes of memory, so that very many empty messages count as well."""
    return 0 if isinstance(item, Disconnect) else sys.getsizeof(item)


@dataclass(frozen=True)
class WorkerGone:
    """The worker's connection is over. ``code`` None: without a goodbye."""

    code: int | None
    reason: str = ""


@dataclass
class Flow:
    """Bytes piped so far, for metrics."""

    up: int = 0
    down: int = 0


class Pipe:
    """Joins a client and its worker until either goes."""

    def __init__(
        self, client: ClientSocket, inbound: InboundQueue, worker: ClientConnection, flow: Flow
    ) -> None:
        self._client = client
        self._inbound = inbound
        self._worker = worker
        self._flow = flow
        self._reading = False
        self._heard_at = asyncio.get_running_loop().time()

    async def client_to_worker(self) -> Disconnect:
        """Pass the client's messages on; returns when it said goodbye and all is passed on."""
        self._inbound.pass_through()
        while True:
            message = await self._inbound.get()
            if isinstance(message, Disconnect):
                return message
            try:
                await self._worker.send(message)
            except ConnectionClosed:
                # Why is the other direction's to tell, once it has read what came before.
                await asyncio.get_running_loop().create_future()
            self._flow.up += len(message)
            self._heard_at = asyncio.get_running_loop().time()

    async def worker_to_client(self) -> WorkerGone:
        """Pass the worker's messages on; returns when it is gone.

        Raises:
            ClientLost: the client does not take them.
        """
        try:
            while True:
                self._reading = True
                message = await self._worker.recv()
                self._reading = False
                self._heard_at = asyncio.get_running_loop().time()
                await self._client.send(message)
                self._flow.down += len(message)
        except ConnectionClosed as closed:
            told = closed.rcvd
            return WorkerGone(told.code, told.reason) if told else WorkerGone(None)

    async def keep_alive(self) -> None:
        """Ping the worker; cut its connection when nothing comes back.

        While the client makes us wait, nothing is read, and a pong cannot be seen: that time does
        not count.
        """
        loop = asyncio.get_running_loop()
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(PING_INTERVAL_S)
                pong = asyncio.ensure_future(await self._worker.ping())
                while not (await asyncio.wait([pong], timeout=PATIENCE_S))[0]:
                    if self._reading and loop.time() - self._heard_at >= PATIENCE_S:
                        abort(self._worker)
                        return
                pong.result()


def abort(worker: ClientConnection) -> None:
    """Cut the connection without a close frame: the worker grants its grace."""
    # asyncio of Python 3.11 raises this for a transport that died while it was closing.
    with suppress(AttributeError):
        worker.transport.abort()
