"""The speech socket: the protocol on a real WebSocket, between clients and sessions.

Paths ``/v1/ws`` and ``/`` (any query), no subprotocol, no compression. One task per socket reads
and acts, one sends, one keeps the connection alive. A client is slowed down by not being read:
while the session works on its audio, nothing more is taken from the network.
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from common.init_limit import InitLimit
from protocol import protocol_errors
from protocol.actions import (
    Action,
    Authenticate,
    Begin,
    Close,
    EndSession,
    EndSpeech,
    Interrupt,
    SendText,
    Speak,
)
from protocol.events import SessionEvent
from protocol.state_machine import ServerProtocol
from worker.ingest.send_queue import SendQueue
from worker.interfaces import AuthError, Directory, SessionOver, SpeechTarget
from worker.settings import WebSocketSettings

logger = structlog.get_logger(__name__)

# The library's debug log holds whole messages, tokens among them: it has its own, quiet logger.
library_logger = logging.getLogger("worker.ingest.websocket.library")
library_logger.setLevel(logging.CRITICAL)

PACKAGE = "avatar-server"
PATHS = ("/v1/ws", "/")
CLOSE_TIMEOUT_S = 5.0
MAX_UNREAD = 4
"""Frames read ahead of the session, so that at most a few messages wait outside its backlog."""


class SpeechServer:
    """Listens for clients; one ``_Client`` per socket."""

    def __init__(
        self, directory: Directory, settings: WebSocketSettings, server_version: str | None = None
    ) -> None:
        """``server_version`` is told to clients that opted in; None: this package's."""
        self.directory = directory
        self.settings = settings
        self.server_version = server_version or metadata.version(PACKAGE)
        self.init_limit = InitLimit(settings.failed_inits_per_minute)
        self.current: dict[str, _Client] = {}
        """The newest socket of each session."""
        self._server: Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on ``host`` and ``port`` (0: any free one).

        Raises:
            OSError: the address cannot be listened on.
        """
        settings = self.settings
        self._server = await serve(
            self._serve_client,
            host,
            port,
            process_request=self._check_request,
            compression=None,
            max_size=settings.max_message_bytes,
            max_queue=MAX_UNREAD,
            # Our own keepalive: the library's would take a client that we do not read for dead.
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            server_header=None,
            logger=library_logger,
        )

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._server is not None, "not started"
        listening: socket.socket = next(iter(self._server.sockets))
        return int(listening.getsockname()[1])

    async def aclose(self) -> None:
        """Stop listening, close every socket (1001) and wait until all is gone."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _check_request(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            path = urlsplit(request.path).path
        except ValueError:
            path = ""
        if path not in PATHS:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "Not found: use /v1/ws\n")
        if self.init_limit.blocked(self._address(connection, request)):
            response = connection.respond(
                http.HTTPStatus.TOO_MANY_REQUESTS, "Too many failed attempts: wait a minute\n"
            )
            response.headers["Retry-After"] = "60"
            return response
        return None

    def _address(self, connection: ServerConnection, request: Request | None) -> str:
        if self.settings.trust_forwarded_for and request is not None:
            forwarded = request.headers.get_all("X-Forwarded-For")
            if forwarded:
                return forwarded[-1].rsplit(",", 1)[-1].strip()
        peer = connection.remote_address
        return str(peer[0]) if peer else ""

    async def _serve_client(self, connection: ServerConnection) -> None:
        client = _Client(self, connection)
        try:
            await client.run()
        except Exception:
            # The library would log it too, where nobody listens.
            logger.exception("websocket client failed")
            raise
        finally:
            if client.protocol.init_failed:
                self.init_limit.failed(self._address(connection, connection.request))


