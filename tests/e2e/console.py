"""The whole product on free ports, and browsers that open its page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Page, async_playwright

from tests.e2e.browser import CHROMIUM_ARGS, chromium

ROOT = Path(__file__).parents[2]
STRANGE_NAME = "avatars.test"
"""A name of this machine that is not a loopback one, for browsers of ``open_console``."""

_START_S = 60.0
_STOP_S = 15.0


@contextlib.contextmanager
def running_server(data_dir: Path) -> Iterator[str]:
    """``python -m api serve`` with a worker of its own; yields its address once the worker is
    ready. The worker draws small pictures, so that two cores have time for a browser."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "serve"],
        cwd=ROOT,
        env={
            **os.environ,
            "AVATAR_API_PORT": "0",
            "AVATAR_API_DATA_DIR": str(data_dir),
            "AVATAR_API_LOG__LEVEL": "warning",
            "AVATAR_API_RATE_LIMIT_PER_MINUTE": "0",
            "AVATAR_WORKER_MAX_SESSIONS": "3",
            "AVATAR_WORKER_CANVAS__SCALE": "0.25",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _address(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _address(process: subprocess.Popen[str]) -> str:
    """Wait for the line that says where it listens, then for its worker."""
    assert process.stdout is not None
    giving_up = threading.Timer(_START_S, process.kill)
    giving_up.start()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.strip().startswith("Open http"):
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(said))
        url = line.strip().removeprefix("Open ")
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        while httpx.get(f"{url}/readyz").status_code != 200:
            giving_up.finished.wait(0.1)
            assert process.poll() is None, "the server went away before its worker was ready"
        return url
    finally:
        giving_up.cancel()


def _drain(stream: Any) -> None:
    for line in stream:
        sys.stdout.write(line)


_CSP = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@contextlib.asynccontextmanager
async def open_console(
    url: str, microphone: Path | None = None, expected: tuple[str, ...] = (), **context: Any
) -> AsyncIterator[Page]:
    """The page in a fresh browser with a camera and a microphone that plays a WAV file. Errors of
    the page and breaches of its policy fail the test, but for console texts in ``expected``;
    ``context``: viewport, color_scheme, has_touch and so on."""
    args = [
        *CHROMIUM_ARGS,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--host-resolver-rules=MAP {STRANGE_NAME} 127.0.0.1",
    ]
    if microphone is not None:
        args.append(f"--use-file-for-fake-audio-capture={microphone}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=args)
        try:
            page = await (await browser.new_context(**context)).new_page()
            await page.add_init_script(_CSP)
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda said: problems.append(said.text) if said.type == "error" else None,
            )
            await page.goto(url)
            yield page
            await asyncio.sleep(0)
            left = [text for text in problems if not any(each in text for each in expected)]
            assert not left, left
        finally:
            await browser.close()
