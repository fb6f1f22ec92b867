"""From a session to a connection with its worker, which may still be starting."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from api.container.services import Services
from api.gateway.pipe import abort
from api.gateway.socket import CLOSE_TIMEOUT_S, MAX_MESSAGE_BYTES
from api.records import Session

logger = structlog.get_logger(__name__)

# The library's debug log holds whole messages, tokens among them: it has its own, quiet logger.
library_logger = logging.getLogger("api.gateway.library")
library_logger.setLevel(logging.CRITICAL)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 1.0
OPEN_TIMEOUT_S = 5.0
GREETING_TIMEOUT_S = 10.0
MAX_UNREAD = 4
"""Messages read ahead of a client that takes them slowly."""


class SessionOver(Exception):
    """The session ended before its worker could be reached."""

    def __init__(self, session: Session | None) -> None:
        super().__init__("the session has ended")
        self.session = session


class NotServed(Exception):
    """No worker served the session in time."""

    def __init__(self, session: Session) -> None:
        super().__init__("no worker serves the session")
        self.session = session


class Refused(Exception):
    """The worker is there and does not let us in. The text is for the log."""


class Dialer:
    """Finds the session's worker and enters it."""

    def __init__(self, services: Services, session: Session, init: str) -> None:
        """``init``: the client's own first message."""
        self._services = services
        self._session = session
        self._init = init
        self._log = logger.bind(session_id=session.id)
        self.entering = False
        """Whether a worker is being told of this client."""

    async def connect(self) -> tuple[ClientConnection, str]:
        """The worker's connection, entered, and its ``connection.established``. Tries again until
        the worker had its time to start, or to come back.

        Raises:
            SessionOver, NotServed.
        """
        services = self._services
        session = self._session
        deadline = self._deadline(session)
        placed = session.ws_uri is not None
        pause = FIRST_PAUSE_S
        while True:
            if session.ws_uri is not None:
                if not placed:
                    placed, deadline = True, self._deadline(session)
                try:
                    return await self._enter(session.ws_uri)
                except (OSError, WebSocketException, TimeoutError, Refused) as error:
                    self._log.warning("worker not reached", error=_described(error))
                # It may be gone, or know of an end that we do not.
                await services.supervisor.poll([session])
                session = await self._current()
            if services.now() >= deadline:
                raise NotServed(session)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)
            session = await self._current()

    async def _current(self) -> Session:
        session = await self._services.store.session(self._session.id)
        if session is None or session.status != "started":
            raise SessionOver(session)
        return session

    def _deadline(self, session: Session) -> datetime:
        """A worker has its time to start; one that was there has the time to come back."""
        lifecycle = self._services.settings.lifecycle
        started = session.started_at or session.created_at
        starting = started + timedelta(seconds=lifecycle.ready_timeout_s)
        if session.ws_uri is None:
            return starting
        return max(starting, self._services.now() + timedelta(seconds=lifecycle.heartbeat_s))

    async def _enter(self, uri: str) -> tuple[ClientConnection, str]:
        worker = await connect(
            uri,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=MAX_UNREAD,
            # Our own keepalive: the library's would take a worker that we do not read for dead.
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            user_agent_header=None,
            proxy=None if _near(uri) else True,
            logger=library_logger,
        )
        try:
            self.entering = True
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                await worker.send(self._init)
                greeting = await worker.recv()
        except ConnectionClosed as closed:
            raise Refused(_closed(closed)) from None
        except BaseException:
            abort(worker)
            raise
        finally:
            self.entering = False
        if isinstance(greeting, str) and _type(greeting) == "connection.established":
            return worker, greeting
        abort(worker)
        raise Refused("the worker does not know the session")


def _near(uri: str) -> bool:
    """Whether the worker is on this machine or network, where no proxy leads."""
    host = urlsplit(uri).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host


def _type(message: str) -> object:
    try:
        body = json.loads(message)
    except ValueError:
        return None
    return body.get("type") if isinstance(body, dict) else None


def _closed(closed: ConnectionClosed) -> str:
    return f"closed with {closed.rcvd.code}" if closed.rcvd else "connection lost"


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, Refused) else type(error).__name__
