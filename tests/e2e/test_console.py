"""A person in front of the page: real server, real worker, real browser, a microphone that plays a
file."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Page, expect

from portraits import ANNA
from tests.e2e.browser import chromium, observe
from tests.e2e.console import STRANGE_NAME, open_console, running_server

ROOT = Path(__file__).parents[2]
VOICE = ROOT / "tests" / "fixtures" / "speech" / "papa_mama_baba.wav"
PROSE = ROOT / "assets" / "speech.ogg"
REFUSED = "status of 400"
"""What a browser notes of a photo that was refused."""
TIMEOUT_MS = 20_000

_DROP = """
([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.querySelector("#stage-title");
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    const event = new DragEvent(kind, options);
    target.dispatchEvent(event);
    const taken = event.defaultPrevented || kind === "dragenter";
    if (!taken) throw new Error("the browser would open it");
  }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    chromium()
    with running_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
async def api(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API as the page uses it: the same account."""
    async with httpx.AsyncClient(base_url=server, timeout=20) as client:
        minted = await client.post("/console/key", headers={"Origin": server})
        client.headers["x-api-key"] = minted.json()["api_key"]
        yield client


def picture(paint: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(paint).save(out, "PNG")
    return out.getvalue()


async def drop(page: Page, name: str, media_type: str, content: bytes) -> None:
    await page.evaluate(_DROP, [name, media_type, base64.b64encode(content).decode()])


async def is_in(page: Page, timeout_ms: float = TIMEOUT_MS, **state: str) -> None:
    """Wait until the page's body says so."""
    selector = "body" + "".join(f"[data-{name}={value}]" for name, value in state.items())
    await page.locator(selector).wait_for(timeout=timeout_ms)


async def fits(page: Page) -> None:
    """Nothing sticks out at the side."""
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert page.viewport_size is not None
    assert wide <= page.viewport_size["width"]


async def started(api: httpx.AsyncClient) -> int:
    """Running sessions."""
    return int((await api.get("/v1/sessions", params={"status": "started"})).json()["total"])


async def all_over(api: httpx.AsyncClient) -> None:
    """Wait until no session runs. The page hears of the end from the worker, and may be a moment
    ahead of the API's books."""
    async with asyncio.timeout(5):
        while await started(api):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_photo_is_taken_or_refused_with_a_reason_and_advice(
    server: str, api: httpx.AsyncClient
) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (320, 400, 3), dtype=np.uint8)
    face = Image.open(ANNA.path).convert("RGB").resize((600, 600))
    two = Image.new("RGB", (1200, 600))
    two.paste(face, (0, 0))
    two.paste(face, (600, 0))
    async with open_console(server, expected=(REFUSED,)) as page:
        await is_in(page, phase="choosing")
        verdict = page.locator("#verdict")
        await expect(page.locator("#faces input")).to_have_count(4, timeout=TIMEOUT_MS)

        photo = {"name": "noise.png", "mimeType": "image/png", "buffer": picture(noise)}
        await page.set_input_files("#photo", photo)
        await expect(verdict).to_contain_text("No face detected", timeout=TIMEOUT_MS)
        await expect(verdict).to_contain_text("Use a clear portrait or head-and-shoulders photo")

        await drop(page, "two.png", "image/png", picture(np.asarray(two)))
        await expect(verdict).to_contain_text("More than one face", timeout=TIMEOUT_MS)
        await expect(verdict).to_contain_text("Use a photo of one person")

        await drop(page, "notes.txt", "text/plain", b"not a picture at all")
        await expect(verdict).to_contain_text("Use JPEG, PNG, GIF or WebP", timeout=TIMEOUT_MS)
        await expect(page.locator("#faces input")).to_have_count(4)

        await drop(page, "portrait.jpg", "image/jpeg", ANNA.path.read_bytes())
        await expect(verdict).to_contain_text("This photo works", timeout=TIMEOUT_MS)
        await expect(page.locator("#faces input")).to_have_count(5)
        own = (await api.get("/v1/avatars")).json()["my_avatars"]
        assert len(own) == 1
        assert await page.locator("#faces input:checked").input_value() == own[0]["avatar_id"]
        assert await page.evaluate("document.querySelector('#poster').naturalWidth") > 400

        # A camera shows a test pattern, in which there is nobody.
        await page.click("#open-camera")
        await page.locator("#camera-take").click()
        await expect(verdict).to_contain_text("No face detected", timeout=TIMEOUT_MS)
        await expect(page.locator("#camera")).to_be_hidden()


async def test_a_person_starts_talks_plays_interrupts_and_ends(
    server: str, api: httpx.AsyncClient
) -> None:
    async with open_console(server, VOICE) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await is_in(page, phase="choosing")
        await page.set_input_files("#photo", ANNA.path)
        await expect(page.locator("#verdict")).to_contain_text("works", timeout=TIMEOUT_MS)
        await page.click("#start")
        await is_in(page, phase="live", connection="live")
        assert await started(api) == 1
        await expect(page.locator("#fact-connection")).to_have_text("Live")
        await expect(page.locator("#fact-speaking")).to_have_text("Quiet")
        await expect(page.locator("#minutes")).to_have_text("Unlimited minutes")
        idle = await observe(page, 1.5)
        assert idle.moved > 0, "the picture stands still"
        assert idle.loudest < 0.001

        # Push to talk: held, said, let go, repeated.
        await page.locator("#talk").hover()
        await page.mouse.down()
        await page.locator("#talk[aria-pressed=true]").wait_for()
        await expect(page.locator("#fact-speaking")).to_have_text("Listening")
        await asyncio.sleep(1.2)
        await page.mouse.up()
        await is_in(page, speaking="yes")
        heard = await observe(page, 0.8)
        assert heard.loudest > 0.02
        await expect(page.locator("#fact-latency")).to_have_text(re.compile(r"^\d\.\d\d s$"))
        await expect(page.locator("#fact-speaking")).to_have_text("Speaking")
        await is_in(page, speaking="no")

        # A file of their own.
        await page.set_input_files("#recording", PROSE)
        await is_in(page, speaking="yes")
        await expect(page.locator("#said")).to_contain_text("speech.ogg, 14 s")
        speaking = await observe(page, 1.0)
        assert speaking.loudest > 0.02
        await page.click("#interrupt")
        await is_in(page, 1500, speaking="no")
        await asyncio.sleep(0.5)  # what the browser had received already
        assert (await observe(page, 0.5)).loudest < 0.001

        await page.set_input_files(
            "#recording", {"name": "song.mp3", "mimeType": "audio/mpeg", "buffer": b"no sound"}
        )
        await expect(page.locator("#said")).to_contain_text("This file cannot be played")

        # The sample, and talking over it.
        await page.click("#sample")
        await is_in(page, speaking="yes")
        await page.check("#live")
        await page.locator("#talk").hover()
        await page.mouse.down()
        await is_in(page, 1500, speaking="no")
        await is_in(page, speaking="yes")  # what is said now, while it is said
        await expect(page.locator("#talk")).to_have_attribute("aria-pressed", "true")
        await asyncio.sleep(0.5)  # let go any sooner, it would stay on
        await page.mouse.up()
        await is_in(page, speaking="no")

        await page.click("#end")
        await is_in(page, phase="choosing", connection="ended")
        await expect(page.locator("#notice")).to_contain_text("The session has ended")
        calls = [url for url in asked if "/v1/" in url]
        assert len(calls) < 12, calls  # 60 a minute are allowed
    await all_over(api)


async def test_one_of_the_four_people_is_chosen_and_speaks(
    server: str, api: httpx.AsyncClient
) -> None:
    async with open_console(server, VOICE) as page:
        await is_in(page, phase="choosing")
        cards = page.locator("#faces label")
        await expect(cards.nth(3)).to_be_visible(timeout=TIMEOUT_MS)
        assert (await cards.all_inner_texts())[:4] == ["Anna", "Mark", "Rosa", "Sam"]
        await expect(page.locator("#start")).to_have_text("Talk to Anna")
        for picture in await cards.locator("img").all():
            assert await picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)")
        anna = await page.locator("#poster").get_attribute("src")

        await page.get_by_role("radio", name="Rosa").check()
        await expect(page.locator("#start")).to_have_text("Talk to Rosa")
        await expect(page.locator("#poster")).not_to_have_attribute("src", anna or "")
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#start")).to_have_text("Talk to Sam")
        await page.click("#start")
        await is_in(page, phase="live", connection="live")
        session = (await api.get("/v1/usage")).json()["usage"]["active_sessions"][0]
        assert session["avatar"]["avatar_id"] == "PUBLIC/Avatars/sam"
        await page.click("#sample")
        await is_in(page, speaking="yes")
        seen = await observe(page, 1.0)
        assert seen.moved > 0
        assert seen.loudest > 0.02
        await page.click("#end")
        await is_in(page, phase="choosing")
        await expect(page.locator("#start")).to_have_text("Talk to Sam")
    await all_over(api)