class _Client:
    """One socket from handshake to close."""

    def __init__(self, server: SpeechServer, connection: ServerConnection) -> None:
        self.protocol = ServerProtocol(server.server_version)
        self._server = server
        self._settings = server.settings
        self._connection = connection
        self._send_queue = SendQueue(connection, server.settings.send_timeout_s)
        self._target: SpeechTarget | None = None
        self._session_id = ""
        self._log = logger
        self._unsubscribe: Callable[[], None] = lambda: None
        self._reading = True
        self._heard_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Serve the socket; returns when it is closed and nothing of it is left."""
        sender = asyncio.create_task(self._send_queue.run(), name="websocket send")
        keepalive = asyncio.create_task(self._keep_alive(), name="websocket keepalive")
        clean = False
        try:
            clean = await self._read()
        except Exception:
            self._log.exception("websocket failed")
            self._send(self.protocol.failed(protocol_errors.INTERNAL_ERROR))
            self._leave(clean)
            # The connection is still open: give the error and the close a while to go out.
            await asyncio.wait([sender], timeout=CLOSE_TIMEOUT_S)
        finally:
            keepalive.cancel()
            sender.cancel()
            self._leave(clean)
            await asyncio.gather(sender, keepalive, return_exceptions=True)

    def replaced(self) -> None:
        """A newer socket speaks for the session now."""
        self._stop_listening()
        self._target = None
        self._send(self.protocol.replaced())

    async def _read(self) -> bool:
        """Read and act until the connection closes; returns whether the client said goodbye."""
        timer = asyncio.get_running_loop().call_later(
            self._settings.init_timeout_s, lambda: self._send(self.protocol.init_timeout())
        )
        try:
            while True:
                self._reading = True
                message = await self._connection.recv()
                self._reading = False
                self._heard_at = asyncio.get_running_loop().time()
                if isinstance(message, str):
                    await self._perform(self.protocol.receive_text(message))
                else:
                    await self._perform(self.protocol.receive_binary(message))
                await self._send_queue.room_for_reply()
        except ConnectionClosed as closed:
            return closed.rcvd is not None and closed.rcvd_then_sent is True
        finally:
            timer.cancel()

    async def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendText() | Close():
                    self._send_queue.put(action)
                case Authenticate():
                    self._authenticate(action)
                case _ if self._target is not None:
                    await self._ask(self._target, action)

    async def _ask(self, target: SpeechTarget, action: Action) -> None:
        try:
            match action:
                case Speak(pcm, rate, utterance_id):
                    receipt = await target.speak(pcm, rate, utterance_id)
                    if receipt is None:
                        self._send(self.protocol.speak_refused())
                    else:
                        self._send(self.protocol.speak_accepted(action, receipt))
                case Begin(utterance_id, rate):
                    target.begin_speech(utterance_id, rate)
                case EndSpeech():
                    target.end_speech()
                case Interrupt():
                    await target.interrupt()
                    self._send(self.protocol.interrupted())
                case EndSession():
                    await target.end("client_request")
        except SessionOver:
            self._send(self.protocol.failed(protocol_errors.SESSION_ENDED))

    def _authenticate(self, action: Authenticate) -> None:
        try:
            target = self._server.directory.authenticate(action.session_id, action.token)
        except AuthError as error:
            self._send(self.protocol.rejected(error.kind))
            return
        info = target.info
        self._session_id = info.session_id
        self._log = self._send_queue.log = logger.bind(session_id=info.session_id)
        older = self._server.current.get(self._session_id)
        self._server.current[self._session_id] = self
        if older is not None:
            older.replaced()
        self._target = target
        self._send(self.protocol.accepted(info))
        self._unsubscribe = target.subscribe(self._on_event)
        target.attach()
        self._log.info("websocket attached")

    def _on_event(self, event: SessionEvent) -> None:
        self._send(self.protocol.send_event(event))

    def _send(self, actions: list[Action]) -> None:
        for action in actions:
            assert isinstance(action, SendText | Close)
            self._send_queue.put(action)

    def _stop_listening(self) -> None:
        self._unsubscribe()
        self._unsubscribe = lambda: None

    def _leave(self, clean: bool) -> None:
        self._stop_listening()
        if self._server.current.get(self._session_id) is self:
            del self._server.current[self._session_id]
        if self._target is not None:
            self._target.detach(clean, 0.0 if clean else self.protocol.reconnect_grace_s)
            self._target = None
            self._log.info("websocket detached", clean=clean)

    async def _keep_alive(self) -> None:
        """Ping; cut the connection when neither a pong nor anything else comes.

        While the session makes the client wait, nothing is read, and a pong cannot be seen: that
        time does not count.
        """
        loop = asyncio.get_running_loop()
        patience = self._settings.ping_timeout_s
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._settings.ping_interval_s)
                pong = asyncio.ensure_future(await self._connection.ping())
                while not (await asyncio.wait([pong], timeout=patience))[0]:
                    if self._reading and loop.time() - self._heard_at >= patience:
                        self._send_queue.abort("ping_timeout")
                        return
                pong.result()
