"""A web site of real sockets whose names and addresses the test makes up.

Names resolve as ``names`` says, or to a public address; connections to that address arrive at a
server on this machine. Connections to any other address are refused and noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore

PUBLIC = "93.184.216.34"
PUBLIC6 = "2606:2800:220:1:248:1893:25c8:1946"

Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]


class ImageSite:
    """Answers by path; notes requests, look-ups and connections."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lookups: list[str] = []
        self.connected: list[str] = []
        self.names: dict[str, list[list[str]]] = {}
        """What each look-up of a name answers, in turn; the last answer stays."""
        self.port = 0
        self.tls_port = 0
        self._handlers: dict[str, Handler] = {}
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def connector(self) -> httpcore.AsyncNetworkBackend:
        return _Connector(self)

    async def resolver(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        answers = self.names.get(host)
        if answers is None:
            if host.endswith(".test"):
                return [PUBLIC]
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
            return [str(sockaddr[0]) for *_, sockaddr in found]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise OSError("no such name")
        return answer

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer ``path`` with ``body`` at once."""
        lines = {"Content-Length": str(len(body))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }

        async def answer(writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 {status} Some\r\n" + "".join(
                f"{n}: {v}\r\n" for n, v in lines.items()
            )
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()

        self._handlers[path] = answer

    def redirect(self, path: str, target: str, status: int = 302) -> None:
        """Answer ``path`` with a redirect."""
        self.serve(path, b"", status, Location=target)

    def script(self, path: str, handler: Handler) -> None:
        """Let ``handler`` write the answer to ``path``."""
        self._handlers[path] = handler

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.split("\r\n")
            headers = dict(each.lower().split(": ", 1) for each in rest if each)
            path = line.split(" ")[1]
            self.requests.append((path, headers))
            handler = self._handlers.get(path)
            if handler is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            else:
                await handler(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


class _Connector(httpcore.AsyncNetworkBackend):
    def __init__(self, site: ImageSite) -> None:
        self._site = site
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        self._site.connected.append(host)
        if host not in (PUBLIC, PUBLIC6):
            raise httpcore.ConnectError(f"{host} must not be connected to")
        local = self._site.tls_port if port == 443 else self._site.port
        return await self._tcp.connect_tcp("127.0.0.1", local, timeout)


@asynccontextmanager
async def image_site(tls: ssl.SSLContext | None = None) -> AsyncIterator[ImageSite]:
    """A running site; with ``tls`` it also answers on port 443."""
    site = ImageSite()
    servers = [await asyncio.start_server(site._serve, "127.0.0.1", 0)]
    site.port = servers[0].sockets[0].getsockname()[1]
    if tls is not None:
        servers.append(await asyncio.start_server(site._serve, "127.0.0.1", 0, ssl=tls))
        site.tls_port = servers[1].sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        for server in servers:
            server.close()
        for writer in list(site._open):
            with contextlib.suppress(OSError):
                writer.transport.abort()
