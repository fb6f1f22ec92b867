from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from api.secret import Secret
from api.sessions.watch_links import WatchLinks
from api.settings import ApiSettings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def links() -> WatchLinks:
    settings = ApiSettings(public_url="https://avatars.example.com/")
    return WatchLinks(Secret("s" * 32), settings)


def parts(url: str) -> tuple[str, str, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return f"{split.scheme}://{split.netloc}{split.path}", query["exp"][0], query["sig"][0]


def test_links_work_until_the_session_expires(links: WatchLinks) -> None:
    urls = links.urls("sess_1", NOW + HOUR, NOW)
    assert parts(urls["watch_url"])[0] == "https://avatars.example.com/watch/sess_1"
    address, exp, sig = parts(urls["whep_url"])
    assert address == "https://avatars.example.com/whep/sess_1"
    assert links.check("sess_1", exp, sig, NOW)
    assert links.check("sess_1", exp, sig, NOW + HOUR), "to be told that it has ended"
    assert not links.check("sess_1", exp, sig, NOW + HOUR + timedelta(minutes=10))


def test_links_of_unlimited_sessions_work_for_a_day(links: WatchLinks) -> None:
    _, exp, sig = parts(links.urls("sess_1", None, NOW)["whep_url"])
    assert links.check("sess_1", exp, sig, NOW + 23 * HOUR)
    assert not links.check("sess_1", exp, sig, NOW + 25 * HOUR)


def test_a_link_opens_its_own_session_only(links: WatchLinks) -> None:
    _, exp, sig = parts(links.urls("sess_1", NOW + HOUR, NOW)["whep_url"])
    later = str(int(exp) + 1)
    assert not links.check("sess_2", exp, sig, NOW)
    assert not links.check("sess_1", later, sig, NOW)
    assert not links.check("sess_1", exp, sig[:-1] + ("A" if sig[-1] != "A" else "B"), NOW)
    other = WatchLinks(Secret("t" * 32), ApiSettings())
    assert not other.check("sess_1", exp, sig, NOW)


@pytest.mark.parametrize("exp", [None, "", "-1", "1e9", "٣", "9" * 13, " 1"])
def test_no_nonsense_as_expiry(links: WatchLinks, exp: str | None) -> None:
    assert not links.check("sess_1", exp, "sig", NOW)
    assert not links.check("sess_1", exp, None, NOW)
