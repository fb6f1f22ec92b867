from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from models.engine import Canvas
from protocol import protocol_errors
from protocol.actions import (
    Action,
    Authenticate,
    Begin,
    Close,
    EndSession,
    EndSpeech,
    Interrupt,
    SendText,
    Speak,
)
from protocol.events import (
    SegmentEnded,
    SegmentStarted,
    SessionDraining,
    SessionEnded,
    SessionExpiring,
    SessionMetrics,
    SessionReady,
)
from protocol.session_types import AUTH_FAILURES, SessionInfo, SpeakReceipt, speech_samples
from protocol.state_machine import MAX_FIRST_MESSAGE, ServerProtocol

NOW = datetime(2026, 3, 30, 12, 0, 0, 999_999, tzinfo=UTC)
INFO = SessionInfo("sess_1", datetime(2026, 3, 30, 13, tzinfo=UTC), Canvas(640, 480))
INIT = {"type": "session.init", "session_id": "sess_1", "session_token": "session_token_x"}
ALL = {"events": ["playback", "lifecycle", "metrics"]}
BINARY = {"audio": {"sample_rate": 24000, "format": "pcm_s16le", "channels": 1}}


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def b64(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


def protocol(clock: Clock | None = None) -> ServerProtocol:
    return ServerProtocol("1.2.3", now=lambda: NOW, monotonic=clock or Clock())


def opened(clock: Clock | None = None, **opt_ins: Any) -> ServerProtocol:
    connection = protocol(clock)
    (ask,) = tell(connection, {**INIT, **opt_ins})
    assert isinstance(ask, Authenticate)
    connection.accepted(INFO)
    return connection


def tell(connection: ServerProtocol, message: object) -> list[Action]:
    return connection.receive_text(message if isinstance(message, str) else json.dumps(message))


def sent(actions: list[Action]) -> list[dict[str, Any]]:
    return [json.loads(action.text) for action in actions if isinstance(action, SendText)]


def only(actions: list[Action]) -> dict[str, Any]:
    (body,) = sent(actions)
    assert len(actions) == 1
    return body


def refusal(actions: list[Action]) -> tuple[str, Close]:
    message, close = actions
    assert isinstance(message, SendText)
    assert isinstance(close, Close)
    body = json.loads(message.text)
    assert body["type"] == "error"
    return body["error"], close


# Entering


def test_credentials_go_to_the_session_and_a_stock_client_sees_the_documented_answer() -> None:
    connection = protocol()
    assert tell(connection, INIT) == [Authenticate("sess_1", "session_token_x")]
    body = only(connection.accepted(INFO))
    assert body == {"type": "connection.established", "session_id": "sess_1"}


def test_opted_in_client_learns_what_was_accepted() -> None:
    connection = protocol()
    tell(connection, {**INIT, "events": ["metrics", "weather", "playback"], **BINARY})
    assert only(connection.accepted(INFO)) == {
        "type": "connection.established",
        "session_id": "sess_1",
        "events": ["playback", "metrics"],
        "audio": {"sample_rate": 24000, "format": "pcm_s16le", "channels": 1},
        "expiration": "2026-03-30T13:00:00Z",
        "server_version": "1.2.3",
    }


def test_empty_event_list_enables_the_extra_fields() -> None:
    connection = protocol()
    tell(connection, {**INIT, "events": []})
    body = only(connection.accepted(SessionInfo("sess_1", None, Canvas(640, 480))))
    assert body["events"] == []
    assert body["expiration"] is None
    assert "audio" not in body


def test_binary_audio_alone_changes_no_server_message() -> None:
    connection = protocol()
    tell(connection, {**INIT, **BINARY})
    assert only(connection.accepted(INFO)).keys() == {"type", "session_id"}


def test_late_client_is_told_that_the_avatar_is_ready_and_the_worker_drains() -> None:
    info = SessionInfo(
        "sess_1", None, Canvas(640, 480), SessionReady(640, 480, 25), SessionDraining(NOW, "x")
    )
    connection = protocol()
    tell(connection, {**INIT, **ALL})
    types = [body["type"] for body in sent(connection.accepted(info))]
    assert types == ["connection.established", "session.ready", "session.draining"]
    stock = protocol()
    tell(stock, INIT)
    assert len(stock.accepted(info)) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.init", "config": {"session_id": "s", "access_token": "t"}},
        {"type": "session.init", "config": {"session_id": "s", "session_token": "t"}},
        {"type": "session.init", "session_id": "s", "access_token": "t"},
        {
            "type": "session.init",
            "config": {
                "session_id": "s",
                "access_token": "t",
                "room": {"platform": "daily", "url": "u", "token": "r"},
                "video_width": 1280,
                "video_height": 720,
            },
        },
    ],
)
def test_older_forms_of_init(message: dict[str, Any]) -> None:
    assert tell(protocol(), message) == [Authenticate("s", "t")]


