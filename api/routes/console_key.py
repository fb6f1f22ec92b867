"""An API key for the page at ``/`` where only this machine can reach the server.

The caller must be on this machine, must have opened the page here, and must be a person's browser
on that very page: other web pages, names that were pointed at this machine, and reverse proxies
get nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from starlette.requests import Request

from api.records import Account
from api.settings import ApiSettings
from api.store.port import Store

ACCOUNT = "local"
KEY_NAME = "console"
LIFETIME = timedelta(hours=12)
_RENEW_BEFORE = timedelta(hours=1)
_TRACES_OF_A_PROXY = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_loopback(host: str) -> bool:
    """Whether a ``Host`` header or an address (with or without a port) names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def keys_are_made(settings: ApiSettings) -> bool:
    """Whether the server is one that only this machine can reach. An operator who names a public
    address has a proxy in front, for which every visitor looks like this machine."""
    public = settings.public_url
    return (
        settings.console == "auto"
        and settings.loopback
        and (public is None or is_loopback(urlsplit(public).netloc))
    )


def is_own_page(request: Request) -> bool:
    """Whether the request was sent by our page in a browser on this machine."""
    host = request.headers.get("host", "")
    client = request.client.host if request.client else ""
    address = f"[{client}]" if ":" in client else client
    return (
        is_loopback(host)
        and is_loopback(address)
        and not any(name in request.headers for name in _TRACES_OF_A_PROXY)
        and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and request.headers.get("origin", "").lower() == f"{request.url.scheme}://{host}".lower()
    )


class ConsoleKey:
    """The key every page of this process shares: made on first use, and again before it expires."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._text = ""
        self._expires_at: datetime | None = None

    async def get(self, store: Store, plan_key: str, now: datetime) -> tuple[str, datetime]:
        """The key's text and when it expires."""
        async with self._lock:
            if self._expires_at is None or not await self._good(store, self._expires_at, now):
                account = await _account(store, plan_key, now)
                expires_at = now + LIFETIME
                _, self._text = await store.create_key(
                    account.id, KEY_NAME, now, expires_at=expires_at
                )
                self._expires_at = expires_at
            return self._text, self._expires_at

    async def _good(self, store: Store, expires_at: datetime, now: datetime) -> bool:
        if now + _RENEW_BEFORE > expires_at:
            return False
        found = await store.find_key(self._text)
        return found is not None and found[0].revoked_at is None


async def _account(store: Store, plan_key: str, now: datetime) -> Account:
    account = await store.account_named(ACCOUNT)
    if account is not None:
        return account
    try:
        return await store.create_account(ACCOUNT, plan_key, now)
    except ValueError:  # another process was faster
        account = await store.account_named(ACCOUNT)
        if account is None:
            raise
        return account
