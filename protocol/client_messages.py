"""What clients say on the WebSocket: JSON text into checked, frozen messages.

Every function raises ``Refused`` with the documented fault, and nothing else, whatever the text.
"""

from __future__ import annotations

import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from protocol.protocol_errors import (
    AUDIO_REQUIRED,
    CREDENTIALS_REQUIRED,
    INVALID_AUDIO_FORMAT,
    INVALID_BASE64,
    INVALID_CREDENTIALS,
    INVALID_DIMENSIONS,
    INVALID_EVENTS,
    INVALID_GRACE,
    INVALID_JSON,
    INVALID_PING_ID,
    INVALID_SAMPLE_RATE,
    INVALID_UTTERANCE_ID,
    NOT_A_MESSAGE,
    ODD_BYTE_COUNT,
    WAV_FILE,
    Fault,
    Refused,
    unknown_type,
)

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 48_000
DEFAULT_SAMPLE_RATE = 16_000
"""Rate of ``agent.speak`` audio that names none, in Hz."""

EVENT_GROUPS = ("playback", "lifecycle", "metrics")
"""Groups of events a client can ask for."""

MAX_UTTERANCE_ID = 64
MAX_GRACE_S = 30.0
_MAX_CREDENTIAL = 512
_MAX_SIDE = 16_384
_MAX_PING_ID = 128
_MAX_COMMAS = 10_000
"""Base64 has none. Ten million bytes of empty lists would keep every session waiting."""

_NO_BASE64_BREAKS = {ord(c): None for c in " \t\r\n"}


@dataclass(frozen=True)
class InitOptions:
    """The opt-in part of ``session.init``."""

    events: tuple[str, ...] | None = None
    """Groups asked for and known; None: the client is a stock one."""
    sample_rate: int | None = None
    """Rate of binary frames in Hz; None: binary frames are off."""
    reconnect_grace_s: float = 0.0


@dataclass(frozen=True)
class Init:
    """``session.init``. ``fault``: why it is refused; the opt-ins are known even then."""

    session_id: str = ""
    token: str = ""
    options: InitOptions = InitOptions()
    fault: Fault | None = None

    def __repr__(self) -> str:
        return f"Init(session_id={self.session_id!r})"


@dataclass(frozen=True)
class SpeakText:
    """``agent.speak``: whole 16-bit samples. ``sample_rate`` None: the client named none."""

    pcm: bytes
    sample_rate: int | None
    utterance_id: str | None


@dataclass(frozen=True)
class SpeakBegin:
    """``agent.speak.begin``."""

    utterance_id: str | None
    sample_rate: int | None


@dataclass(frozen=True)
class SpeakEnd:
    """``agent.speak.end``."""


@dataclass(frozen=True)
class InterruptMessage:
    """``agent.interrupt``."""


@dataclass(frozen=True)
class EndMessage:
    """``session.end``."""


@dataclass(frozen=True)
class Ping:
    """``ping``; ``echo`` holds the fields to send back."""

    echo: dict[str, str | int | float | None]


ClientMessage = Init | SpeakText | SpeakBegin | SpeakEnd | InterruptMessage | EndMessage | Ping


def parse(text: str) -> ClientMessage:
    """Read one text message.

    Raises:
        Refused: with the fault to answer.
    """
    body = _decode(text)
    match body["type"]:
        case "session.init":
            return _init(body)
        case "agent.speak":
            pcm = _audio(body.get("audio"))
            return SpeakText(pcm, _sample_rate(body), _utterance_id(body))
        case "agent.speak.begin":
            return SpeakBegin(_utterance_id(body), _sample_rate(body))
        case "agent.speak.end":
            return SpeakEnd()
        case "agent.interrupt":
            return InterruptMessage()
        case "session.end":
            return EndMessage()
        case "ping":
            return Ping(_ping_echo(body))
        case other:
            raise Refused(unknown_type(other))


def check_pcm(pcm: bytes) -> None:
    """Refuse a WAV file where raw PCM belongs."""
    if pcm.startswith(b"RIFF"):
        raise Refused(WAV_FILE)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def _decode(text: str) -> dict[str, Any]:
    if text.count(",") > _MAX_COMMAS:
        raise Refused(INVALID_JSON)
    try:
        body = _decoder.decode(text)
    except (ValueError, RecursionError):  # ValueError also stands for an integer of 5000 digits
        raise Refused(INVALID_JSON) from None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise Refused(NOT_A_MESSAGE)
    return body


