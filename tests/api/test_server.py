"""The process: what it opens and closes, how it goes, what uvicorn refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.avatars.catalogue import PUBLIC
from api.container.services import Services
from api.http.listen import PortError, bind
from api.server import http_server, running_services, serve
from api.settings import ApiSettings, SettingsError
from api.store.sql import SqlStore

PROGRAM = """
import asyncio, sys
from pathlib import Path
from api.settings import ApiSettings
from api.server import serve
asyncio.run(serve(ApiSettings(data_dir=Path(sys.argv[1]), port=int(sys.argv[2]),
                              local={"workers": ["http://127.0.0.1:9"]},
                              lifecycle={"drain_s": 2})))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class TestProcess:
    @pytest.fixture
    def process(self, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
        port = free_port()
        started = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={k: v for k, v in os.environ.items() if not k.startswith("AVATAR_")},
        )
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if started.poll() is not None:
                break
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield started, url
        started.kill()
        started.communicate()

    def test_serves_says_where_and_goes_at_a_signal(
        self, process: tuple[subprocess.Popen[str], str], tmp_path: Path
    ) -> None:
        started, url = process
        answer = httpx.get(f"{url}/healthz")
        assert answer.json() == {"ok": True}
        assert "server" not in answer.headers
        # No worker answers at its address.
        assert httpx.get(f"{url}/readyz").json()["missing"] == ["workers"]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as raw:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000)
            raw.settimeout(5)
            assert b"400" in raw.recv(100)
        began = time.monotonic()
        started.send_signal(signal.SIGTERM)
        out, log = started.communicate(timeout=20)
        assert started.returncode == 0, log
        assert time.monotonic() - began < 8
        assert f"Open {url}" in out
        assert '"event": "draining"' in log
        assert "Traceback" not in log
        assert (tmp_path / "avatar.db").exists()


async def test_a_request_under_way_is_answered_while_draining(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow() -> dict[str, int]:
        asked.set()
        await go.wait()
        return {}

    monkeypatch.setattr(services.store, "totals", slow)
    settings = services.settings.model_copy(update={"port": 0, "host": "127.0.0.1"})
    listener = bind(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(timeout=10) as client:
        async with http_server(create_app(services), settings, listener):
            request = asyncio.create_task(client.get(f"{url}/metrics"))
            await asked.wait()
            asyncio.get_running_loop().call_later(0.3, go.set)
        assert (await request).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/healthz")
    listener.close()


class TestOpening:
    def settings(self, folder: Path, **more: object) -> ApiSettings:
        return ApiSettings(
            data_dir=folder,
            local={"workers": ["http://127.0.0.1:9"]},  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )

    async def test_nothing_is_left_open(self, tmp_path: Path) -> None:
        before = asyncio.all_tasks()
        async with running_services(self.settings(tmp_path)) as services:
            await services.store.check()
            # The start does not wait for their portraits to be examined.
            async with asyncio.timeout(60):
                while len(found := await services.store.avatars_of(None)) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert [avatar.id for avatar in found] == list(PUBLIC)
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before

    async def test_what_was_opened_is_closed_when_a_later_part_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = []
        aclose = SqlStore.aclose

        async def noted(store: SqlStore) -> None:
            closed.append(store)
            await aclose(store)

        monkeypatch.setattr(SqlStore, "aclose", noted)
        with pytest.raises(SettingsError, match="MEDIA_URL"):
            async with running_services(self.settings(tmp_path, media_url="ftp://x")):
                pass
        assert len(closed) == 1

    async def test_half_of_livekit(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="AVATAR_API_LIVEKIT__URL"):
            async with running_services(
                self.settings(tmp_path, livekit={"api_key": "k", "api_secret": "s"})
            ):
                pass

    async def test_a_port_in_use(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings = self.settings(tmp_path, port=taken.getsockname()[1])
            with pytest.raises(PortError, match="AVATAR_API_PORT to a free address"):
                await serve(settings)