async def test_with_the_keyboard_alone(server: str, api: httpx.AsyncClient) -> None:
    async with open_console(server, VOICE, reduced_motion="reduce") as page:
        await is_in(page, phase="choosing")
        await expect(page.locator("#start")).to_be_enabled()

        async def tab_to(name: str) -> None:
            for _ in range(20):
                await page.keyboard.press("Tab")
                if await page.evaluate("document.activeElement.id") == name:
                    break
            else:
                raise AssertionError(f"{name} cannot be reached")
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(outline) != "none", f"no focus to be seen on {name}"

        await tab_to("start")
        await page.keyboard.press("Enter")
        await is_in(page, phase="live", connection="live")
        await tab_to("talk")
        await page.keyboard.down(" ")
        await page.locator("#talk[aria-pressed=true]").wait_for()
        await asyncio.sleep(0.8)
        await page.keyboard.up(" ")
        await is_in(page, speaking="yes")
        await is_in(page, speaking="no")
        # A short press keeps it on until the next.
        await page.keyboard.press("Enter")
        await page.locator("#talk[aria-pressed=true]").wait_for()
        await asyncio.sleep(0.6)
        await page.keyboard.press("Enter")
        await is_in(page, speaking="yes")
        await tab_to("sample")
        await page.keyboard.press("Enter")
        await expect(page.locator("#said")).to_contain_text("The sample sentence")
        await is_in(page, speaking="yes")
        await tab_to("interrupt")
        await page.keyboard.press("Enter")
        await is_in(page, 1500, speaking="no")
        assert await page.evaluate("document.activeElement.id") == "talk"
        await tab_to("end")
        await page.keyboard.press("Enter")
        await is_in(page, phase="choosing")
        assert await page.evaluate("document.activeElement.id") == "start"
    await all_over(api)


