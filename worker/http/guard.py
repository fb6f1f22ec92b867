"""Who may use ``/sessions``, and how much they may send."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from worker.http.errors import ApiError
from worker.settings import PREFIX, WorkerSettings

MAX_BODY_BYTES = 15 * 2**20


class Unauthorized(Exception):
    """The caller is not allowed in; the text goes to it."""


class Guard:
    """Lets a request in by the shared secret.

    Without a secret, on a loopback address, requests that a foreign web page could make a local
    browser send are refused.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises ``SettingsError`` when the settings leave the worker open to a network."""
        settings.require_guard()
        secret = settings.secret
        self._secret = None if secret is None else secret.get_secret_value().encode()

    async def __call__(self, request: Request) -> None:
        """Raises ``Unauthorized`` or ``ApiError``."""
        if self._secret is None:
            self._check_local(request)
            return
        header = request.headers.get("authorization")
        if header is None:
            raise Unauthorized("Authorization: Bearer <secret> required")
        scheme, _, given = header.partition(" ")
        # Headers are latin-1 to starlette; compare the bytes that were sent.
        right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._secret)
        if scheme.lower() != "bearer" or not right:
            raise Unauthorized("Invalid secret")

    def _check_local(self, request: Request) -> None:
        if not _is_loopback(request.headers.get("host", "")):
            raise ApiError(
                403,
                "SECRET_REQUIRED",
                "Without a secret only loopback addresses are served",
                f"Set {PREFIX}SECRET",
            )
        content_type = request.headers.get("content-type", "")
        if request.method == "POST" and content_type.partition(";")[0] != "application/json":
            raise ApiError(
                415, "JSON_REQUIRED", "Content-Type must be application/json", "Send JSON"
            )


async def read_limited(request: Request) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413, as soon as it is known to be over 15 MiB.
    """
    too_large = ApiError(413, "PAYLOAD_TOO_LARGE", "Request body is too large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
