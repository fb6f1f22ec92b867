"""One client of the gateway, from its first message to its end."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, cast

import structlog
from fastapi import WebSocket
from websockets.asyncio.client import ClientConnection

from api.gateway.client import ClientLost, ClientSocket, Disconnect
from api.gateway.dial import Dialer, NotServed, SessionOver
from api.gateway.pipe import Flow, InboundQueue, Pipe, WorkerGone, abort
from api.records import EndReason, Session
from api.secret import token_digest
from common.canvas_settings import CanvasSettings
from protocol import client_messages, protocol_errors, server_messages
from protocol.actions import Authenticate, Close, SendText
from protocol.events import SessionEnded
from protocol.protocol_errors import Fault, Refused
from protocol.session_types import AuthFailure, SessionInfo
from protocol.state_machine import ServerProtocol

if TYPE_CHECKING:
    from api.gateway.gateway import Gateway

logger = structlog.get_logger(__name__)

INIT_TIMEOUT_S = 10.0
WELCOME_AFTER_S = 1.0
"""A client whose worker cannot be entered within this time is welcomed by us."""

TRUE_END_S = 2.0
"""Time to learn why a worker is gone."""

POLL_AGAIN_S = (0.05, 0.3, 1.0)
"""When the session of a client that left is looked at, so that its slot is free at once."""

_MAX_COMMAND = 1024
"""Characters of a message that is looked into while the worker is awaited: no speech."""

_PASSED_ON = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
"""Close codes that may be sent."""

StopReason = Literal["replaced", "end"] | Disconnect
"""What ends the wait for a worker: a newer client, ``session.end``, or the client's going."""

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Conversation:
    """One client's socket."""

    def __init__(self, gateway: Gateway, websocket: WebSocket) -> None:
        self._gateway = gateway
        self._services = gateway.services
        self._client = ClientSocket(websocket, gateway.send_timeout_s)
        self._protocol = ServerProtocol(gateway.server_version, now=gateway.services.now)
        self._inbound = InboundQueue()
        self._log = logger
        self._welcomed = False
        self._waiting = True
        loop = asyncio.get_running_loop()
        self._stop_reason: asyncio.Future[StopReason] = loop.create_future()
        self._lost: asyncio.Future[Disconnect] = loop.create_future()

    @property
    def init_failed(self) -> bool:
        """Whether the client was refused by its own fault."""
        return self._protocol.init_failed

    def replaced(self) -> None:
        """A newer client speaks for the session."""
        self._stop_for("replaced")

    async def run(self) -> None:
        """Serve the client; returns when its socket is closed and nothing of it is left."""
        try:
            entered = await self._enter()
            if entered is None:
                return
            session, init = entered
            self._log = logger.bind(session_id=session.id)
            self._gateway.enter(session.id, self)
            try:
                await self._serve(session, init)
            finally:
                self._gateway.leave(session.id, self)
        except ClientLost:
            pass  # before it entered, or while it was told why it could not
        except Exception:
            self._log.exception("speech gateway failed")
            await self._fail(protocol_errors.INTERNAL_ERROR, "server_error")

    # Entering

    async def _enter(self) -> tuple[Session, str] | None:
        """The client's session and its first message; None when it was refused."""
        protocol = self._protocol
        try:
            async with asyncio.timeout(INIT_TIMEOUT_S):
                first = await self._client.receive()
        except TimeoutError:
            await self._client.perform(protocol.init_timeout())
            return None
        if isinstance(first, Disconnect):
            return None
        if isinstance(first, bytes):
            actions = protocol.receive_binary(first)
        else:
            actions = protocol.receive_text(first)
        if not isinstance(actions[0], Authenticate):
            await self._client.perform(actions)
            return None
        found = await self._authenticate(actions[0])
        if not isinstance(found, Session):
            await self._client.perform(protocol.rejected(found))
            return None
        assert isinstance(first, str)
        return found, first

    async def _authenticate(self, credentials: Authenticate) -> Session | AuthFailure:
        store = self._services.store
        digest = await store.session_token_digest(credentials.session_id)
        right = hmac.compare_digest(digest or bytes(32), token_digest(credentials.token))
        if digest is None or not right:
            return "credentials"
        session = await store.session(credentials.session_id)
        if session is None:
            return "credentials"
        if session.status == "ended":
            return "ended"
        if session.status == "created":
            return "not_started"
        if session.platform not in self._services.dispatcher.platforms:
            return "room_platform"
        return session

    # Serving

    async def _serve(self, session: Session, init: str) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        dialer = Dialer(self._services, session, init)
        async with _tasks() as spawn:
            spawn(self._read())
            dialing = spawn(dialer.connect())
            try:
                await self._await_worker(session, dialer, dialing)
                if not dialing.done():
                    dialing.cancel()
                    await self._stop_waiting(session)
                    return
                worker, greeting = dialing.result()
            except SessionOver as over:
                await self._say_ended(over.session)
                return
            except NotServed as missing:
                await self._not_served(missing.session)
                return
            except ClientLost:
                await self._left(session, Disconnect("lost"))
                return
            self._gateway.metrics.waited(loop.time() - asked_at)
            await self._join(session, worker, greeting, spawn)

    async def _await_worker(
        self, session: Session, dialer: Dialer, dialing: asyncio.Task[Any]
    ) -> None:
        """Returns when the worker was reached or not, or the wait is to end."""
        patience = 0.0 if session.ws_uri is None else WELCOME_AFTER_S
        events = {dialing, self._stop_reason}
        await asyncio.wait(events, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not dialing.done() and not self._stop_reason.done():
            await self._client.perform(self._protocol.accepted(_info(session)))
            self._welcomed = True
            self._log.info("speech socket waits for its worker")
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if self._stop_reason.done() and not self._lost.done() and dialer.entering:
            # The worker is hearing of this client. Cut off now it would end the session; once
            # in, it is replaced, or told of the end, like any other.
            await asyncio.wait({dialing})

    async def _stop_waiting(self, session: Session) -> None:
        match self._stop_reason.result():
            case "replaced":
                await self._client.perform(self._protocol.replaced())
            case "end":
                await self._finish(session, "client_request")
                await self._say_ended(await self._services.store.session(session.id))
            case Disconnect() as gone:
                await self._left(session, gone)

    async def _left(self, session: Session, gone: Disconnect) -> None:
        """The client went before a worker knew of it."""
        grace_s = self._protocol.reconnect_grace_s
        if gone.how == "shutdown" or self._gateway.current.get(session.id) is not self:
            return
        if gone.how == "lost" and grace_s > 0:
            self._gateway.grant_grace(session, grace_s)
        else:
            await self._finish(session, "websocket_closed")

    async def _finish(self, session: Session, reason: EndReason) -> None:
        await self._services.sessions.finish(session, reason, self._services.now())

    async def _not_served(self, session: Session) -> None:
        if session.ready_at is None:
            await self._finish(session, "join_failed")
            await self._say_ended(await self._services.store.session(session.id))
        else:
            await self._fail(protocol_errors.INTERNAL_ERROR, "server_error")

    async def _read(self) -> None:
        """Take the client's messages, no faster than they are passed on."""
        try:
            while True:
                message = await self._client.receive()
                if isinstance(message, Disconnect):
                    break
                if not (self._waiting and await self._answered(message)):
                    await self._inbound.put(message)
        except ClientLost:
            message = Disconnect("lost")
        if message.how != "closed":
            self._lost.set_result(message)
        self._stop_for(message)
        await self._inbound.put(message)

    async def _answered(self, message: str | bytes) -> bool:
        """Whether a message needed no worker. ``session.end`` does not wait for one."""
        if not self._welcomed or isinstance(message, bytes) or len(message) > _MAX_COMMAND:
            return False
        try:
            command = client_messages.parse(message)
        except Refused:
            return False
        if isinstance(command, client_messages.EndMessage):
            self._stop_for("end")
        if not isinstance(command, client_messages.Ping):
            return False
        await self._client.perform(self._protocol.receive_text(message))
        return True

    def _stop_for(self, why: StopReason) -> None:
        if not self._stop_reason.done():
            self._stop_reason.set_result(why)

    # Piping

    async def _join(
        self, session: Session, worker: ClientConnection, greeting: str, spawn: Spawn
    ) -> None:
        flow = Flow()
        self._waiting = False
        try:
            if not self._welcomed:
                self._protocol.accepted(_info(session))
                await self._client.send(greeting)
            self._log.info("speech socket joined to its worker")
            await self._pipe(
                session, worker, Pipe(self._client, self._inbound, worker, flow), spawn
            )
        except ClientLost:
            pass
        finally:
            abort(worker)
            self._gateway.metrics.piped(flow.up, flow.down)
        self._log.info("speech socket closed", bytes_up=flow.up, bytes_down=flow.down)
        if not self._outlived():
            await self._poll_again(session)

    def _outlived(self) -> bool:
        """Whether the session goes on although this client is gone."""
        if self._lost.done():
            return self._lost.result().how == "shutdown" or self._protocol.reconnect_grace_s > 0
        return self._client.close_reason == "replaced"

    async def _pipe(
        self, session: Session, worker: ClientConnection, pipe: Pipe, spawn: Spawn
    ) -> None:
        spawn(pipe.keep_alive())
        up, down = spawn(pipe.client_to_worker()), spawn(pipe.worker_to_client())
        halves: set[asyncio.Future[Any]] = {up, down, self._lost}
        await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            return
        if down.done():
            await self._worker_gone(session, down.result())
            return
        gone: Disconnect = up.result()
        await worker.close(gone.code if gone.code in _PASSED_ON else 1000)

    async def _worker_gone(self, session: Session, gone: WorkerGone) -> None:
        if gone.code is not None:
            await self._client.close(gone.code if gone.code in _PASSED_ON else 1011, gone.reason)
            return
        self._log.warning("worker connection lost")
        loop = asyncio.get_running_loop()
        patience = loop.time() + TRUE_END_S
        now = await self._polled(session)
        while now.status == "started" and loop.time() < patience:
            await asyncio.sleep(POLL_AGAIN_S[1])
            now = await self._polled(session)
        await self._say_ended(now)

    async def _polled(self, session: Session) -> Session:
        await self._services.supervisor.poll([session])
        return await self._services.store.session(session.id) or session

    async def _poll_again(self, session: Session) -> None:
        """See to it that a session that has ended frees its slot at once."""
        for pause in POLL_AGAIN_S:
            await asyncio.sleep(pause)
            if (await self._polled(session)).status != "started":
                return

    # Ends

    async def _say_ended(self, session: Session | None) -> None:
        """Tell the client of its session's end, as a worker would."""
        if session is None or session.end_reason is None:
            await self._fail(protocol_errors.INTERNAL_ERROR, "server_error")
            return
        if not self._welcomed and self._waiting:
            await self._client.perform(self._protocol.rejected("ended"))
            return
        now = session.ended_at or self._services.now()
        reason = cast("Any", session.end_reason)
        told = self._protocol.send_event(SessionEnded(reason, session.duration_s(now), now))
        if session.end_reason == "join_failed" and session.ws_uri is None:
            # It never got as far as a room.
            told[0] = self._error(protocol_errors.START_FAILED)
        await self._client.perform(told)

    async def _fail(self, fault: Fault, reason: EndReason) -> None:
        code = fault.close_code or protocol_errors.SERVER_FAILURE
        with suppress(ClientLost):
            await self._client.perform([self._error(fault), Close(code, reason)])

    def _error(self, fault: Fault) -> SendText:
        extended = self._protocol.options.events is not None
        return SendText(server_messages.encode(server_messages.error(fault, extended)))


def _info(session: Session) -> SessionInfo:
    """What a client is told when it enters. (The picture's size is not part of that.)"""
    return SessionInfo(
        session.id, session.expires_at, CanvasSettings().canvas(session.aspect_ratio)
    )


@asynccontextmanager
async def _tasks() -> AsyncIterator[Spawn]:
    """Tasks that end with the context."""
    running: list[asyncio.Task[Any]] = []

    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        running.append(asyncio.create_task(work))
        return running[-1]

    try:
        yield spawn
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
