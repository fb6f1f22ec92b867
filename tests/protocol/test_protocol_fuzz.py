"""Random clients and random sessions against the protocol: it answers, or it is silent; it never
raises, never says what was not asked for, and never speaks after its close."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from protocol.session_types import SessionInfo, SpeakReceipt
from protocol.state_machine import ServerProtocol

NOW = datetime(2026, 3, 30, tzinfo=UTC)

DOCUMENTED = {
    "connection.established": {"type", "session_id"},
    "agent.speak.confirmed": {"type", "audio_samples"},
    "agent.interrupt.confirmed": {"type"},
    "error": {"type", "error"},
}
"""All that a stock client is ever sent, besides the ``pong`` it asks for."""

numbers = st.one_of(
    st.integers(),
    st.integers(min_value=10**300, max_value=10**301),
    st.floats(),
    st.booleans(),
    st.sampled_from([0, 7999, 8000, 16000, 24000, 48000, 48001, -1]),
)
# Text with lone surrogates, as JSON escapes can carry them.
texts = st.text(st.characters(), max_size=80)
values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
audio = st.one_of(
    st.binary(max_size=64).map(lambda raw: base64.b64encode(raw).decode()),
    st.just(base64.b64encode(b"RIFF1234WAVE").decode()),
    values,
)
names = st.sampled_from(["u1", "u2", "u3", "x" * 65]) | values
types = st.sampled_from(
    [
        "session.init",
        "agent.speak",
        "agent.speak.begin",
        "agent.speak.end",
        "agent.interrupt",
        "session.end",
        "ping",
        "agent.sing",
    ]
)
bodies = st.fixed_dictionaries(
    {"type": types},
    optional={
        "audio": audio,
        "sample_rate": numbers | values,
        "utterance_id": names,
        "id": values,
        "session_id": values,
        "config": values,
        "events": values,
    },
)
plain_speech = st.fixed_dictionaries(
    {"type": st.just("agent.speak"), "audio": st.just("AAAAAA==")},
    optional={"utterance_id": st.sampled_from(["u1", "u2", "u3"])},
)
client_texts = st.one_of(
    bodies.map(json.dumps),
    plain_speech.map(json.dumps),
    values.map(json.dumps),
    st.text(max_size=40),
    st.sampled_from(["[" * 50_000, "{", '{"type":1e999}', "9" * 6000]),
)

INIT = {"type": "session.init", "session_id": "sess_1", "session_token": "t"}
opt_ins = st.fixed_dictionaries(
    {},
    optional={
        "events": st.lists(st.sampled_from(["playback", "lifecycle", "metrics", "x"])),
        "audio": st.just({"sample_rate": 24000}),
        "reconnect_grace_s": st.integers(0, 30),
    },
)

segment_numbers = st.integers(1, 6)
reasons = st.sampled_from(["completed", "interrupted", "session_ended", "error"])
floats = st.floats()
events = st.one_of(
    st.builds(SegmentStarted, segment_numbers, st.none() | texts, st.integers()),
    st.builds(SegmentEnded, segment_numbers, st.none() | texts, floats, floats, reasons),
    st.builds(SessionReady, st.integers(), st.integers(), st.integers()),
    st.builds(SessionExpiring, st.just(NOW), st.integers()),
    st.builds(SessionDraining, st.just(NOW), texts),
    st.builds(
        SessionMetrics,
        floats,
        st.integers(),
        st.integers(),
        st.integers(),
        floats,
        floats,
        st.none() | st.integers(),
    ),
)
ends = st.builds(
    SessionEnded,
    st.sampled_from(["client_request", "expired", "join_failed", "server_error"]),
    floats,
    st.just(NOW),
)

steps = st.one_of(
    st.tuples(st.just("text"), client_texts),
    st.tuples(st.just("text"), client_texts),
    st.tuples(st.just("binary"), st.binary(max_size=20)),
    st.tuples(st.just("event"), events),
    st.tuples(st.just("event"), events),
    st.tuples(st.just("timeout"), st.none()),
    st.tuples(st.just("full"), st.none()),
    st.tuples(st.just("end"), ends),
)


class Shell:
    """Does what the protocol asks, with a session that believes everything, and keeps the wire."""

    def __init__(self, refuse: bool) -> None:
        self.clock = 0.0
        self.protocol = ServerProtocol("1", now=lambda: NOW, monotonic=lambda: self.clock)
        self.wire: list[dict[str, Any]] = []
        self.closes: list[Close] = []
        self.refuse = refuse
        self.full = False

    def feed(self, kind: str, what: Any) -> None:
        self.clock += 0.5
        match kind:
            case "text":
                self.perform(self.protocol.receive_text(what))
            case "binary":
                self.perform(self.protocol.receive_binary(what))
            case "event" | "end":
                self.perform(self.protocol.send_event(what))
            case "timeout":
                self.perform(self.protocol.init_timeout())
            case "full":
                self.full = not self.full

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.closes, "something follows a close"
            match action:
                case SendText(text):
                    assert text.isascii()
                    self.wire.append(json.loads(text, parse_constant=_no_constant))
                case Close():
                    assert len(action.reason.encode()) <= 123
                    self.closes.append(action)
                case Authenticate() if self.refuse:
                    self.perform(self.protocol.rejected("credentials"))
                case Authenticate():
                    info = SessionInfo("sess_1", None, Canvas(640, 480))
                    self.perform(self.protocol.accepted(info))
                case Speak() if self.full:
                    self.perform(self.protocol.speak_refused())
                case Speak():
                    assert action.pcm
                    assert len(action.pcm) % 2 == 0
                    assert 8000 <= action.sample_rate <= 48000
                    (action.utterance_id or "").encode()
                    self.perform(self.protocol.speak_accepted(action, SpeakReceipt(1, 2)))
                case Interrupt():
                    self.perform(self.protocol.interrupted())
                case Begin() | EndSpeech() | EndSession():
                    pass


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} on the wire")


fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@fuzzed
@given(st.lists(steps, max_size=8))
def test_whatever_comes_first(script: list[tuple[str, Any]]) -> None:
    shell = Shell(refuse=True)
    for kind, what in script:
        shell.feed(kind, what)
    assert all(body["type"] == "error" for body in shell.wire)


@fuzzed
@given(st.lists(steps, max_size=30))
def test_stock_client_sees_documented_fields_only(script: list[tuple[str, Any]]) -> None:
    shell = Shell(refuse=False)
    shell.feed("text", json.dumps(INIT))
    for kind, what in script:
        shell.feed(kind, what)
    for body in shell.wire:
        if body["type"] != "pong":
            assert set(body) == DOCUMENTED[body["type"]]


@fuzzed
@given(opt_ins, st.lists(steps, max_size=40))
def test_segments_start_and_end_at_most_once(
    asked: dict[str, Any], script: list[tuple[str, Any]]
) -> None:
    shell = Shell(refuse=False)
    shell.feed("text", json.dumps({**INIT, **asked}))
    for kind, what in script:
        shell.feed(kind, what)
    groups = asked.get("events", [])
    seen: Counter[tuple[str, int]] = Counter()
    ended = set()
    for body in shell.wire:
        if body["type"] in ("agent.speak.started", "agent.speak.ended"):
            assert "playback" in groups
            seen[body["type"], body["segment_id"]] += 1
            if body["type"] == "agent.speak.ended":
                ended.add(body["segment_id"])
            else:
                assert body["segment_id"] not in ended
        if body["type"].startswith("session.") and body["type"] != "session.metrics":
            assert "lifecycle" in groups
        if body["type"] == "error":
            assert ("code" in body) == ("events" in asked)
    assert all(count == 1 for count in seen.values())
    if shell.closes and "lifecycle" in groups:
        assert shell.wire[-1]["type"] == "session.ended"


@fuzzed
@given(
    opt_ins, st.lists(steps, max_size=20), st.sampled_from([protocol_errors.INTERNAL_ERROR, None])
)
def test_failure_or_replacement_ends_the_conversation(
    asked: dict[str, Any], script: list[tuple[str, Any]], fault: protocol_errors.Fault | None
) -> None:
    shell = Shell(refuse=False)
    shell.feed("text", json.dumps({**INIT, **asked}))
    for kind, what in script:
        shell.feed(kind, what)
    protocol = shell.protocol
    shell.perform(protocol.failed(fault) if fault else protocol.replaced())
    assert len(shell.closes) == 1
    for kind, what in script:
        shell.feed(kind, what)
    assert len(shell.closes) == 1