@pytest.mark.parametrize("side", [0, -1, 12.5, "1280", None, True, 10**9, []])
@pytest.mark.parametrize("name", ["video_width", "video_height"])
def test_invalid_video_dimensions(name: str, side: object) -> None:
    config = {"session_id": "s", "access_token": "t", name: side}
    error, close = refusal(tell(protocol(), {"type": "session.init", "config": config}))
    assert error == "Invalid video dimensions"
    assert close == Close(1008, "invalid_dimensions")


@pytest.mark.parametrize(
    "first",
    [
        {"type": "agent.speak", "audio": "AAAA"},
        {"type": "ping"},
        {"type": "nonsense"},
        "not json",
        "",
        "[]",
        "[" * 100_000,
        {**INIT, "padding": "x" * MAX_FIRST_MESSAGE},
    ],
)
def test_anything_else_first_is_refused(first: object) -> None:
    error, close = refusal(tell(protocol(), first))
    assert error == "First message must be session.init"
    assert close == Close(1008, "init_required")


def test_binary_first_is_refused() -> None:
    error, close = refusal(protocol().receive_binary(b"\0\0"))
    assert error == "First message must be session.init"
    assert close.code == 1008


def test_init_timeout() -> None:
    connection = protocol()
    error, close = refusal(connection.init_timeout())
    assert error == "First message must be session.init"
    assert close == Close(1008, "init_timeout")
    assert connection.init_failed
    assert opened().init_timeout() == []


@pytest.mark.parametrize(
    "gap", [{"session_id": None}, {"session_token": ""}, {"session_id": 5}, {"session_token": []}]
)
def test_missing_credentials(gap: dict[str, Any]) -> None:
    error, close = refusal(tell(protocol(), {**INIT, **gap}))
    assert error == "session_id and session_token are required"
    assert close == Close(1008, "invalid_init")


@pytest.mark.parametrize("value", ["\ud800", "x" * 10_000])
@pytest.mark.parametrize("name", ["session_id", "session_token"])
def test_absurd_credentials_never_reach_the_directory(name: str, value: str) -> None:
    error, close = refusal(tell(protocol(), {**INIT, name: value}))
    assert error == "Invalid session credentials"
    assert close == Close(1008, "invalid_credentials")


@pytest.mark.parametrize(
    ("kind", "text", "close", "by_client"),
    [
        ("credentials", "Invalid session credentials", Close(1008, "invalid_credentials"), True),
        ("ended", "Session has ended", Close(1008, "session_ended"), True),
        ("not_started", "Session has not been started", Close(1008, "session_not_started"), True),
        ("room_platform", "Invalid room platform", Close(1011, "invalid_room_platform"), False),
        (
            "start_failed",
            "Avatar server could not be started",
            Close(1011, "start_failed"),
            False,
        ),
        ("join_failed", "Could not join the room", Close(1011, "join_failed"), False),
    ],
)
def test_refused_by_the_directory(kind: Any, text: str, close: Close, by_client: bool) -> None:
    connection = protocol()
    tell(connection, INIT)
    assert refusal(connection.rejected(kind)) == (text, close)
    assert connection.init_failed is by_client


def test_every_refusal_of_the_directory_has_its_row() -> None:
    assert set(protocol_errors.AUTH_FAULTS) == set(AUTH_FAILURES)


