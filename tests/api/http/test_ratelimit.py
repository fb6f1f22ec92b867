"""The rate limit: its window, its headers, and Redis shared by two processes."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from limits.aio.storage import memory

from api.container.services import Services
from api.http.ratelimit import RateLimits
from api.metrics import ApiMetrics
from api.settings import ApiSettings, SettingsError


def limits(per_minute: int, redis: str | None = None) -> RateLimits:
    return RateLimits(ApiSettings(rate_limit_per_minute=per_minute, redis_url=redis), ApiMetrics())


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time the windows are measured by."""
    at = [1_800_000_000.25]

    class Time:
        time = staticmethod(lambda: at[0])

    monkeypatch.setattr(memory, "time", Time)
    return at


class TestWindow:
    async def test_begins_with_the_first_request_and_lasts_a_minute(
        self, wall: list[float]
    ) -> None:
        rates = limits(2)
        first = await rates.key_used("a")
        wall[0] += 40
        second = await rates.key_used("a")
        third = await rates.key_used("a")
        assert first is not None
        assert second is not None
        assert third is not None
        assert [w.remaining for w in (first, second, third)] == [1, 0, 0]
        assert [w.allowed for w in (first, second, third)] == [True, True, False]
        # 1800000060.25, rounded up: anyone who waits until then is let in.
        assert {w.reset for w in (first, second, third)} == {1_800_000_061}
        wall[0] += 20.1
        fourth = await rates.key_used("a")
        assert fourth is not None
        assert fourth.allowed
        assert fourth.remaining == 1
        await rates.aclose()

    async def test_keys_and_addresses_count_apart(self, wall: list[float]) -> None:
        rates = limits(1)
        for count in (rates.key_used, rates.failed):
            for who in ("10.0.0.1", "10.0.0.2"):
                window = await count(who)
                assert window is not None
                assert window.allowed
        await rates.aclose()

    async def test_a_whole_ipv6_network_counts_as_one(self, wall: list[float]) -> None:
        rates = limits(1)
        allowed = []
        for who in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.0.0.1", "10.0.0.1"):
            window = await rates.failed(who)
            assert window is not None
            allowed.append(window.allowed)
        assert allowed == [True, False, True, True, False]
        await rates.aclose()

    async def test_zero_is_no_limit(self) -> None:
        assert await limits(0).key_used("a") is None


class TestAnswers:
    @pytest.fixture
    def settings(self, settings: ApiSettings) -> ApiSettings:
        return settings.model_copy(update={"rate_limit_per_minute": 3})

    async def test_headers_on_every_authenticated_answer(self, client: httpx.AsyncClient) -> None:
        before = int(time.time())
        for path, status, remaining in (
            ("/v1/usage", 200, "2"),
            ("/v1/sessions/nope", 404, "1"),
            ("/v1/sessions?limit=x", 400, "0"),
        ):
            answer = await client.get(path)
            assert answer.status_code == status
            assert answer.headers["x-ratelimit-limit"] == "3"
            assert answer.headers["x-ratelimit-remaining"] == remaining
            assert before + 59 <= int(answer.headers["x-ratelimit-reset"]) <= before + 63
        answer = await client.get("/v1/usage")
        assert answer.status_code == 429
        assert answer.json() == {
            "success": False,
            "error": "Too many requests. Please retry after 1 minute.",
        }
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        metrics = (await client.get("/metrics")).text
        assert 'avatar_api_rate_limited_total{by="key"} 1.0' in metrics

    async def test_a_refused_request_does_nothing(
        self, client: httpx.AsyncClient, services: Services
    ) -> None:
        for _ in range(3):
            await client.get("/v1/usage")
        body = {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}
        assert (await client.post("/v1/sessions", json=body)).status_code == 429
        assert (await services.store.totals())["started"] == 0


class Redis:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
class TestRedis:
    @pytest.fixture
    def redis(self, tmp_path: Path) -> Iterator[Redis]:
        server = Redis(tmp_path)
        server.start()
        yield server
        server.stop()

    @pytest.fixture
    async def two(self, redis: Redis) -> AsyncIterator[tuple[RateLimits, RateLimits]]:
        """As in two processes."""
        both = limits(3, redis.url), limits(3, redis.url)
        for rates in both:
            await rates.start()
        yield both
        for rates in both:
            await rates.aclose()

    async def test_two_processes_share_a_window(self, two: tuple[RateLimits, RateLimits]) -> None:
        a, b = two
        windows = [await rates.key_used("k") for rates in (a, b, a, b)]
        assert [w and w.remaining for w in windows] == [2, 1, 0, 0]
        assert [w and w.allowed for w in windows] == [True, True, True, False]
        ends = [w.reset for w in windows if w]
        assert max(ends) - min(ends) <= 1
        assert 58 <= ends[0] - time.time() <= 62

    async def test_redis_away_refuses_nobody_and_comes_back(
        self,
        two: tuple[RateLimits, RateLimits],
        redis: Redis,
    ) -> None:
        a, b = two
        for _ in range(3):
            await a.key_used("k")
        redis.stop()
        began = time.monotonic()
        with structlog.testing.capture_logs() as logged:
            windows = [await rates.key_used("k") for rates in (a, b, a, b)]
        # Once for each process, not for each request.
        assert [line["log_level"] for line in logged] == ["error", "error"]
        assert "redis does not answer" in logged[0]["event"]
        assert time.monotonic() - began < 3
        # Every process counts for itself.
        assert [w and w.remaining for w in windows] == [2, 2, 1, 1]
        redis.start()
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0.2)
                shared = [await rates.key_used("again") for rates in (a, b)]
                if [w and w.remaining for w in shared] == [2, 1]:
                    break
                # A process that still counts alone keeps its own numbers.
                await _forget(redis)

    async def test_redis_that_hangs_holds_nobody_up(
        self, two: tuple[RateLimits, RateLimits], redis: Redis
    ) -> None:
        a, _ = two
        await a.key_used("k")
        redis.signal(signal.SIGSTOP)
        began = time.monotonic()
        windows = [await a.key_used("k") for _ in range(20)]
        assert time.monotonic() - began < 5, "waits for the first, not for each"
        assert [w and w.allowed for w in windows] == [True] * 3 + [False] * 17
        redis.signal(signal.SIGCONT)

    async def test_a_window_without_an_end_is_given_one(
        self, two: tuple[RateLimits, RateLimits], redis: Redis
    ) -> None:
        a, _ = two
        await a.key_used("k")
        assert await _cli(redis, "PERSIST", (await _cli(redis, "KEYS", "*")).strip()) == "1\n"
        window = await a.key_used("k")
        assert window is not None
        assert 58 <= window.reset - time.time() <= 62
        key = (await _cli(redis, "KEYS", "*")).strip()
        assert 58 <= int(await _cli(redis, "TTL", key)) <= 60


async def test_a_url_that_is_no_redis() -> None:
    with pytest.raises(SettingsError, match="AVATAR_API_REDIS_URL must begin with redis://"):
        limits(1, "http://127.0.0.1")


async def _cli(redis: Redis, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "redis-cli", "-p", str(redis.port), *command, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode()


async def _forget(redis: Redis) -> None:
    await _cli(redis, "FLUSHALL")
