"""What the server says on the WebSocket: events and answers into JSON text.

A client that did not ask for ``events`` is sent exactly the fields of the documented messages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, assert_never

from common.timestamps import timestamp
from protocol.client_messages import InitOptions
from protocol.events import (
    SegmentEnded,
    SegmentStarted,
    SessionDraining,
    SessionEnded,
    SessionEvent,
    SessionExpiring,
    SessionMetrics,
    SessionReady,
)
from protocol.protocol_errors import Fault
from protocol.session_types import SessionInfo, SpeakReceipt

EventGroup = Literal["playback", "lifecycle", "metrics"]


def encode(body: Mapping[str, Any]) -> str:
    """One message as compact ASCII JSON."""
    return json.dumps(body, separators=(",", ":"), allow_nan=False)


def established(info: SessionInfo, options: InitOptions, server_version: str) -> dict[str, Any]:
    """``connection.established``."""
    body: dict[str, Any] = {"type": "connection.established", "session_id": info.session_id}
    if options.events is not None:
        body["events"] = list(options.events)
        if options.sample_rate is not None:
            body["audio"] = {
                "sample_rate": options.sample_rate,
                "format": "pcm_s16le",
                "channels": 1,
            }
        body["expiration"] = None if info.expiration is None else timestamp(info.expiration)
        body["server_version"] = server_version
    return body


def speak_confirmed(receipt: SpeakReceipt | None, extended: bool) -> dict[str, Any]:
    """``agent.speak.confirmed``; no receipt: stale audio was dropped, nothing was queued."""
    body: dict[str, Any] = {"type": "agent.speak.confirmed", "audio_samples": 0}
    if receipt is not None:
        body["audio_samples"] = receipt.audio_samples
        if extended:
            body["segment_id"] = receipt.segment_id
    return body


def interrupt_confirmed() -> dict[str, Any]:
    """``agent.interrupt.confirmed``."""
    return {"type": "agent.interrupt.confirmed"}


def error(fault: Fault, extended: bool) -> dict[str, Any]:
    """``error``."""
    body: dict[str, Any] = {"type": "error", "error": fault.text}
    if extended:
        body["code"] = fault.code
        body["fatal"] = fault.close_code is not None
    return body


def pong(echo: Mapping[str, str | int | float | None], now: datetime) -> dict[str, Any]:
    """``pong``."""
    return {"type": "pong", **echo, "server_time": timestamp(now)}


def group_of(event: SessionEvent) -> EventGroup:
    """The group a client must have asked for to be told of ``event``."""
    match event:
        case SegmentStarted() | SegmentEnded():
            return "playback"
        case SessionMetrics():
            return "metrics"
        case _:
            return "lifecycle"


def event_body(event: SessionEvent, session_id: str) -> dict[str, Any]:
    """The message that tells of ``event``."""
    match event:
        case SegmentStarted():
            return {
                "type": "agent.speak.started",
                **_segment(event, session_id),
                "latency_ms": event.latency_ms,
            }
        case SegmentEnded():
            return {
                "type": "agent.speak.ended",
                **_segment(event, session_id),
                "playback_position": _number(event.playback_position, 3),
                "audio_duration": _number(event.audio_duration, 3),
                "interrupted": event.reason == "interrupted",
                "reason": event.reason,
            }
        case SessionReady():
            video = {"width": event.width, "height": event.height, "fps": event.fps}
            return {"type": "session.ready", "video": video}
        case SessionExpiring():
            return {
                "type": "session.expiring",
                "expiration": timestamp(event.expiration),
                "seconds_left": event.seconds_left,
            }
        case SessionDraining():
            return {
                "type": "session.draining",
                "deadline": timestamp(event.deadline),
                "reason": event.reason,
            }
        case SessionEnded():
            return {
                "type": "session.ended",
                "reason": event.reason,
                "duration": int(_number(event.duration_s, 3) or 0),
                "ended_at": timestamp(event.ended_at),
            }
        case SessionMetrics():
            return {
                "type": "session.metrics",
                "fps": _number(event.fps, 1),
                "frames_dropped": event.frames_dropped,
                "audio_buffer_ms": event.audio_buffer_ms,
                "av_offset_ms": event.av_offset_ms,
                "render_ms_p50": _number(event.render_ms_p50, 1),
                "render_ms_p95": _number(event.render_ms_p95, 1),
                "first_frame_ms": event.first_frame_ms,
            }
        case _:
            assert_never(event)


def _segment(event: SegmentStarted | SegmentEnded, session_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"session_id": session_id, "segment_id": event.segment_id}
    if event.utterance_id is not None:
        body["utterance_id"] = event.utterance_id
    return body


def _number(value: float, digits: int) -> float | None:
    """JSON has no NaN: a measure that does not exist yet is null."""
    return round(value, digits) if math.isfinite(value) else None