@pytest.mark.parametrize(
    ("opt_in", "text"),
    [
        ({"events": "playback"}, "events must be"),
        ({"events": {}}, "events must be"),
        ({"audio": "pcm"}, "audio must be"),
        ({"audio": {"format": "opus"}}, "audio must be"),
        ({"audio": {"channels": 2}}, "audio must be"),
        ({"audio": {"channels": True}}, "audio must be"),
        ({"audio": {"sample_rate": 96000}}, "audio must be"),
        ({"reconnect_grace_s": 31}, "reconnect_grace_s must be"),
        ({"reconnect_grace_s": -1}, "reconnect_grace_s must be"),
        ({"reconnect_grace_s": "10"}, "reconnect_grace_s must be"),
        ({"reconnect_grace_s": True}, "reconnect_grace_s must be"),
    ],
)
def test_unusable_opt_ins_name_the_field(opt_in: dict[str, Any], text: str) -> None:
    error, close = refusal(tell(protocol(), {**INIT, **opt_in}))
    assert error.startswith(text)
    assert close == Close(1008, "invalid_init")


def test_null_opt_ins_count_as_absent() -> None:
    connection = opened(events=None, audio=None, reconnect_grace_s=None)
    assert connection.reconnect_grace_s == 0
    assert connection.options.events is None


def test_grace() -> None:
    assert opened(reconnect_grace_s=12.5).reconnect_grace_s == 12.5
    assert opened().reconnect_grace_s == 0


def test_refusals_carry_code_and_fatal_for_opted_in_clients_only() -> None:
    connection = protocol()
    tell(connection, {**INIT, "events": []})
    assert sent(connection.rejected("credentials")) == [
        {
            "type": "error",
            "error": "Invalid session credentials",
            "code": "INVALID_CREDENTIALS",
            "fatal": True,
        }
    ]
    stock = protocol()
    tell(stock, INIT)
    assert sent(stock.rejected("credentials"))[0].keys() == {"type", "error"}


def test_answer_to_authenticate_is_due_before_anything_else() -> None:
    connection = protocol()
    tell(connection, INIT)
    with pytest.raises(RuntimeError, match="Authenticate"):
        tell(connection, {"type": "ping"})
    with pytest.raises(RuntimeError, match="Authenticate"):
        opened().accepted(INFO)


# Mistakes that leave the socket open


