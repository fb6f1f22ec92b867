"""A running worker: its HTTP service and speech socket on their ports, until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn

from worker.diagnostics.capacity import capacity_meter
from worker.diagnostics.speed_cache import SpeedCache
from worker.engines import sample_portrait
from worker.http.app import create_app
from worker.ingest.websocket import SpeechServer
from worker.process.memory import spare_the_loaded
from worker.service import Worker
from worker.settings import WorkerSettings

logger = structlog.get_logger(__name__)


class PortError(OSError):
    """An address cannot be listened on; the text names the setting to change."""


@asynccontextmanager
async def speech_server(worker: Worker, settings: WorkerSettings) -> AsyncIterator[SpeechServer]:
    """The speech socket, listening while the context lasts."""
    server = SpeechServer(worker, settings.ws)
    try:
        await server.start(settings.host, settings.ws_port)
    except OSError as error:
        raise PortError(
            f"cannot listen on {settings.host}:{settings.ws_port} ({error.strerror}); "
            "set AVATAR_WORKER_WS_PORT to a free port"
        ) from error
    if settings.public_ws_url is None:
        worker.ws_uri = f"ws://{settings.host}:{server.port}/v1/ws"
    try:
        yield server
    finally:
        await server.aclose()


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the worker drains before anything closes."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to ``serve``."""
        yield


@asynccontextmanager
async def http_server(worker: Worker, settings: WorkerSettings) -> AsyncIterator[int]:
    """The HTTP service, listening while the context lasts; yields its port."""
    config = uvicorn.Config(
        create_app(settings, worker),
        host=settings.host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    server = _HttpServer(config)
    listener = _bind(settings)
    task = asyncio.create_task(server.serve([listener]), name="http server")
    try:
        while not server.started:
            if task.done():
                task.result()
                raise PortError(f"the HTTP service on port {settings.http_port} did not start")
            await asyncio.sleep(0.01)
        port = int(listener.getsockname()[1])
        if settings.public_url is None:
            worker.http_url = f"http://{settings.host}:{port}"
        yield port
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


def _bind(settings: WorkerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol by name: asyncio turns Nagle's algorithm off (40 ms an answer) only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.http_port))
    except OSError as error:
        listener.close()
        raise PortError(
            f"cannot listen on {settings.host}:{settings.http_port} ({error.strerror}); "
            "set AVATAR_WORKER_HTTP_PORT to a free port"
        ) from error
    return listener


async def serve(worker: Worker, settings: WorkerSettings) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal exits at once with status 1."""
    settings.require_guard()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        logger.info("draining", timeout_s=settings.drain_timeout_s)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        async with http_server(worker, settings), speech_server(worker, settings):
            logger.info("listening", http=worker.http_url, websocket=worker.ws_uri)
            meter = capacity_meter(settings, sample_portrait(), cache=SpeedCache())
            starting = asyncio.create_task(worker.start(meter))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                spare_the_loaded()
                await stopping
            await worker.drain()
            starting.cancel()
    finally:
        await worker.aclose()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
