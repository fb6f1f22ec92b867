"""The page that plays a session by WHEP, and the headers it needs."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources


def watch_page() -> tuple[str, dict[str, str]]:
    """The page's HTML and its response headers."""
    page = resources.files("common").joinpath("watch.html").read_text("utf-8")
    return page, _headers(page)


def _headers(page: str) -> dict[str, str]:
    """Nothing but the page's own script and style runs, and it talks to nobody but us."""
    sources = {}
    for element in ("script", "style"):
        content = "".join(re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL))
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        sources[element] = f"'sha256-{digest}'"
    return {
        "Content-Security-Policy": (
            "default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none'; "
            f"form-action 'none'; script-src {sources['script']}; style-src {sources['style']}"
        ),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