@pytest.mark.parametrize(
    ("message", "text", "code"),
    [
        (INIT, "Session is already initialized", "ALREADY_INITIALIZED"),
        ("{", "Invalid JSON", "INVALID_MESSAGE"),
        ("", "Invalid JSON", "INVALID_MESSAGE"),
        ("\ufeff{}", "Invalid JSON", "INVALID_MESSAGE"),
        ('{"type":"ping","id":NaN}', "Invalid JSON", "INVALID_MESSAGE"),
        ('{"type":"ping","id":1e999}', "Invalid JSON", "INVALID_MESSAGE"),
        ('{"type":"ping","id":' + "9" * 5000 + "}", "Invalid JSON", "INVALID_MESSAGE"),
        ('{"type":"ping","x":' + "[" * 200_000, "Invalid JSON", "INVALID_MESSAGE"),
        ("[1]", "Message must be a JSON object with a type", "INVALID_MESSAGE"),
        ("null", "Message must be a JSON object with a type", "INVALID_MESSAGE"),
        ("{}", "Message must be a JSON object with a type", "INVALID_MESSAGE"),
        ({"type": 7}, "Message must be a JSON object with a type", "INVALID_MESSAGE"),
        ({"type": "agent.sing"}, "Unknown message type: agent.sing", "UNKNOWN_TYPE"),
        ({"type": "\ud800"}, "Unknown message type: ?", "UNKNOWN_TYPE"),
        ({"type": "x" * 9999}, f"Unknown message type: {'x' * 64}...", "UNKNOWN_TYPE"),
        ({"type": "agent.speak"}, "Audio data is required", "AUDIO_REQUIRED"),
        ({"type": "agent.speak", "audio": None}, "Audio data is required", "AUDIO_REQUIRED"),
        ({"type": "agent.speak", "audio": ""}, "Audio data is required", "AUDIO_REQUIRED"),
        ({"type": "agent.speak", "audio": " \n"}, "Audio data is required", "AUDIO_REQUIRED"),
        ({"type": "agent.speak", "audio": "!!!!"}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": "AAAAA"}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": "AA==AA=="}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": "__--"}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": "ÄÖÜß"}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": 5}, "Invalid base64 audio", "INVALID_AUDIO"),
        ({"type": "agent.speak", "audio": [1, 2]}, "Invalid base64 audio", "INVALID_AUDIO"),
        (
            {"type": "agent.speak", "audio": b64(b"abc")},
            "Audio must be 16-bit PCM",
            "INVALID_AUDIO",
        ),
        (
            {"type": "agent.speak", "audio": b64(b"RIFF\x24\0\0\0WAVEfmt x")},
            "Audio must be raw PCM, not a WAV file",
            "INVALID_AUDIO",
        ),
        *[
            (
                {"type": "agent.speak", "audio": "AAAAAA==", "sample_rate": rate},
                "Invalid sample rate",
                "INVALID_SAMPLE_RATE",
            )
            for rate in (0, -1, 7999, 48001, 10**30, 16000.5, "16000", True, [], {})
        ],
        (
            {"type": "agent.speak.begin", "sample_rate": 5},
            "Invalid sample rate",
            "INVALID_SAMPLE_RATE",
        ),
        *[
            (
                {"type": "agent.speak", "audio": "AAAAAA==", "utterance_id": name},
                "utterance_id must be a string of at most 64 characters",
                "INVALID_MESSAGE",
            )
            for name in ("x" * 65, 5, ["u"], "\udfff")
        ],
        (
            {"type": "ping", "id": {"nested": 1}},
            "id must be a string of at most 128 characters or a number",
            "INVALID_MESSAGE",
        ),
        (
            {"type": "ping", "id": True},
            "id must be a string of at most 128 characters or a number",
            "INVALID_MESSAGE",
        ),
    ],
)
def test_mistakes_are_answered_and_have_no_effect(message: object, text: str, code: str) -> None:
    assert only(tell(opened(), message)) == {"type": "error", "error": text}
    connection = opened(events=[])
    assert only(tell(connection, message)) == {
        "type": "error",
        "error": text,
        "code": code,
        "fatal": False,
    }
    (speak,) = tell(connection, {"type": "agent.speak", "audio": "AAAAAA=="})
    assert isinstance(speak, Speak)


def test_binary_frames_need_the_opt_in() -> None:
    assert only(opened(events=[]).receive_binary(b"\0\0"))["code"] == "BINARY_NOT_ENABLED"


def test_wav_file_in_binary_frames() -> None:
    connection = opened(**BINARY)
    error = only(connection.receive_binary(b"RIFF\x24\0\0\0WAVEfmt "))["error"]
    assert error == "Audio must be raw PCM, not a WAV file"


# Speaking


def test_speech_goes_to_the_session_and_its_count_to_the_client() -> None:
    connection = opened()
    (speak,) = tell(
        connection, {"type": "agent.speak", "audio": b64(b"\1\2" * 72000), "sample_rate": 24000}
    )
    assert speak == Speak(b"\1\2" * 72000, 24000, None, confirm=True)
    assert only(connection.speak_accepted(speak, SpeakReceipt(3, 48000))) == {
        "type": "agent.speak.confirmed",
        "audio_samples": 48000,
    }


def test_opted_in_client_learns_the_segment() -> None:
    connection = opened(events=[])
    (speak,) = tell(connection, {"type": "agent.speak", "audio": "AAAAAA=="})
    assert isinstance(speak, Speak)
    assert only(connection.speak_accepted(speak, SpeakReceipt(3, 2)))["segment_id"] == 3


def test_full_backlog() -> None:
    connection = opened(events=[])
    tell(connection, {"type": "agent.speak", "audio": "AAAAAA=="})
    body = only(connection.speak_refused())
    assert (body["error"], body["code"], body["fatal"]) == (
        "Audio buffer is full",
        "BUFFER_FULL",
        False,
    )


@pytest.mark.parametrize(
    ("samples", "rate", "expected"),
    [
        (8000, 8000, 16000),
        (16001, 16000, 16001),
        (24000, 24000, 16000),
        (44100, 44100, 16000),
        (48000, 48000, 16000),
        (1, 48000, 0),
        (2, 48000, 1),
        (3, 32000, 2),  # 1.5 is rounded up
        (1, 8000, 2),
        (441, 44100, 160),
    ],
)
def test_samples_are_counted_at_16_khz(samples: int, rate: int, expected: int) -> None:
    assert speech_samples(samples, rate) == expected


