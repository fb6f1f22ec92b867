"""The WebSocket protocol as a state machine without I/O.

Put in what arrives, get back what to do. The shell around it holds the socket and the session:

    for action in protocol.receive_text(text):
        ...  # send it, close, or ask the session and feed its answer back in

One message is fed in at a time, once the actions of the one before are done; events of the session
go in whenever they happen. An ``Authenticate`` must be answered by ``accepted`` or ``rejected``
before anything else is received. After a ``Close`` every method returns no action.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from protocol import client_messages, protocol_errors, server_messages
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
from protocol.client_messages import DEFAULT_SAMPLE_RATE, InitOptions
from protocol.events import SegmentEnded, SegmentStarted, SessionEnded, SessionEvent
from protocol.protocol_errors import AUTH_FAULTS, END_FAULTS, Fault, Refused
from protocol.session_types import AuthFailure, SessionInfo, SpeakReceipt
from protocol.stale_utterances import StaleUtterances

MAX_FIRST_MESSAGE = 64 * 1024
"""Characters of the first message. Nothing larger is parsed for a client nobody knows yet."""


class State(Enum):
    """Where a socket is in its life."""

    AWAITING_INIT = "awaiting_init"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    ENDING = "ending"
    """The client ended the session; its end has not been announced yet."""
    CLOSED = "closed"


class ServerProtocol:
    """The server's side of one socket."""

    def __init__(
        self,
        server_version: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` dates what is sent; ``monotonic`` (seconds) ages interrupted utterances."""
        self.state = State.AWAITING_INIT
        self.init_failed = False
        """Whether the client was refused, by its own fault, before it entered a session."""
        self.options = InitOptions()
        self._server_version = server_version
        self._now = now
        self._session_id = ""
        self._stale = StaleUtterances(monotonic)
        self._utterance: str | None = None
        self._dropping = False
        self._segment_rate: int | None = None
        self._odd_byte = b""
        self._announced = _OncePerSegment()

    @property
    def reconnect_grace_s(self) -> float:
        """Seconds the session survives an abnormal loss of this socket."""
        return self.options.reconnect_grace_s

    # What the client does

    def receive_text(self, text: str) -> list[Action]:
        """A text message arrived."""
        if self._deaf():
            return []
        if self.state is State.AWAITING_INIT:
            return self._first_message(text)
        try:
            message = client_messages.parse(text)
            return self._message(message)
        except Refused as refused:
            return self._fail(refused.fault)

    def receive_binary(self, data: bytes) -> list[Action]:
        """A binary message arrived."""
        if self._deaf():
            return []
        if self.state is State.AWAITING_INIT:
            return self._fail(protocol_errors.INIT_REQUIRED)
        if self.options.sample_rate is None:
            return self._fail(protocol_errors.BINARY_NOT_ENABLED)
        if self.state is State.ENDING:
            return self._ended_already()
        if not data or self._dropping:
            return []
        if not self._odd_byte:
            try:
                client_messages.check_pcm(data)
            except Refused as refused:
                return self._fail(refused.fault)
        data = self._odd_byte + data
        whole = len(data) & ~1
        self._odd_byte = data[whole:]
        if not whole:
            return []
        return [Speak(data[:whole], self._rate(None), None, confirm=False)]

    def init_timeout(self) -> list[Action]:
        """Time is up for the first message; does nothing when it has come."""
        if self.state is not State.AWAITING_INIT:
            return []
        self.init_failed = True
        return [self._error(protocol_errors.INIT_REQUIRED), self._close(1008, "init_timeout")]

    # What the session answers

    def accepted(self, info: SessionInfo) -> list[Action]:
        """The credentials are good."""
        self._expect_authenticating()
        self.state = State.OPEN
        self._session_id = info.session_id
        body = server_messages.established(info, self.options, self._server_version)
        actions: list[Action] = [_send(body)]
        for event in (info.ready, info.draining):
            if event is not None:
                actions += self.send_event(event)
        return actions

    def rejected(self, kind: AuthFailure) -> list[Action]:
        """The session cannot be entered."""
        self._expect_authenticating()
        return self._fail(AUTH_FAULTS[kind])

    def speak_accepted(self, action: Speak, receipt: SpeakReceipt) -> list[Action]:
        """The session queued the speech of ``action``."""
        if self.state is State.CLOSED or not action.confirm:
            return []
        return [_send(server_messages.speak_confirmed(receipt, self._extended))]

    def speak_refused(self) -> list[Action]:
        """The session's backlog is full."""
        return self.failed(protocol_errors.BUFFER_FULL)

    def interrupted(self) -> list[Action]:
        """Playback has stopped, and every pending segment's end was sent."""
        if self.state is State.CLOSED:
            return []
        return [_send(server_messages.interrupt_confirmed())]

    def failed(self, fault: Fault) -> list[Action]:
        """Something went wrong in the session; closes the socket when ``fault`` is fatal."""
        return [] if self.state is State.CLOSED else self._fail(fault)

    def replaced(self) -> list[Action]:
        """A newer socket took over the session."""
        if self.state is State.CLOSED:
            return []
        return [self._close(1008, "replaced")]

    def send_event(self, event: SessionEvent) -> list[Action]:
        """The session tells something; goes out if the client asked for it."""
        if self.state not in (State.OPEN, State.ENDING):
            return []
        if isinstance(event, SegmentEnded):
            self._note_end(event)
        actions: list[Action] = []
        if isinstance(event, SessionEnded) and (fault := END_FAULTS.get(event.reason)):
            actions.append(self._error(fault))
        wanted = server_messages.group_of(event) in (self.options.events or ())
        if wanted and self._announced.admits(event):
            actions.append(_send(server_messages.event_body(event, self._session_id)))
        if isinstance(event, SessionEnded):
            actions.append(self._close(protocol_errors.end_close_code(event.reason), event.reason))
        return actions

    # Inside

    @property
    def _extended(self) -> bool:
        return self.options.events is not None

    def _deaf(self) -> bool:
        if self.state is State.AUTHENTICATING:
            raise RuntimeError("answer Authenticate with accepted() or rejected() first")
        return self.state is State.CLOSED

    def _expect_authenticating(self) -> None:
        if self.state is not State.AUTHENTICATING:
            raise RuntimeError("accepted() and rejected() answer an Authenticate action only")

    def _first_message(self, text: str) -> list[Action]:
        if len(text) > MAX_FIRST_MESSAGE:
            return self._fail(protocol_errors.INIT_REQUIRED)
        try:
            message = client_messages.parse(text)
        except Refused:
            return self._fail(protocol_errors.INIT_REQUIRED)
        if not isinstance(message, client_messages.Init):
            return self._fail(protocol_errors.INIT_REQUIRED)
        self.options = message.options
        if message.fault is not None:
            return self._fail(message.fault)
        self.state = State.AUTHENTICATING
        return [Authenticate(message.session_id, message.token)]

    def _message(self, message: client_messages.ClientMessage) -> list[Action]:
        match message:
            case client_messages.Init():
                return self._fail(protocol_errors.ALREADY_INITIALIZED)
            case client_messages.Ping(echo):
                return [_send(server_messages.pong(echo, self._now()))]
        if self.state is State.ENDING:
            return self._ended_already()
        self._odd_byte = b""
        match message:
            case client_messages.SpeakText():
                return self._speak(message)
            case client_messages.SpeakBegin():
                return self._begin(message)
            case client_messages.SpeakEnd():
                dropped = self._dropping
                self._forget_segment()
                return [] if dropped else [EndSpeech()]
            case client_messages.InterruptMessage():
                if self._utterance is not None:
                    self._stale.add(self._utterance)
                self._forget_segment()
                return [Interrupt()]
            case client_messages.EndMessage():
                self.state = State.ENDING
                return [EndSession()]

    def _speak(self, message: client_messages.SpeakText) -> list[Action]:
        name = message.utterance_id
        if self._dropping if name is None else name in self._stale:
            return [_send(server_messages.speak_confirmed(None, self._extended))]
        if name is not None and name != self._utterance:
            self._forget_segment()
            self._utterance = name
        return [Speak(message.pcm, self._rate(message.sample_rate), name, confirm=True)]

    def _begin(self, message: client_messages.SpeakBegin) -> list[Action]:
        name = message.utterance_id
        if name is not None and name in self._stale:
            self._dropping = True
            return []
        self._forget_segment()
        self._utterance = name
        self._segment_rate = message.sample_rate
        return [Begin(name, self._rate(None))]

    def _forget_segment(self) -> None:
        self._utterance = None
        self._dropping = False
        self._segment_rate = None

    def _rate(self, named: int | None) -> int:
        return named or self._segment_rate or self.options.sample_rate or DEFAULT_SAMPLE_RATE

    def _note_end(self, event: SegmentEnded) -> None:
        if event.utterance_id is None:
            return
        if event.reason == "interrupted":
            self._stale.add(event.utterance_id)
        elif event.utterance_id == self._utterance:
            self._utterance = None  # it was heard to its end: a later interrupt does not meet it

    def _ended_already(self) -> list[Action]:
        """Speech after ``session.end``: told so, while the close with the true reason is on its
        way."""
        return [self._error(protocol_errors.SESSION_ENDED)]

    def _fail(self, fault: Fault) -> list[Action]:
        actions: list[Action] = [self._error(fault)]
        if fault.close_code is not None:
            entering = self.state in (State.AWAITING_INIT, State.AUTHENTICATING)
            self.init_failed = entering and fault.close_code == protocol_errors.POLICY_VIOLATION
            actions.append(self._close(fault.close_code, fault.close_reason))
        return actions

    def _error(self, fault: Fault) -> SendText:
        return _send(server_messages.error(fault, self._extended))

    def _close(self, code: int, reason: str) -> Close:
        self.state = State.CLOSED
        return Close(code, reason)


class _OncePerSegment:
    """Lets each segment start once and end once, and never start after its end."""

    def __init__(self) -> None:
        self._started: set[int] = set()
        self._ended: set[int] = set()

    def admits(self, event: SessionEvent) -> bool:
        match event:
            case SegmentStarted(segment_id=number):
                if number in self._started or number in self._ended:
                    return False
                self._started.add(number)
            case SegmentEnded(segment_id=number):
                if number in self._ended:
                    return False
                self._started.discard(number)
                self._ended.add(number)
        return True


def _send(body: dict[str, Any]) -> SendText:
    return SendText(server_messages.encode(body))
