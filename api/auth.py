"""Who is asking: the API key of a request, its account and plan, and its rate limit.

Keys are looked up in the store for every request, so a revoked one is refused at once, by every
process. Wrong keys count per client address; a right one is never refused for wrong ones that came
from its address, which may be a whole office's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.container.deps import services_of
from api.container.services import Services
from api.http.errors import AuthenticationError
from api.records import Account, ApiKey, Plan

MAX_KEY_LENGTH = 256
"""Nothing longer is looked up."""

SECURITY_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
"""Where a key is looked for, in OpenAPI's words; each is enough."""


@dataclass(frozen=True)
class Caller:
    """An authenticated request's account."""

    account: Account
    key: ApiKey | None
    """None: anyone who opened the account's preview link."""
    plan: Plan


async def authenticate(request: Request) -> Caller:
    """The caller.

    Services and headers are looked up here: as dependencies of their own they would take longer.

    Raises:
        AuthenticationError: no key, an unknown one, or one that is not valid any more.
        RateLimited: too many requests of this key, or too many failures from this address.
    """
    services = services_of(request)
    try:
        account, key = await _owner(services, _key_text(request))
    except AuthenticationError:
        failures = await services.rates.failed(request.client.host if request.client else "")
        if failures is not None and not failures.allowed:
            raise failures.refusal() from None
        raise
    window = await services.rates.key_used(key.id)
    if window is not None:
        # The answer gets them, whatever becomes of the request.
        request.state.rate_headers = window.headers()
        if not window.allowed:
            raise window.refusal()
    return Caller(account, key, services.plans.get(account.plan_key))


CallerDep = Annotated[Caller, Depends(authenticate)]


def _key_text(request: Request) -> str:
    text = request.headers.get("x-api-key", "").strip()
    if text:
        return text
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


async def _owner(services: Services, text: str) -> tuple[Account, ApiKey]:
    if not text:
        raise AuthenticationError("API key required")
    found = None
    # Keys are printable ASCII; other text is not worth a look, and no database need read it.
    if len(text) <= MAX_KEY_LENGTH and text.isascii() and text.isprintable():
        found = await services.store.find_key(text)
    if found is None:
        raise AuthenticationError("Invalid API key")
    key, account = found
    now = services.now()
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise AuthenticationError("API key is deactivated")
    return account, key
