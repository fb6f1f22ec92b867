"""What the WebSocket answers to mistakes: the text, the code, and whether the socket closes."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.events import EndReason
from protocol.session_types import AuthFailure

POLICY_VIOLATION = 1008
"""Close code for a client that was refused."""

SERVER_FAILURE = 1011
"""Close code for a session that failed on the server's side."""


@dataclass(frozen=True)
class Fault:
    """One row of the protocol's error table."""

    text: str
    code: str
    close_code: int | None = None
    """None: the socket stays open and the message had no effect."""

    @property
    def close_reason(self) -> str:
        """Short token that goes with the close code."""
        return self.code.lower()


class Refused(Exception):
    """A client's message was refused; carries the fault to answer with."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


INIT_REQUIRED = Fault("First message must be session.init", "INIT_REQUIRED", POLICY_VIOLATION)
CREDENTIALS_REQUIRED = Fault(
    "session_id and session_token are required", "INVALID_INIT", POLICY_VIOLATION
)
INVALID_CREDENTIALS = Fault("Invalid session credentials", "INVALID_CREDENTIALS", POLICY_VIOLATION)
SESSION_ENDED = Fault("Session has ended", "SESSION_ENDED", POLICY_VIOLATION)
SESSION_NOT_STARTED = Fault("Session has not been started", "SESSION_NOT_STARTED", POLICY_VIOLATION)
INVALID_ROOM_PLATFORM = Fault("Invalid room platform", "INVALID_ROOM_PLATFORM", SERVER_FAILURE)
INVALID_DIMENSIONS = Fault("Invalid video dimensions", "INVALID_DIMENSIONS", POLICY_VIOLATION)
START_FAILED = Fault("Avatar server could not be started", "START_FAILED", SERVER_FAILURE)
JOIN_FAILED = Fault("Could not join the room", "JOIN_FAILED", SERVER_FAILURE)
INTERNAL_ERROR = Fault("Internal server error", "INTERNAL_ERROR", SERVER_FAILURE)
ALREADY_INITIALIZED = Fault("Session is already initialized", "ALREADY_INITIALIZED")
INVALID_JSON = Fault("Invalid JSON", "INVALID_MESSAGE")
NOT_A_MESSAGE = Fault("Message must be a JSON object with a type", "INVALID_MESSAGE")
AUDIO_REQUIRED = Fault("Audio data is required", "AUDIO_REQUIRED")
INVALID_BASE64 = Fault("Invalid base64 audio", "INVALID_AUDIO")
ODD_BYTE_COUNT = Fault("Audio must be 16-bit PCM", "INVALID_AUDIO")
WAV_FILE = Fault("Audio must be raw PCM, not a WAV file", "INVALID_AUDIO")
INVALID_SAMPLE_RATE = Fault("Invalid sample rate", "INVALID_SAMPLE_RATE")
BUFFER_FULL = Fault("Audio buffer is full", "BUFFER_FULL")
BINARY_NOT_ENABLED = Fault("Binary frames are not enabled", "BINARY_NOT_ENABLED")

# The opt-in fields are ours alone, so that these need no documented text.
INVALID_EVENTS = Fault("events must be a list of names", "INVALID_INIT", POLICY_VIOLATION)
INVALID_AUDIO_FORMAT = Fault(
    "audio must be pcm_s16le with 1 channel and a sample_rate of 8000 to 48000",
    "INVALID_INIT",
    POLICY_VIOLATION,
)
INVALID_GRACE = Fault(
    "reconnect_grace_s must be a number from 0 to 30", "INVALID_INIT", POLICY_VIOLATION
)
INVALID_UTTERANCE_ID = Fault(
    "utterance_id must be a string of at most 64 characters", "INVALID_MESSAGE"
)
INVALID_PING_ID = Fault(
    "id must be a string of at most 128 characters or a number", "INVALID_MESSAGE"
)

AUTH_FAULTS: dict[AuthFailure, Fault] = {
    "credentials": INVALID_CREDENTIALS,
    "ended": SESSION_ENDED,
    "not_started": SESSION_NOT_STARTED,
    "room_platform": INVALID_ROOM_PLATFORM,
    "start_failed": START_FAILED,
    "join_failed": JOIN_FAILED,
}

END_FAULTS: dict[EndReason, Fault] = {
    "join_failed": JOIN_FAILED,
    "server_error": INTERNAL_ERROR,
}
"""Ends of a session that are announced by an error before the close."""

_CLOSE_CODES: dict[EndReason, int] = {
    "server_shutdown": 1001,
    "join_failed": SERVER_FAILURE,
    "connection_lost": SERVER_FAILURE,
    "server_error": SERVER_FAILURE,
}


def unknown_type(name: str) -> Fault:
    """The fault for a message type that does not exist; a long name is cut."""
    shown = name if len(name) <= 64 else name[:64] + "..."
    shown = shown.encode("utf-8", "replace").decode()
    return Fault(f"Unknown message type: {shown}", "UNKNOWN_TYPE")


def end_close_code(reason: EndReason) -> int:
    """The close code that goes with a session's end."""
    return _CLOSE_CODES.get(reason, 1000)
