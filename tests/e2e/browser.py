"""Watches a page with headless Chromium and tells what a person would see and hear."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, async_playwright

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]

# The browser's own rule cannot be tested: whatever drives the page counts as a person's action.
_SOUND_NEEDS_A_CLICK = """
const play = HTMLMediaElement.prototype.play;
let clicked = false;
addEventListener("click", () => { clicked = true; }, true);
HTMLMediaElement.prototype.play = function () {
  if (this.muted || clicked) return play.call(this);
  return Promise.reject(new DOMException("sound needs a click", "NotAllowedError"));
};
"""

_VIDEO_WIDTH = "document.querySelector('video').videoWidth"

_OBSERVE = """
async ({ seconds, box }) => {
  const video = document.querySelector("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
  const draw = canvas.getContext("2d", { willReadFrequently: true });
  const audio = new AudioContext();
  await audio.resume();
  const analyser = audio.createAnalyser();
  analyser.fftSize = 2048;
  audio.createMediaStreamSource(video.srcObject).connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  const [x, y, w, h] = box.map((part, i) => Math.round(part * (i % 2 ? 120 : 160)));
  let before = null, moved = 0, sum = 0, steps = 0, loudest = 0, brightest = 0;
  const begun = performance.now();
  const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
  const first = frames();
  while (performance.now() - begun < seconds * 1000) {
    draw.drawImage(video, 0, 0, 160, 120);
    const now = draw.getImageData(x, y, w, h).data;
    if (before) {
      let difference = 0;
      for (let i = 0; i < now.length; i += 4) difference += Math.abs(now[i] - before[i]);
      difference /= now.length / 4;
      moved = Math.max(moved, difference);
      sum += difference;
      steps += 1;
    }
    before = now;
    for (let i = 0; i < now.length; i += 4) brightest = Math.max(brightest, now[i]);
    analyser.getFloatTimeDomainData(wave);
    loudest = Math.max(loudest, Math.sqrt(wave.reduce((s, v) => s + v * v, 0) / wave.length));
    await new Promise((done) => setTimeout(done, 40));
  }
  const taken = (performance.now() - begun) / 1000;
  await audio.close();
  return { width: video.videoWidth, height: video.videoHeight, fps: (frames() - first) / taken,
           moved, motion: sum / Math.max(steps, 1), brightest, loudest };
}
"""


@dataclass(frozen=True)
class Observation:
    """What was seen and heard during an observation."""

    width: int
    height: int
    fps: float
    """Pictures shown per second."""
    moved: float
    """Largest mean change between looks 40 ms apart, in grey levels of 255, within the box."""
    motion: float
    """The mean of that."""
    brightest: int
    loudest: float
    """Largest root mean square of 43 ms of sound; 1 is full scale."""


def chromium() -> str:
    """Path of the browser; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    return path


@contextlib.asynccontextmanager
async def open_page(url: str, autoplay: bool = True) -> AsyncIterator[Page]:
    """A page in a fresh headless browser. Errors in the page's own script fail the test.

    ``autoplay`` False: sound needs a click first, as in everybody's browser.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGS)
        try:
            page = await browser.new_page()
            if not autoplay:
                await page.add_init_script(_SOUND_NEEDS_A_CLICK)
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.goto(url)
            yield page
            assert not errors, errors
        finally:
            await browser.close()


async def wait_until_live(page: Page, timeout_s: float = 30.0) -> None:
    """Wait until the watch page plays a picture."""
    await wait_for_state(page, "live", timeout_s)
    async with asyncio.timeout(timeout_s):
        while not await page.evaluate(_VIDEO_WIDTH):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def wait_for_state(page: Page, state: str, timeout_s: float = 30.0) -> None:
    """Wait until the watch page says that it is ``connecting``, ``live`` or ``ended``."""
    await page.locator(f"body[data-state={state}]").wait_for(timeout=timeout_s * 1000)


async def observe(
    page: Page,
    seconds: float = 3.0,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> Observation:
    """Look and listen for a while. ``box``: left, top, width, height to watch, as shares of the
    picture (a mouth, say)."""
    return Observation(**await page.evaluate(_OBSERVE, {"seconds": seconds, "box": list(box)}))
