from __future__ import annotations

from pathlib import Path

import pytest

from common.canvas_settings import CanvasSettings
from models.engine import Canvas
from worker.settings import SettingsError, load_settings


def test_defaults_serve_this_machine_only() -> None:
    settings = load_settings()
    assert settings.loopback
    assert settings.secret is None
    settings.require_guard()
    assert (settings.http_port, settings.ws_port) == (8080, 8765)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HTTP_PORT": "9000",
        "SECRET": "0123456789abcdef",
        "LOG__LEVEL": "debug",
        "WS__INIT_TIMEOUT_S": "3.5",
        "CANVAS__SCALE": "1",
        "RECORD_DIR": "somewhere",
        "PUBLIC_URL": "https://avatars.example.com/",
    }.items():
        monkeypatch.setenv(f"AVATAR_WORKER_{name}", value)
    settings = load_settings(ws_port=0)
    assert (settings.http_port, settings.ws_port) == (9000, 0)
    assert settings.log.level == "debug"
    assert settings.ws.init_timeout_s == 3.5
    assert settings.ws.ping_interval_s == 20
    assert settings.canvas.canvas("4:3") == Canvas(1280, 960)
    assert settings.record_dir == Path("somewhere")
    assert settings.public_url == "https://avatars.example.com"
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("HTTP_PORT", "70000", "65535"),
        ("HTTP_PORT", "x", "integer"),
        ("SECRET", "hunter2", "at least 16"),
        ("DEVICE", "tpu", "cuda"),
        ("ENGINE", "magic", "warp"),
        ("PUBLIC_WS_URL", "https://x", "wss://"),
        ("LOG__FORMAT", "xml", "json"),
        ("CANVAS__SCALE", "9", "up to 2"),
        ("CANVAS__SCALE", "big", "auto"),
        ("CANVAS__LANDSCAPE", "wide", "pattern"),
        ("MAX_SESSIONS", "0", "1"),
        ("WS", "{broken", "LOG__LEVEL"),
    ],
)
def test_bad_values_name_their_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str
) -> None:
    monkeypatch.setenv(f"AVATAR_WORKER_{name}", value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    text = str(failure.value)
    assert what in text
    assert name in text or name == "WS"
    assert "hunter2" not in text
    assert len(text.splitlines()) == 1


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_WORKER_HTTP_PORT", "x")
    monkeypatch.setenv("AVATAR_WORKER_WS_PORT", "y")
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert len(str(failure.value).splitlines()) == 2


def test_misspelt_variable_is_told_with_the_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_WORKER_HTPP_PORT", "1")
    with pytest.raises(SettingsError, match="did you mean AVATAR_WORKER_HTTP_PORT"):
        load_settings()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("avatars.example.com", False),
    ],
)
def test_open_worker_needs_a_secret(host: str, loopback: bool) -> None:
    settings = load_settings(host=host)
    if loopback:
        settings.require_guard()
    else:
        with pytest.raises(SettingsError, match="AVATAR_WORKER_SECRET"):
            settings.require_guard()
    load_settings(host=host, secret="0123456789abcdef").require_guard()


@pytest.mark.parametrize("scale", [0.1, 0.33, 0.5, 1, 2])
def test_every_canvas_suits_the_encoder(scale: float) -> None:
    canvases = CanvasSettings(scale=scale)
    for ratio, proportion in (("4:3", 4 / 3), ("3:4", 3 / 4), ("1:1", 1.0)):
        canvas = canvases.canvas(ratio)  # type: ignore[arg-type]
        assert canvas.width % 16 == canvas.height % 16 == 0
        assert canvas.width / canvas.height == pytest.approx(proportion, rel=0.15)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_one_core_is_left_for_everything_but_rendering(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr("worker.settings.usable_cores", lambda: cores)
    assert load_settings().threads == threads
    assert load_settings(render_threads=4).threads == 4
