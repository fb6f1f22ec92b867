"""The body of ``POST /v1/sessions``: which field is refused first, and how."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.http.errors import ApiError
from api.records import PLATFORMS
from api.sessions.body import RoomRules, form_of, read_create

NOW = datetime(2026, 3, 14, tzinfo=UTC)
EVERYTHING = RoomRules(frozenset(PLATFORMS), livekit=True)
ROOM = {"platform": "livekit", "url": "wss://lk.test", "token": "t"}


def jwt(expires: datetime) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256'})}.{part({'exp': int(expires.timestamp())})}.c2ln"


def read(body: dict[str, Any], rules: RoomRules = EVERYTHING) -> Any:
    return read_create(json.dumps(body).encode(), rules, NOW)


def refused(body: dict[str, Any], rules: RoomRules = EVERYTHING) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(body, rules)
    assert caught.value.status == 400
    return caught.value


def with_room(**room: Any) -> dict[str, Any]:
    return {"avatar": "a", "room": {**ROOM, **room}}


class TestAvatar:
    @pytest.mark.parametrize("value", [None, "", "  ", 5, True, [], {}])
    def test_required(self, value: object) -> None:
        error = refused({"avatar": value, "room": ROOM})
        assert error.body()["error"] == {
            "code": "AVATAR_REQUIRED",
            "message": "Avatar ID is required",
            "suggestion": "Include avatar in the request body",
        }

    def test_the_older_name_counts_only_without_the_newer(self) -> None:
        assert read({"avatar_id": "old", "room": ROOM}).avatar == "old"
        assert read({"avatar_id": "old", "avatar": "new", "room": ROOM}).avatar == "new"
        assert refused({"avatar_id": "old", "avatar": "", "room": ROOM}).code == "AVATAR_REQUIRED"

    @pytest.mark.parametrize(
        ("text", "form"),
        [
            ("avat_01", "id"),
            ("PUBLIC/Avatars/sara-office", "id"),
            ("http://x/y.jpg", "url"),
            ("HTTPS://x/y.jpg", "url"),
            ("data:image/jpeg;base64,AAAA", "base64"),
            ("DATA:image/png;base64,AAAA", "base64"),
            ("A" * 516, "base64"),
            ("A" * 512, "id"),
            ("not base64! " * 60, "id"),
            ("ftp://x", "id"),
        ],
    )
    def test_the_three_forms(self, text: str, form: str) -> None:
        assert form_of(text) == form


class TestRatio:
    @pytest.mark.parametrize(
        ("given", "taken"),
        [("4:3", "4:3"), ("3:4", "3:4"), ("1:1", "1:1"), (None, "4:3"), ("auto", "4:3")],
    )
    def test_known(self, given: object, taken: str) -> None:
        assert read({"avatar": "a", "aspect_ratio": given, "room": ROOM}).aspect_ratio == taken

    @pytest.mark.parametrize("value", ["16:9", "", "4:3 ", 1, [], {}, True])
    def test_unknown(self, value: object) -> None:
        error = refused({"avatar": "a", "aspect_ratio": value, "room": ROOM})
        assert error.body()["error"] == {
            "code": "INVALID_ASPECT_RATIO",
            "message": "Invalid aspect ratio",
            "suggestion": "Use one of: 4:3, 3:4, 1:1",
        }


class TestRoom:
    @pytest.mark.parametrize("room", [None, "livekit", [], 5])
    def test_required(self, room: object) -> None:
        assert refused({"avatar": "a", "room": room}).body()["error"] == {
            "code": "ROOM_REQUIRED",
            "message": "Room configuration is required",
        }
        assert refused({"avatar": "a"}).code == "ROOM_REQUIRED"

    @pytest.mark.parametrize("platform", [None, "", "zoom", "LiveKit", 5, [], {}])
    def test_platform(self, platform: object) -> None:
        assert refused(with_room(platform=platform)).body()["error"] == {
            "code": "INVALID_ROOM_PLATFORM",
            "message": "Invalid room platform",
            "suggestion": "Set room.platform to daily or livekit",
        }

    def test_platforms_the_installation_does_not_have(self) -> None:
        nothing = RoomRules(frozenset({"local"}), livekit=False)
        assert refused(with_room(platform="proxy"), nothing).body()["error"] == {
            "code": "PROXY_NOT_CONFIGURED",
            "message": "Room platform proxy is not enabled on this server",
        }
        assert refused(with_room(platform="daily"), nothing).body()["error"] == {
            "code": "PLATFORM_NOT_AVAILABLE",
            "message": "Room platform daily is not available on this server",
        }
        server_only = RoomRules(frozenset({"local"}), livekit=True)
        assert refused(with_room(platform="proxy"), server_only).code == "PLATFORM_NOT_AVAILABLE"
        assert read(with_room(platform="local"), nothing).room.url is None

    @pytest.mark.parametrize(
        ("platform", "url"),
        [
            ("livekit", None),
            ("livekit", 5),
            ("livekit", ""),
            ("livekit", "lk.test"),
            ("livekit", "ftp://lk.test"),
            ("livekit", "wss://"),
            ("livekit", "wss://[::1"),
            ("livekit", "wss://x:99999"),
            ("livekit", "wss://x y"),
            ("livekit", "wss://x\x00"),
            ("livekit", "wss://u:p@x"),
            ("livekit", "wss://x/" + "a" * 2048),
            ("daily", "http://x.daily.co/r"),
            ("daily", "wss://x.daily.co/r"),
        ],
    )
    def test_url(self, platform: str, url: object) -> None:
        error = refused(with_room(platform=platform, url=url))
        assert (error.code, error.message) == ("INVALID_ROOM_URL", "Invalid room URL")

    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            ("http://lk.test:7880", "ws://lk.test:7880"),
            ("https://lk.test", "wss://lk.test"),
            ("ws://10.0.0.1", "ws://10.0.0.1"),
        ],
    )
    def test_http_means_websocket_to_livekit(self, given: str, taken: str) -> None:
        assert read(with_room(url=given)).room.url == taken

    @pytest.mark.parametrize("token", [None, "", "  ", 5, "a\x00b", "a" * 20_000])
    def test_token(self, token: object) -> None:
        error = refused(with_room(token=token))
        assert (error.code, error.message) == ("ROOM_TOKEN_REQUIRED", "Room token is required")

    def test_expired_token(self) -> None:
        error = refused(with_room(token=jwt(NOW - timedelta(seconds=1))))
        assert (error.code, error.message) == ("ROOM_TOKEN_EXPIRED", "Room token has expired")
        assert read(with_room(token=jwt(NOW + timedelta(seconds=1))))
        assert read(with_room(token="whatever.the.worker says"))

    def test_unknown_keys_are_ignored(self) -> None:
        assert read({**with_room(display_name="x", more=[1]), "extra": 1}).room.url


class TestMetadata:
    @pytest.mark.parametrize("value", [None, [], "x", 5, True])
    def test_must_be_an_object(self, value: object) -> None:
        assert refused({"avatar": "a", "room": ROOM, "metadata": value}).body()["error"] == {
            "code": "INVALID_METADATA",
            "message": "Metadata must be a valid JSON object",
        }

    def test_default(self) -> None:
        assert read({"avatar": "a", "room": ROOM}).metadata == {}

    def test_size(self) -> None:
        # {"k":"…"} is 8 bytes around the text.
        fits = {"k": "é" * ((16 * 1024 - 8) // 2)}
        assert read({"avatar": "a", "room": ROOM, "metadata": fits}).metadata == fits
        over = {"k": fits["k"] + "a"}
        assert refused({"avatar": "a", "room": ROOM, "metadata": over}).body()["error"] == {
            "code": "METADATA_TOO_LARGE",
            "message": "Metadata is larger than 16 KB",
        }

    def test_depth(self) -> None:
        deep: Any = {}
        for _ in range(63):
            deep = {"a": deep}
        assert read({"avatar": "a", "room": ROOM, "metadata": deep})
        error = refused({"avatar": "a", "room": ROOM, "metadata": {"a": deep}})
        assert error.code == "INVALID_METADATA"


def test_auto_start() -> None:
    assert read({"avatar": "a", "room": ROOM}).start
    assert read({"avatar": "a", "room": ROOM, "auto_start": None}).start
    assert not read({"avatar": "a", "room": ROOM, "auto_start": False}).start
    assert refused({"avatar": "a", "room": ROOM, "auto_start": "no"}).code == "INVALID_BODY"


def test_the_first_wrong_field_in_the_tables_order_is_named() -> None:
    body: dict[str, Any] = {
        "avatar": "",
        "aspect_ratio": "16:9",
        "room": {"platform": "zoom", "url": "x", "token": ""},
        "metadata": None,
        "auto_start": 5,
    }
    codes = []
    for field, right in (
        ("avatar", "a"),
        ("aspect_ratio", "4:3"),
        ("platform", "livekit"),
        ("url", "wss://x"),
        ("token", "t"),
        ("metadata", {}),
        ("auto_start", True),
    ):
        codes.append(refused(body).code)
        (body["room"] if field in ("platform", "url", "token") else body)[field] = right
    assert codes == [
        "AVATAR_REQUIRED",
        "INVALID_ASPECT_RATIO",
        "INVALID_ROOM_PLATFORM",
        "INVALID_ROOM_URL",
        "ROOM_TOKEN_REQUIRED",
        "INVALID_METADATA",
        "INVALID_BODY",
    ]
    assert read(body)


def test_fingerprints() -> None:
    same = read(with_room()).fingerprint
    assert same == read({**with_room(), "metadata": {"retry": 1}}).fingerprint
    for other in (with_room(token="u"), with_room(url="wss://y"), {**with_room(), "avatar": "b"}):
        assert read(other).fingerprint != same
    # Two people who ask for a room of ours want a room each.
    assert read(with_room(platform="proxy")).fingerprint == ""
    assert read(with_room(platform="local")).fingerprint == ""


def test_the_token_is_in_no_text_of_it() -> None:
    body = read(with_room(token="very-secret"))
    assert "very-secret" not in repr(body)