@pytest.mark.parametrize("audio", ["AQIDBA==", "AQIDBA", "AQID\r\nBA==", " AQ ID\tBA\n"])
def test_base64_with_line_breaks_or_without_padding(audio: str) -> None:
    (speak,) = tell(opened(), {"type": "agent.speak", "audio": audio})
    assert speak == Speak(b"\1\2\3\4", 16000, None, confirm=True)


def test_rate_of_speech_that_names_none() -> None:
    def rate(connection: ServerProtocol) -> int:
        (speak,) = tell(connection, {"type": "agent.speak", "audio": "AAAAAA=="})
        assert isinstance(speak, Speak)
        return speak.sample_rate

    assert rate(opened()) == 16000
    assert rate(opened(**BINARY)) == 24000
    connection = opened(**BINARY)
    tell(connection, {"type": "agent.speak.begin", "sample_rate": 44100})
    assert rate(connection) == 44100
    tell(connection, {"type": "agent.speak.end"})
    assert rate(connection) == 24000


def test_begin_and_end_reach_the_session() -> None:
    connection = opened(**BINARY)
    begin = {"type": "agent.speak.begin", "utterance_id": "u", "sample_rate": 48000}
    assert tell(connection, begin) == [Begin("u", 48000)]
    assert connection.receive_binary(b"\1\2") == [Speak(b"\1\2", 48000, None, confirm=False)]
    assert tell(connection, {"type": "agent.speak.end"}) == [EndSpeech()]
    assert connection.receive_binary(b"\1\2") == [Speak(b"\1\2", 24000, None, confirm=False)]


def test_binary_frames_split_anywhere_give_the_same_samples() -> None:
    connection = opened(**BINARY)
    pcm = bytes(range(200))
    heard = b""
    for cut in ((0, 3), (3, 4), (4, 4), (4, 5), (5, 100), (100, 101), (101, 200)):
        for action in connection.receive_binary(pcm[slice(*cut)]):
            assert isinstance(action, Speak)
            assert len(action.pcm) % 2 == 0
            heard += action.pcm
    assert heard == pcm


def test_odd_byte_does_not_leak_into_the_next_speech() -> None:
    connection = opened(**BINARY)
    connection.receive_binary(b"\1\2\3")
    tell(connection, {"type": "agent.interrupt"})
    assert connection.receive_binary(b"\4\5") == [Speak(b"\4\5", 24000, None, confirm=False)]


def test_binary_frames_are_not_confirmed_but_refused_when_full() -> None:
    connection = opened(**BINARY)
    (speak,) = connection.receive_binary(b"\1\2")
    assert isinstance(speak, Speak)
    assert connection.speak_accepted(speak, SpeakReceipt(1, 1)) == []
    assert only(connection.speak_refused())["error"] == "Audio buffer is full"


# Interrupts


def test_interrupt_is_confirmed_after_the_pending_segments_have_ended() -> None:
    connection = opened(**ALL)
    assert tell(connection, {"type": "agent.interrupt"}) == [Interrupt()]
    messages = []
    for number in (1, 2):
        messages += sent(connection.send_event(ended(number, "interrupted")))
    messages += sent(connection.interrupted())
    assert [body["type"] for body in messages] == [
        "agent.speak.ended",
        "agent.speak.ended",
        "agent.interrupt.confirmed",
    ]
    assert messages[-1] == {"type": "agent.interrupt.confirmed"}


def speak(name: str | None) -> dict[str, Any]:
    body = {"type": "agent.speak", "audio": "AAAAAA=="}
    return body if name is None else {**body, "utterance_id": name}


def test_late_audio_of_an_interrupted_utterance_is_dropped_for_ten_seconds() -> None:
    clock = Clock()
    connection = opened(clock, events=[])
    tell(connection, speak("u1"))
    tell(connection, {"type": "agent.interrupt"})
    assert only(tell(connection, speak("u1"))) == {
        "type": "agent.speak.confirmed",
        "audio_samples": 0,
    }
    assert isinstance(tell(connection, speak("u2"))[0], Speak)
    assert isinstance(tell(connection, speak(None))[0], Speak)
    clock.seconds += 9.9
    assert only(tell(connection, speak("u1")))["audio_samples"] == 0
    clock.seconds += 0.2
    assert isinstance(tell(connection, speak("u1"))[0], Speak)


