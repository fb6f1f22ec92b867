"""Logging: structured, one line per event, and never a secret.

Everything, our own events and what libraries log, runs through one chain of processors that ends in
JSON or a readable console line. Events are static texts; what varies goes into fields. Fields that
are named like secrets, and text that looks like one, are masked before anything is written.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, TextIO

import structlog

from common.settings import LogSettings

MASK = "***"
_MAX_DEPTH = 6

_SECRET_NAME = re.compile(
    r"token|secret|passw|api[-_]?key|x-api-key|authorization|credential|cookie|signature|jwt|bearer",
    re.IGNORECASE,
)

# Every repetition that can fail is bounded, so that masking takes linear time whatever the text.
_SECRET_TEXT = re.compile(
    r"""
      \b(?:session_token_|ah_live_|ah_test_)[\w-]+             # our own tokens and keys
    | \beyJ[\w-]{5,2048}\.[\w-]+(?:\.[\w-]*)?                 # JSON web tokens
    | (?<=bearer\s)[^\s,;"']+                                 # authorization values
    | (?<=basic\s)[A-Za-z0-9+/=_-]{8,}
    | (?<=://)[^/\s:@]{1,256}:[^/\s@]{1,1024}(?=@)             # user:password@ in a URL
    """,
    re.IGNORECASE | re.VERBOSE,
)

_NAMED_VALUE = re.compile(
    r"""(
      (?:token|secret|passw(?:or)?d|api[-_]?key|authorization|signature|\bsig)[\w-]{0,40}["']?
      \s{0,4}[=:]\s{0,4}
      (?:(?:bearer|basic)\s{1,4})?
    )("[^"]{0,4096}"|'[^']{0,4096}'|[^\s,;&}\])]+)""",
    re.IGNORECASE | re.VERBOSE,
)

_QUIET = (
    *("websockets", "aioice", "aiortc", "asyncio", "httpx", "httpcore", "PIL", "multipart"),
    *("asyncpg", "coredis", "boto3", "botocore", "urllib3"),
)
"""Libraries whose debug logs hold whole messages or are too many; they tell warnings only."""


_FOR_MACHINES = ("alembic", "uvicorn.error")
"""Libraries that tell of every step of a start; our own lines say it to people."""


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Route all logging of this process to ``stream`` (standard error by default)."""
    stream = stream if stream is not None else sys.stderr
    people = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _without_colour,
        _local_time() if people else structlog.processors.TimeStamper("iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor
    if people:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
            timestamp_key="time",
        )
    else:
        renderer = structlog.processors.JSONRenderer(default=repr_masked)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Tracebacks become text first, so that they are masked like everything else.
                structlog.processors.format_exc_info,
                mask_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    if people and settings.level != "debug":
        for name in _FOR_MACHINES:
            logging.getLogger(name).setLevel(logging.WARNING)


def _local_time() -> structlog.typing.Processor:
    return structlog.processors.TimeStamper("%H:%M:%S", utc=False, key="time")


def mask_secrets(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that masks secrets in every field, at any depth."""
    return {
        name: MASK if _names_secret(name) else _masked(value, 0) for name, value in event.items()
    }


def masked_text(text: str) -> str:
    """``text`` without what looks like a token, key or authorization value."""
    text = _SECRET_TEXT.sub(MASK, text)
    if "=" in text or ":" in text:  # else there is no need for the longer look
        text = _NAMED_VALUE.sub(lambda found: found[1] + MASK, text)
    return text


def repr_masked(value: object) -> str:
    """How a value that JSON does not know is written."""
    return masked_text(repr(value))


def _without_colour(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """uvicorn adds every message again with terminal colours."""
    event.pop("color_message", None)
    return event


@lru_cache(maxsize=1024)
def _names_secret(field: str) -> bool:
    """The fields of events are few; the keys of what is in them may be anything."""
    return _SECRET_NAME.search(field) is not None


def _masked_field(name: object, value: Any, depth: int) -> Any:
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return MASK
    return _masked(value, depth)


def _masked(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {
            masked_text(str(key)): _masked_field(key, each, depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(each, depth + 1) for each in value]
    return repr_masked(value)
