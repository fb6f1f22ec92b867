"""How many requests a key may make, and how many wrong keys an address may try.

A fixed window of a minute begins with the first request. Counters live in this process, or in Redis
where several processes share them. Redis being away never refuses a request: until it is back every
process counts for itself, and the log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage

from api.http.errors import RateLimited
from api.metrics import ApiMetrics
from api.settings import PREFIX, ApiSettings, SettingsError

if TYPE_CHECKING:
    from limits.aio.storage import RedisStorage

logger = structlog.get_logger(__name__)

_REDIS_ANSWER_S = 0.5
"""A request does not wait longer for Redis."""
_REDIS_PAUSE_S = 1.0
"""Redis is not asked again so soon after it did not answer."""
_COMPLAIN_S = 10.0


@dataclass(frozen=True)
class Window:
    """Where a caller stands in its minute."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds."""
    allowed: bool

    def headers(self) -> dict[str, str]:
        """The documented headers."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }

    def refusal(self) -> RateLimited:
        """What is raised when it is not allowed."""
        return RateLimited(self.reset - int(time.time()))


class RateLimits:
    """Counts requests. ``start`` before use when there is a Redis; ``aclose`` after."""

    def __init__(self, settings: ApiSettings, metrics: ApiMetrics) -> None:
        """Raises ``SettingsError`` when the Redis URL cannot be used."""
        self._per_minute = settings.rate_limit_per_minute
        self._item = RateLimitItemPerMinute(max(1, self._per_minute), namespace="avatar-api")
        self._metrics = metrics
        self._memory = MemoryStorage()
        self._redis_url = (
            settings.redis_url.get_secret_value() if settings.redis_url is not None else None
        )
        if self._redis_url is not None:
            _check_url(self._redis_url)
        self._redis: RedisStorage | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._away_until = 0.0
        self._complained_at = float("-inf")

    async def start(self) -> None:
        """Open the connections to Redis, if there is one to be used."""
        if self._redis_url is None or self._per_minute == 0 or self._owner is not None:
            return
        # The connections belong to the task that opens them: one of our own, so that the task that
        # starts and the one that closes need not be the same.
        self._owner = asyncio.create_task(self._own_redis(self._redis_url), name="rate limits")

    async def aclose(self) -> None:
        """Close the connections."""
        self._stop.set()
        owner, self._owner = self._owner, None
        if owner is not None:
            await asyncio.wait({owner}, timeout=2)
            owner.cancel()
            await asyncio.gather(owner, return_exceptions=True)
        timer = self._memory.timer
        if timer is not None:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)

    async def key_used(self, key_id: str) -> Window | None:
        """Count a request of an API key; None: there is no limit."""
        return await self._count("key", key_id)

    async def failed(self, address: str) -> Window | None:
        """Count a failed authentication from ``address``; None: there is no limit."""
        return await self._count("address", _counted_as(address))

    async def _count(self, by: str, who: str) -> Window | None:
        if self._per_minute == 0:
            return None
        key = self._item.key_for(by, who)
        window = await self._shared(key)
        if window is None:
            used = await self._memory.incr(key, 60)
            window = self._window(used, await self._memory.get_expiry(key))
        if not window.allowed:
            self._metrics.rate_limited(by)
        return window

    async def _shared(self, key: str) -> Window | None:
        """None: Redis is not used, or does not answer."""
        if self._redis_url is None or time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_REDIS_ANSWER_S):
                while self._redis is None:  # noqa: ASYNC110 - while the process starts
                    await asyncio.sleep(0.01)
                redis = self._redis
                used = await redis.incr(key, 60)
                reset = await redis.get_expiry(key)
                if used > 1 and reset <= time.time() + 0.001:
                    # Its writer died between counting and setting the end: it would never end.
                    await _client(redis).expire(redis.bridge.prefixed_key(key), 60)
                    reset = time.time() + 60
        except Exception as error:
            self._away(error)
            return None
        return self._window(used, reset)

    def _window(self, used: int, reset: float) -> Window:
        # Rounded up: anyone who waits until then is let in.
        return Window(
            limit=self._per_minute,
            remaining=max(0, self._per_minute - used),
            reset=int(-(-reset // 1)),
            allowed=used <= self._per_minute,
        )

    def _away(self, error: Exception) -> None:
        now = time.monotonic()
        self._away_until = now + _REDIS_PAUSE_S
        if now - self._complained_at >= _COMPLAIN_S:
            self._complained_at = now
            logger.error(
                "redis does not answer: every process counts its own rate limit until it does",
                error=type(error).__name__,
            )

    async def _own_redis(self, url: str) -> None:
        from limits.aio.storage import RedisStorage

        while not self._stop.is_set():
            try:
                storage = RedisStorage(f"async+{url}", connect_timeout=_REDIS_ANSWER_S)
                async with _client(storage):
                    self._redis = storage
                    await self._stop.wait()
            except Exception as error:
                self._redis = None
                self._away(error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _REDIS_PAUSE_S)
        self._redis = None


def _client(storage: RedisStorage) -> Any:
    """The connections of a storage; the library leaves it to us to open and close them."""
    bridge: Any = storage.bridge
    return bridge.get_connection()


def _check_url(url: str) -> None:
    if not url.startswith(("redis://", "rediss://")):
        raise SettingsError(f"{PREFIX}REDIS_URL must begin with redis:// or rediss://")
    try:
        import coredis  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}REDIS_URL needs the package coredis; install avatar-server[redis]"
        ) from error


def _counted_as(address: str) -> str:
    """One client commonly owns a whole IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