def test_utterances_that_waited_behind_the_interrupted_one_are_dropped_too() -> None:
    connection = opened()
    tell(connection, speak("u1"))
    tell(connection, {"type": "agent.speak.end"})
    tell(connection, speak("u2"))
    tell(connection, {"type": "agent.interrupt"})
    connection.send_event(ended(1, "interrupted", "u1"))
    connection.send_event(ended(2, "interrupted", "u2"))
    assert only(tell(connection, speak("u1")))["audio_samples"] == 0
    assert only(tell(connection, speak("u2")))["audio_samples"] == 0


def test_utterance_heard_to_its_end_is_not_interrupted_later() -> None:
    connection = opened()
    tell(connection, speak("u1"))
    connection.send_event(ended(1, "completed", "u1"))
    tell(connection, {"type": "agent.interrupt"})
    assert isinstance(tell(connection, speak("u1"))[0], Speak)


def test_binary_frames_of_a_begun_stale_utterance_are_dropped() -> None:
    connection = opened(**BINARY)
    begin = {"type": "agent.speak.begin", "utterance_id": "u1"}
    tell(connection, begin)
    tell(connection, {"type": "agent.interrupt"})
    assert tell(connection, begin) == []
    assert connection.receive_binary(b"\1\2") == []
    assert only(tell(connection, speak(None)))["audio_samples"] == 0
    assert tell(connection, {"type": "agent.speak.end"}) == []
    assert connection.receive_binary(b"\1\2") != []


# Ending


def test_session_end_by_the_client() -> None:
    connection = opened(**ALL)
    assert tell(connection, {"type": "session.end"}) == [EndSession()]
    late = only(tell(connection, speak(None)))
    assert (late["error"], late["code"]) == ("Session has ended", "SESSION_ENDED")
    assert only(tell(connection, {"type": "ping"}))["type"] == "pong"
    message, close = connection.send_event(SessionEnded("client_request", 330.7, NOW))
    assert sent([message]) == [
        {
            "type": "session.ended",
            "reason": "client_request",
            "duration": 330,
            "ended_at": "2026-03-30T12:00:00Z",
        }
    ]
    assert close == Close(1000, "client_request")


def test_binary_after_session_end() -> None:
    connection = opened(**BINARY)
    tell(connection, {"type": "session.end"})
    assert only(connection.receive_binary(b"\0\0"))["error"] == "Session has ended"


@pytest.mark.parametrize(
    ("reason", "code", "error"),
    [
        ("client_request", 1000, None),
        ("room_empty", 1000, None),
        ("never_joined", 1000, None),
        ("agent_left", 1000, None),
        ("expired", 1000, None),
        ("minutes_exhausted", 1000, None),
        ("room_closed", 1000, None),
        ("removed_from_room", 1000, None),
        ("server_shutdown", 1001, None),
        ("join_failed", 1011, "Could not join the room"),
        ("connection_lost", 1011, None),
        ("server_error", 1011, "Internal server error"),
    ],
)
def test_close_says_why_the_session_ended(reason: Any, code: int, error: str | None) -> None:
    connection = opened()
    *messages, close = connection.send_event(SessionEnded(reason, 1.0, NOW))
    assert close == Close(code, reason)
    expected = [] if error is None else [{"type": "error", "error": error}]
    assert sent(messages) == expected
    connection = opened(**ALL)
    *messages, close = connection.send_event(SessionEnded(reason, 1.0, NOW))
    assert sent(messages)[-1]["type"] == "session.ended"


def test_failure_inside() -> None:
    text, close = refusal(opened().failed(protocol_errors.INTERNAL_ERROR))
    assert (text, close) == ("Internal server error", Close(1011, "internal_error"))


def test_replaced_socket_is_closed_without_a_word() -> None:
    assert opened(**ALL).replaced() == [Close(1008, "replaced")]


