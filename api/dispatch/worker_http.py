"""HTTP to resident workers: kept connections, whole answers, and failures told apart by whether the
worker can have seen the request."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

KEEPALIVE_S = 4.0
"""Shorter than a worker's own (5 s): no request meets a connection that is just being closed."""

MAX_CONNECTIONS = 256

_IN_ONE_PIECE = 2**20
"""Larger bodies are handed to the socket piece by piece."""


class Unanswered(Exception):
    """The worker did not answer."""

    def __init__(self, reason: str, *, unseen: bool = False, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.unseen = unseen
        """It cannot have seen the request."""
        self.timed_out = timed_out


@dataclass(frozen=True)
class Answer:
    """A worker's answer, read to its end."""

    status: int
    content: bytes

    def json(self) -> dict[str, Any]:
        """Its JSON object; empty when it is none."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class WorkerHttp:
    """A pool of connections. Opened by its first request; ``aclose`` after use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        connect_s: float,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Ask. ``body`` is JSON; ``timeout_s`` is for all of it, ``connect_s`` for a connection.

        Raises:
            Unanswered: there is no whole answer.
        """
        content: Any = body
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            if len(body) > _IN_ONE_PIECE:
                content = io.BytesIO(body)
        try:
            async with self._opened().request(
                method,
                url,
                headers=headers,
                params=params,
                data=content,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=connect_s),
            ) as answer:
                return Answer(answer.status, await answer.read())
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.InvalidURL,
        ) as error:
            late = isinstance(error, TimeoutError)
            raise Unanswered(type(error).__name__, unseen=True, timed_out=late) from None
        except TimeoutError:
            raise Unanswered("ReadTimeout", timed_out=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(type(error).__name__) from None

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session
