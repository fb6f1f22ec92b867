"""Requests on the wire, however they are cut: what is refused, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn

from api.http import http_protocol
from api.http.http_protocol import MAX_HEADERS_BYTES, http_options


async def echo(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(b"content-length", str(len(str(len(body)))).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


@pytest.fixture(params=["httptools", "h11"])
async def port(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[int]:
    if request.param == "h11":
        monkeypatch.setattr(http_protocol, "HttpToolsProtocol", None)
    elif http_protocol.HttpToolsProtocol is None:
        pytest.skip("httptools is not installed")
    config = uvicorn.Config(echo, port=0, lifespan="off", log_config=None, **http_options())
    config.load()
    state = uvicorn.server.ServerState()

    def protocol() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(
            config=config, server_state=state, app_state={}
        )
        return made

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answers(port: int, *pieces: bytes) -> bytes:
    """All that comes back for these pieces, sent apart."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""

    async def read() -> None:
        nonlocal received
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                received += data

    reading = asyncio.create_task(read())
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
    await asyncio.wait({reading}, timeout=0.3)
    reading.cancel()
    writer.close()
    return received


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("cut", [1000, 300_000])
async def test_endless_headers_are_refused(port: int, cut: int) -> None:
    text = HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 990) for n in range(300))
    got = await answers(port, *(text[at : at + cut] for at in range(0, len(text), cut)))
    assert got.startswith(b"HTTP/1.1 400")


async def test_one_endless_header_is_refused(port: int) -> None:
    assert (await answers(port, HEAD + b"X: ", *(b"a" * 5000,) * 40)).startswith(b"HTTP/1.1 400")


async def test_endless_trailers_are_refused(port: int) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    trailers = (b"X: %b\r\n" % (b"a" * 5000),) * 40
    got = await answers(port, chunked, *trailers)
    assert got.startswith(b"HTTP/1.1 400")


async def test_long_headers_and_a_long_body_pass(port: int) -> None:
    body = b"b" * (4 * MAX_HEADERS_BYTES)
    head = HEAD + b"X: %b\r\n" % (b"a" * (MAX_HEADERS_BYTES - 4096))
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    got = await answers(port, request, request)
    assert got.count(b"HTTP/1.1 200") == 2
    assert got.endswith(str(len(body)).encode())


async def test_a_body_in_chunks_passes(port: int) -> None:
    chunk = b"%x\r\n%b\r\n" % (30_000, b"c" * 30_000)
    got = await answers(
        port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *(chunk,) * 10, b"0\r\n\r\n"
    )
    assert got.endswith(b"300000")
