"""What the WebSocket protocol asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SendText:
    """Send a text message."""

    text: str


@dataclass(frozen=True)
class Close:
    """Send what is queued, then close the socket."""

    code: int
    reason: str


@dataclass(frozen=True)
class Authenticate:
    """Check the credentials; answer with ``accepted`` or ``rejected``."""

    session_id: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Begin:
    """Close the open segment and open a new one."""

    utterance_id: str | None
    sample_rate: int


@dataclass(frozen=True)
class Speak:
    """Queue speech; answer with ``speak_accepted`` or ``speak_refused``."""

    pcm: bytes = field(repr=False)
    sample_rate: int
    utterance_id: str | None
    confirm: bool
    """True: the client waits for a confirmation (binary frames have none)."""


@dataclass(frozen=True)
class EndSpeech:
    """Close the open segment."""


@dataclass(frozen=True)
class Interrupt:
    """Stop all speech; answer with ``interrupted`` when playback has stopped."""


@dataclass(frozen=True)
class EndSession:
    """End the session, as the client asked."""


Action = SendText | Close | Authenticate | Begin | Speak | EndSpeech | Interrupt | EndSession
