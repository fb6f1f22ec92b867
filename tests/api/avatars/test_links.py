from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from api.avatars.links import AvatarLinks
from api.secret import Secret

NOW = datetime(2026, 3, 14, tzinfo=UTC)
LINKS = AvatarLinks(Secret("s" * 32), "https://avatars.test")


def parts(url):
    split = urlsplit(url)
    query = parse_qs(split.query)
    return split.path, query["exp"][0], query["sig"][0]


def test_a_link_works_for_a_day():
    path, exp, sig = parts(LINKS.url("avat_1", "preview", NOW))
    assert path == "/media/avatars/avat_1/preview"
    assert LINKS.seconds_left("avat_1", "preview", exp, sig, NOW) == 24 * 3600
    almost = NOW + timedelta(hours=24, seconds=-1)
    assert LINKS.seconds_left("avat_1", "preview", exp, sig, almost) == 1
    assert LINKS.seconds_left("avat_1", "preview", exp, sig, almost + timedelta(seconds=1)) == 0


def test_ids_with_slashes_and_odd_characters_are_quoted():
    path, exp, sig = parts(LINKS.url("PUBLIC/Avatars/sara office?", "image", NOW))
    assert path == "/media/avatars/PUBLIC/Avatars/sara%20office%3F/image"
    assert LINKS.seconds_left("PUBLIC/Avatars/sara office?", "image", exp, sig, NOW)


@pytest.mark.parametrize(
    ("avatar", "picture", "exp_by", "sig"),
    [
        ("avat_2", "preview", 0, None),
        ("avat_1", "image", 0, None),
        ("avat_1", "preview", 1, None),
        ("avat_1", "preview", 0, ""),
        ("avat_1", "preview", 0, "A" * 43),
        ("avat_1", "preview", 0, "ä\ud800"),
    ],
)
def test_nothing_of_a_link_can_be_changed(avatar, picture, exp_by, sig):
    _, exp, right = parts(LINKS.url("avat_1", "preview", NOW))
    exp = str(int(exp) + exp_by)
    assert LINKS.seconds_left(avatar, picture, exp, right if sig is None else sig, NOW) == 0


@pytest.mark.parametrize("exp", ["", "-1", "1e99", "٣", "9" * 4000, " 1", "0x10"])
def test_an_expiry_that_is_no_number(exp):
    assert LINKS.seconds_left("avat_1", "preview", exp, "x", NOW) == 0


def test_another_installation_signs_differently():
    _, exp, sig = parts(LINKS.url("avat_1", "preview", NOW))
    other = AvatarLinks(Secret("t" * 32), "https://avatars.test")
    assert other.seconds_left("avat_1", "preview", exp, sig, NOW) == 0