def _integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _well_formed(value: str) -> bool:
    """Whether the string holds no lone surrogate, which JSON can smuggle in and UTF-8 cannot
    carry."""
    return value.isascii() or value == value.encode("utf-8", "replace").decode()


def _sample_rate(body: dict[str, Any]) -> int | None:
    rate = body.get("sample_rate")
    if rate is None:
        return None
    if not _integer(rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE):
        raise Refused(INVALID_SAMPLE_RATE)
    return int(rate)


def _utterance_id(body: dict[str, Any]) -> str | None:
    name = body.get("utterance_id")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or len(name) > MAX_UTTERANCE_ID or not _well_formed(name):
        raise Refused(INVALID_UTTERANCE_ID)
    return name


def _ping_echo(body: dict[str, Any]) -> dict[str, str | int | float | None]:
    if "id" not in body:
        return {}
    echo = body["id"]
    if isinstance(echo, str):
        good = len(echo) <= _MAX_PING_ID and _well_formed(echo)
    elif isinstance(echo, bool):
        good = False
    elif isinstance(echo, int):
        good = abs(echo) < 2**63
    else:
        good = echo is None or isinstance(echo, float)
    if not good:
        raise Refused(INVALID_PING_ID)
    return {"id": echo}


def _audio(value: object) -> bytes:
    if value is None or value == "":
        raise Refused(AUDIO_REQUIRED)
    if not isinstance(value, str):
        raise Refused(INVALID_BASE64)
    pcm = _base64(value)
    if not pcm:
        raise Refused(AUDIO_REQUIRED)
    check_pcm(pcm)
    if len(pcm) % 2:
        raise Refused(ODD_BYTE_COUNT)
    return pcm


def _base64(value: str) -> bytes:
    """Standard alphabet. Line breaks and missing padding, which MIME and some JavaScript encoders
    produce, are taken; anything else outside the alphabet is not."""
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        pass
    compact = value.translate(_NO_BASE64_BREAKS)
    compact += "=" * (-len(compact) % 4)
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except ValueError:
        raise Refused(INVALID_BASE64) from None


def _init(body: dict[str, Any]) -> Init:
    """Opt-ins are read first, so that a refusal is worded for the client that asked."""
    try:
        events = _events(body.get("events"))
    except Refused as refused:
        return Init(fault=refused.fault)
    try:
        options = InitOptions(events, _binary_rate(body.get("audio")), _grace(body))
        session_id, token = _credentials(body)
    except Refused as refused:
        return Init(options=InitOptions(events), fault=refused.fault)
    return Init(session_id, token, options)


def _events(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise Refused(INVALID_EVENTS)
    return tuple(group for group in EVENT_GROUPS if group in value)


def _binary_rate(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(INVALID_AUDIO_FORMAT)
    rate = value.get("sample_rate", DEFAULT_SAMPLE_RATE)
    if (
        value.get("format", "pcm_s16le") != "pcm_s16le"
        or not _integer(value.get("channels", 1), 1, 1)
        or not _integer(rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    ):
        raise Refused(INVALID_AUDIO_FORMAT)
    return int(rate)


def _grace(body: dict[str, Any]) -> float:
    value = body.get("reconnect_grace_s")
    if value is None:
        return 0.0
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_GRACE_S
    ):
        raise Refused(INVALID_GRACE)
    return float(value)


def _credentials(body: dict[str, Any]) -> tuple[str, str]:
    config = body.get("config")
    levels = [body, config] if isinstance(config, dict) else [body]
    session_id = _first(levels, "session_id")
    token = _first(levels, "session_token", "access_token")
    if session_id is None or token is None:
        raise Refused(CREDENTIALS_REQUIRED)
    for name in ("video_width", "video_height"):
        if isinstance(config, dict) and name in config and not _integer(config[name], 1, _MAX_SIDE):
            raise Refused(INVALID_DIMENSIONS)
    for value in (session_id, token):
        # No credential of ours looks like this, so that no session need be asked.
        if len(value) > _MAX_CREDENTIAL or not _well_formed(value):
            raise Refused(INVALID_CREDENTIALS)
    return session_id, token


def _first(levels: list[dict[str, Any]], *names: str) -> str | None:
    for level in levels:
        for name in names:
            value = level.get(name)
            if isinstance(value, str) and value:
                return value
    return None