async def test_on_a_phone_by_touch_and_gone_with_the_page(
    server: str, api: httpx.AsyncClient
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    async with open_console(server, VOICE, color_scheme="dark", **phone) as page:
        await is_in(page, phase="choosing")
        await expect(page.locator("#start")).to_be_enabled()
        await expect(page.locator("#start")).to_be_in_viewport()
        await fits(page)
        await page.tap("#start")
        await is_in(page, phase="live", connection="live")
        await fits(page)
        box = await page.locator("#talk").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 844, "the talk button is below the edge"
        finger = await page.context.new_cdp_session(page)
        at = {"x": box["x"] + 40, "y": box["y"] + 40}
        touch = {"type": "touchStart", "touchPoints": [at]}
        await finger.send("Input.dispatchTouchEvent", touch)
        await page.locator("#talk[aria-pressed=true]").wait_for()
        await asyncio.sleep(0.8)
        await finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        await is_in(page, speaking="yes")
        await fits(page)
        assert await started(api) == 1
        await page.close()
        await all_over(api)
        latest = (await api.get("/v1/sessions", params={"limit": 1})).json()["sessions"][0]
        assert latest["end_reason"] in ("client_request", "websocket_closed")


async def test_under_another_name_the_page_asks_for_a_key(
    server: str, api: httpx.AsyncClient
) -> None:
    url = server.replace("127.0.0.1", STRANGE_NAME)
    async with open_console(url, VOICE, expected=("status of 401",)) as page:
        await is_in(page, phase="key")
        await page.fill("#key", "ah_live_wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#notice")).to_contain_text("Invalid API key")
        await page.fill("#key", api.headers["x-api-key"])
        await page.keyboard.press("Enter")
        await is_in(page, phase="choosing")
        await expect(page.locator("#notice")).to_be_hidden()
        await page.click("#open-camera")
        await expect(page.locator("#notice")).to_contain_text("Open this page by https")
        assert await page.evaluate("localStorage.length") == 0
        await page.reload()
        await is_in(page, phase="choosing")


async def test_a_preview_link_speaks_once(server: str, api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/avatars/preview", json={"avatar_id": "PUBLIC/Avatars/anna"})
    url = answer.json()["url"]
    async with open_console(url, expected=("status of 404",)) as page:
        await page.get_by_role("button", name="Play the preview").click()
        await is_in(page, connection="live", speaking="yes")
        seen = await observe(page, 1.0)
        assert seen.moved > 0
        assert seen.loudest > 0.02
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("h1")).to_have_text("That was the preview", timeout=TIMEOUT_MS)
        await all_over(api)
        await page.reload()
        await expect(page.locator("h1")).to_have_text("This preview is no longer available")
