"""A running control plane: its parts opened, its port listened on, until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from api.announce import announce
from api.app import create_app
from api.avatars.media import open_media
from api.avatars.portraits import FacePortraits
from api.container.assembly import assemble
from api.container.services import Services
from api.dispatch.choose import open_dispatcher
from api.dispatch.port import Dispatcher
from api.gateway.socket import SERVER_OPTIONS as SPEECH_SOCKETS
from api.http.http_protocol import http_options
from api.http.listen import bind
from api.plans import load_plans
from api.secret import load_secret
from api.sessions.livekit_rooms import open_livekit
from api.settings import ApiSettings
from api.store.migrate import migrate
from api.store.sql import open_store
from common.logs import configure_logging

logger = structlog.get_logger(__name__)

ROOM_TOKENS = "room tokens"
"""What the store seals room tokens for."""


@asynccontextmanager
async def running_services(
    settings: ApiSettings, dispatcher: Dispatcher | None = None
) -> AsyncIterator[Services]:
    """Everything a process needs, opened and at work; closed again in reverse, also when a later
    part cannot be opened.

    Args:
        settings: of the process.
        dispatcher: one that was started already and is closed by who did; default: the one that
            the settings ask for.

    Raises:
        SettingsError, StoreError: what cannot be used, and what to do.
    """
    plans = load_plans(settings.plans_file, settings.default_plan)
    secret = await asyncio.to_thread(load_secret, settings)
    async with AsyncExitStack() as stack:
        if dispatcher is None:
            dispatcher = open_dispatcher(settings)
            stack.push_async_callback(dispatcher.aclose)
            await dispatcher.start()
        await migrate(settings.database)
        store = await open_store(settings.database, secret.key(ROOM_TOKENS))
        stack.push_async_callback(store.aclose)
        media = await open_media(settings)
        stack.push_async_callback(media.aclose)
        portraits = FacePortraits(settings.image_workers)
        stack.push_async_callback(portraits.aclose)
        livekit = open_livekit(settings.livekit)
        if livekit is not None:
            stack.push_async_callback(livekit.aclose)
        services = assemble(settings, secret, store, media, portraits, dispatcher, plans, livekit)
        stack.push_async_callback(services.avatars.aclose)
        stack.push_async_callback(services.rates.aclose)
        await services.rates.start()
        stack.push_async_callback(services.sessions.aclose)
        await services.avatars.seed_public()
        services.avatars.warm_default()
        services.supervisor.start()
        stack.push_async_callback(services.supervisor.aclose)
        yield services


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: ``serve`` has the better ones."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@asynccontextmanager
async def http_server(
    app: FastAPI, settings: ApiSettings, listener: socket.socket
) -> AsyncIterator[asyncio.Task[None]]:
    """The HTTP service on ``listener`` while the context lasts; then no new connections, and
    ``drain_s`` for requests under way. Yields its task, which ends early only by failing."""
    server = _HttpServer(
        uvicorn.Config(
            app,
            **http_options(),
            **SPEECH_SOCKETS,
            proxy_headers=True,
            forwarded_allow_ips=settings.proxies,
            server_header=False,
            access_log=False,
            log_config=None,
            lifespan="on",
            # uvicorn waits in whole seconds, and for 0 without end.
            timeout_graceful_shutdown=max(1, round(settings.lifecycle.drain_s)),
        )
    )
    task = asyncio.create_task(server.serve([listener]), name="http server")
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the HTTP service did not start; the log says why")
            await asyncio.sleep(0.01)
        yield task
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


async def serve(
    settings: ApiSettings,
    listener: socket.socket | None = None,
    dispatcher: Dispatcher | None = None,
) -> None:
    """Run until SIGTERM or SIGINT: then new sessions are refused, requests under way are answered,
    everything is closed. Sessions go on at their workers. A second signal exits at once with
    status 1.

    Args:
        settings: of the process.
        listener: a socket to listen on, bound; default: the settings' address.
        dispatcher: see ``running_services``.

    Raises:
        PortError, SettingsError, StoreError: why it cannot run.
    """
    configure_logging(settings.log)
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    listener = bind(settings) if listener is None else listener
    try:
        settings = settings.model_copy(update={"port": int(listener.getsockname()[1])})
        async with (
            running_services(settings, dispatcher) as services,
            http_server(create_app(services), settings, listener) as serving,
        ):
            logger.info("listening", host=settings.host, port=settings.port)
            announcing = asyncio.create_task(announce(settings.base_url, services.dispatcher))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            announcing.cancel()
            services.sessions.draining = True
            logger.info("draining", timeout_s=settings.lifecycle.drain_s)
            if serving.done():
                serving.result()
    finally:
        listener.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