def test_nothing_follows_a_close() -> None:
    connection = opened(**ALL, **BINARY)
    (action,) = tell(connection, speak(None))
    assert isinstance(action, Speak)
    connection.send_event(SessionEnded("expired", 1.0, NOW))
    assert tell(connection, speak(None)) == []
    assert connection.receive_binary(b"\0\0") == []
    assert connection.speak_accepted(action, SpeakReceipt(1, 2)) == []
    assert connection.speak_refused() == []
    assert connection.interrupted() == []
    assert connection.replaced() == []
    assert connection.init_timeout() == []
    assert connection.send_event(SessionReady(640, 480, 25)) == []


# Events and pings


def ended(number: int, reason: Any, name: str | None = None) -> SegmentEnded:
    return SegmentEnded(number, name, 1.84, 3.0, reason)


EVENTS = [
    (
        SegmentStarted(3, "u-17", 412),
        {
            "type": "agent.speak.started",
            "session_id": "sess_1",
            "segment_id": 3,
            "utterance_id": "u-17",
            "latency_ms": 412,
        },
    ),
    (
        SegmentEnded(3, "u-17", 1.84004, 3.0, "interrupted"),
        {
            "type": "agent.speak.ended",
            "session_id": "sess_1",
            "segment_id": 3,
            "utterance_id": "u-17",
            "playback_position": 1.84,
            "audio_duration": 3.0,
            "interrupted": True,
            "reason": "interrupted",
        },
    ),
    (
        SegmentEnded(4, None, 3.0, 3.0, "completed"),
        {
            "type": "agent.speak.ended",
            "session_id": "sess_1",
            "segment_id": 4,
            "playback_position": 3.0,
            "audio_duration": 3.0,
            "interrupted": False,
            "reason": "completed",
        },
    ),
    (
        SessionReady(1280, 960, 25),
        {"type": "session.ready", "video": {"width": 1280, "height": 960, "fps": 25}},
    ),
    (
        SessionExpiring(NOW, 60),
        {"type": "session.expiring", "expiration": "2026-03-30T12:00:00Z", "seconds_left": 60},
    ),
    (
        SessionDraining(NOW, "server_shutdown"),
        {
            "type": "session.draining",
            "deadline": "2026-03-30T12:00:00Z",
            "reason": "server_shutdown",
        },
    ),
    (
        SessionMetrics(25.0, 0, 320, 12, 18.24, float("nan"), None),
        {
            "type": "session.metrics",
            "fps": 25.0,
            "frames_dropped": 0,
            "audio_buffer_ms": 320,
            "av_offset_ms": 12,
            "render_ms_p50": 18.2,
            "render_ms_p95": None,
            "first_frame_ms": None,
        },
    ),
]


@pytest.mark.parametrize(("event", "body"), EVENTS, ids=lambda value: type(value).__name__)
def test_event_messages(event: Any, body: dict[str, Any]) -> None:
    assert only(opened(**ALL).send_event(event)) == body
    assert opened().send_event(event) == []
    assert opened(events=[]).send_event(event) == []


@pytest.mark.parametrize(
    ("group", "types"),
    [
        ("playback", {"agent.speak.started", "agent.speak.ended"}),
        ("lifecycle", {"session.ready", "session.expiring", "session.draining"}),
        ("metrics", {"session.metrics"}),
    ],
)
def test_only_the_groups_asked_for(group: str, types: set[str]) -> None:
    connection = opened(events=[group])
    got = {body["type"] for event, _ in EVENTS for body in sent(connection.send_event(event))}
    assert got == types


def test_segment_ends_once_and_never_starts_after_its_end() -> None:
    connection = opened(**ALL)
    assert len(connection.send_event(ended(1, "completed"))) == 1
    assert connection.send_event(ended(1, "session_ended")) == []
    assert connection.send_event(SegmentStarted(1, None, 10)) == []


def test_ping_works_for_everybody() -> None:
    assert only(tell(opened(), {"type": "ping", "id": "a"})) == {
        "type": "pong",
        "id": "a",
        "server_time": "2026-03-30T12:00:00Z",
    }
    assert "id" not in only(tell(opened(), {"type": "ping"}))


def test_secrets_do_not_show_in_representations() -> None:
    (ask,) = tell(protocol(), INIT)
    assert "session_token_x" not in repr(ask)
