"""Photos fetched from addresses that strangers name.

The name is looked up here, every address it has must be public, and the connection goes to one of
the addresses that were checked: a name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore
import httpx

from api.avatars.addresses import is_public
from api.avatars.decode import MAX_BYTES, too_large
from api.http.errors import ApiError, api_error

TIME_LIMIT_S = 10.0
"""From the look-up of the name to the last byte, redirects included."""
MAX_REDIRECTS = 3
MAX_URL = 8192
"""Characters."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name. Raises ``OSError`` when it has none."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "image/jpeg, image/png, image/webp, image/gif",
    # Nothing is ever decompressed: photos are compressed as they are.
    "Accept-Encoding": "identity",
    "User-Agent": "avatar-server",
}


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses the system's resolver has for ``host``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _NotAllowed(Exception):
    """A host has an address that is not public."""


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(
        self, resolver: Resolver, connector: httpcore.AsyncNetworkBackend, allow_private: bool
    ) -> None:
        self._resolver = resolver
        self._connector = connector
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to one of the host's addresses, all of which are public."""
        try:
            addresses = await self._resolver(host, port)
        # UnicodeError: a host name the system's encoding of names refuses.
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name has no address") from error
        if not addresses:
            raise httpcore.ConnectError("the name has no address")
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise _NotAllowed
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._connector.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise _NotAllowed

    async def sleep(self, seconds: float) -> None:
        """For the pool's retries."""
        await asyncio.sleep(seconds)


class ImageFetcher:
    """Fetches photos. Keeps no connection between two of them."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        resolver: Resolver = resolve,
        connector: httpcore.AsyncNetworkBackend | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            allow_private: addresses are not checked (closed networks).
            resolver: default: the system's.
            connector: what connects to a checked address; default: TCP.
            time_limit_s: for one photo, from the look-up to the last byte.
            tls: whom to trust; default: the authorities browsers trust.
        """
        self._tls = tls
        self._backend = _CheckedBackend(
            resolver, connector or httpcore.AnyIOBackend(), allow_private
        )
        self._time_limit_s = time_limit_s

    async def fetch(self, url: str) -> bytes:
        """The bytes at ``url``, at most 10 MB.

        Raises:
            ApiError: IMAGE_URL_NOT_ALLOWED, IMAGE_URL_UNREACHABLE or IMAGE_TOO_LARGE.
        """
        try:
            async with asyncio.timeout(self._time_limit_s):
                return await self._follow(_parse(url))
        except TimeoutError:
            raise _unreachable(
                f"it did not answer in full within {self._time_limit_s:g} s"
            ) from None
        except _NotAllowed:
            raise _not_allowed("its host is not on the public internet") from None
        except httpcore.ConnectError:
            raise _unreachable(
                "its host cannot be connected to, or its certificate is not valid"
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            raise _unreachable("the connection broke off") from None

    async def _follow(self, url: httpx.URL) -> bytes:
        async with httpcore.AsyncConnectionPool(self._tls, network_backend=self._backend) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._get(pool, url)
                if isinstance(answer, bytes):
                    return answer
                url = answer
        raise _unreachable(f"it redirects more than {MAX_REDIRECTS} times")

    async def _get(self, pool: httpcore.AsyncConnectionPool, url: httpx.URL) -> bytes | httpx.URL:
        """The body, or where a redirect leads."""
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        async with pool.stream("GET", target, headers=_HEADERS) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS:
                return _next(url, headers.get(b"location"))
            if response.status != 200:
                raise _unreachable(f"it answered with status {response.status}")
            if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
                raise _unreachable("it answered with a compressed body that was not asked for")
            length = headers.get(b"content-length", b"")
            if length.isdigit() and int(length) > MAX_BYTES:
                raise too_large(int(length) / 1024 / 1024)
            body = bytearray()
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise too_large()
            return bytes(body)


def _parse(text: str) -> httpx.URL:
    if len(text) > MAX_URL:
        raise _not_allowed(f"it is longer than {MAX_URL} characters")
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise _not_allowed("it is not a valid URL") from None
    return _checked(url)


def _checked(url: httpx.URL) -> httpx.URL:
    if url.scheme not in ("http", "https"):
        raise _not_allowed("it does not begin with http:// or https://")
    if not url.host:
        raise _not_allowed("it names no host")
    if url.port is not None and not 0 < url.port < 65536:
        raise _not_allowed("it is not a valid URL")
    if url.userinfo:
        raise _not_allowed("it holds a user name or password")
    return url


def _next(url: httpx.URL, location: bytes | None) -> httpx.URL:
    if not location:
        raise _unreachable("it redirects to nowhere")
    try:
        target = url.join(location.decode("ascii"))
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise _unreachable("it redirects to what is no URL") from None
    return _checked(target)


def _not_allowed(why: str) -> ApiError:
    return api_error(
        "IMAGE_URL_NOT_ALLOWED",
        message=f"Image URL is not allowed: {why}",
        suggestion="Use a public http or https address, or send the image itself",
    )


def _unreachable(why: str) -> ApiError:
    return api_error(
        "IMAGE_URL_UNREACHABLE",
        message=f"Image URL could not be fetched: {why}",
        suggestion="Open the address in a browser to check it, or send the image itself",
    )
