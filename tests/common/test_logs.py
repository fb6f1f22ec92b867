from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from common.logs import configure_logging, masked_text
from worker.ingest.websocket import library_logger
from worker.settings import LogSettings

TOKEN = "session_token_Zm9vYmFyYmF6cXV4"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
KEY = "ah_live_0123456789abcdef0123456789abcdef"
SECRET = "correct-horse-battery"

Read = Callable[[], str]


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest, untouched_logging: None) -> Read:
    stream = io.StringIO()
    configure_logging(LogSettings(level="debug", format=request.param), stream)
    return stream.getvalue


@pytest.fixture
def json_lines(untouched_logging: None) -> Callable[[], list[dict[str, Any]]]:
    stream = io.StringIO()
    configure_logging(LogSettings(level="info"), stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_lines_for_people(untouched_logging: None) -> None:
    stream = Terminal()
    configure_logging(LogSettings(), stream)
    structlog.get_logger("worker.service").info("worker ready", capacity=3)
    logging.getLogger("uvicorn.error").info("Waiting for application startup.")
    logging.getLogger("uvicorn.error").error("it broke")
    first, second = stream.getvalue().splitlines()
    assert "worker ready" in first
    assert "it broke" in second
    assert not first.startswith("{")


def test_whatever_else_reads_it_gets_json(json_lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("worker.service").info("worker ready", capacity=3)
    (line,) = json_lines()
    assert (line["event"], line["capacity"]) == ("worker ready", 3)


class Credentials:
    def __repr__(self) -> str:
        return f"Credentials(token={SECRET!r}, jwt={JWT})"


def fail(text: str) -> None:
    raise ValueError(text)


def everywhere(secret: str) -> None:
    """Put ``secret`` wherever somebody might put it by mistake."""
    log = structlog.get_logger("test")
    log.info("named field", token=secret, session_token=secret, Authorization=secret)
    log.info("more names", api_key=secret, x_api_key=secret, password=secret, cookie=secret)
    log.info("nested", request={"headers": {"authorization": f"Bearer {secret}"}})
    log.info("in a list", headers=[{"x-api-key": secret}], deep=[[({"secret": secret},)]])
    log.info("bytes", body=secret.encode(), other=bytearray(secret.encode()))
    log.bind(access_token=secret).warning("bound")
    with structlog.contextvars.bound_contextvars(session_token=secret):
        log.info("context")
    logging.getLogger("library").warning("sent header %s", f"Authorization: Bearer {secret}")
    logging.getLogger("library").warning("as extra", extra={"token": secret})
    logging.getLogger("library").error("GET /watch/x?token=%s&y=1", secret)
    log.info("body", text=json.dumps({"type": "session.init", "session_token": secret}))
    log.info("mapping", text=str({"session_token": secret, "a": 1}))
    log.info("query", url=f"wss://x/?access_token={secret}&a=1")
    log.info("userinfo", url=f"https://user:{secret}@host/path")
    log.info(f"session_token={secret}")
    try:
        fail(f"bad header Authorization: Bearer {secret}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")


@pytest.mark.parametrize("secret", [TOKEN, JWT, KEY, SECRET])
def test_secret_never_appears(written: Read, secret: str) -> None:
    everywhere(secret)
    output = written()
    assert output.count("***") >= 15
    assert secret not in output


@pytest.mark.parametrize("secret", [TOKEN, JWT, KEY])
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(written: Read, secret: str) -> None:
    log = structlog.get_logger("test")
    log.info(f"loose {secret} text", anything=secret, items=[secret], pair={secret: secret})
    log.info("object", thing=Credentials())
    logging.getLogger("library").info("plain %s", secret)
    local_variable = secret
    try:
        fail(local_variable)
    except ValueError:
        log.exception("failed")
    assert secret not in written()
    assert SECRET not in written()


def test_audio_is_not_logged(written: Read) -> None:
    structlog.get_logger("test").info("audio", pcm=b"\x01\x02" * 500, view=memoryview(b"abc"))
    assert "<1000 bytes>" in written()
    assert "\\x01" not in written()


@pytest.mark.parametrize(
    "text",
    [
        "session ended",
        "cannot listen on 127.0.0.1:8765 (Address already in use)",
        "http://127.0.0.1:8080/watch/sess_01J9Z8Q2M4",
        "tokenizer loaded in 3 ms",
        "the secretary is in: room 5",
        "design: 3",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert masked_text(text) == text


@pytest.mark.parametrize(
    "part", ["a", "token", "session_token_", "eyJaaaaaa-", "://a", "://a:", "bearer ", "token='"]
)
def test_masking_takes_linear_time(part: str) -> None:
    text = part * (200_000 // len(part))
    begun = time.thread_time()
    masked_text(text)
    # Linear: 0.06 s. Quadratic: 10 s and more.
    assert time.thread_time() - begun < 2


def test_json_lines_carry_session_level_and_time(
    json_lines: Callable[[], list[dict[str, Any]]],
) -> None:
    with structlog.contextvars.bound_contextvars(session_id="sess_1"):
        structlog.get_logger("worker.x").info("session ready", join_ms=12)
        extra = {"color_message": "careful: \x1b[36m%d\x1b[0m"}
        logging.getLogger("some.library").warning("careful: %d", 7, extra=extra)
    own, library = json_lines()
    assert own["event"] == "session ready"
    assert own["join_ms"] == 12
    assert (own["session_id"], own["level"], own["logger"]) == ("sess_1", "info", "worker.x")
    assert own["time"].endswith("Z")
    assert library["event"] == "careful: 7"
    assert "color_message" not in library
    assert (library["session_id"], library["logger"]) == ("sess_1", "some.library")


def test_tracebacks_are_one_line_of_json(json_lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        fail("broken")
    except ValueError:
        structlog.get_logger("test").exception("failed")
        logging.getLogger("library").exception("failed")
    for line in json_lines():
        assert "ValueError: broken" in line["exception"]


def test_level(json_lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("test").debug("too much")
    logging.getLogger("websockets.server").info("connection open")
    logging.getLogger("library").debug("too much")
    assert json_lines() == []


def test_websocket_frames_are_never_logged_even_at_debug(written: Read) -> None:
    for name in ("websockets", "websockets.server", library_logger.name, "httpx"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert written() == ""


def test_configuring_twice_logs_once(untouched_logging: None) -> None:
    stream = io.StringIO()
    for _ in range(2):
        configure_logging(LogSettings(), stream)
    structlog.get_logger("test").info("once")
    assert len(stream.getvalue().splitlines()) == 1


def test_values_json_does_not_know_are_written(
    json_lines: Callable[[], list[dict[str, Any]]],
) -> None:
    loop: list[Any] = []
    loop.append(loop)
    structlog.get_logger("test").info("odd", value={1, 2}, kind=object, loop=loop, nan=float("nan"))
    assert json_lines()[0]["value"] == [1, 2]
