"""Speech in LiveKit byte streams, without the network: which stream is spoken, what is reported.

An agent opens one stream per stretch of speech and counts on exactly one ``playback_finished`` for
each. What cannot be relied upon is the rest: trailers get lost, a stream may stay open for ever,
and a clear arrives while audio is still on its way. This machine takes in what the room delivers
(``opened``, ``received``, ``closed``, ``clear``, ``sender_left``) and what the session tells
(``segment_started``, ``segment_ended``); it gives out what the session has to do (``poll``, one
action at a time, so that a slow session holds the rest back) and what the agent is told
(``reports``). Times come in as arguments, in nanoseconds.

Cutting speech into frames, starvation and positions are the session's; here a stream is no more
than the name of a segment.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from protocol.client_messages import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from protocol.events import SegmentReason

OVERTAKEN_AFTER_S = 0.5
"""A stream is taken to be complete this long after a newer one opened: its trailer was lost. Not at
once, for the new header may overtake the last pieces of the old stream."""

DISCARD_AFTER_CLEAR_S = 0.3
"""How long audio of a stream that stays open is still the old speech after a clear."""

MAX_HELD_S = 300.0
"""Seconds of audio held back while the session takes no more; what comes beyond is lost."""

MAX_CHANNELS = 2


@dataclass(frozen=True)
class Begin:
    """Open a segment."""

    utterance_id: str
    sample_rate: int


@dataclass(frozen=True)
class Speak:
    """Add speech to it: 16-bit little-endian mono."""

    pcm: bytes = field(repr=False)
    sample_rate: int
    utterance_id: str


@dataclass(frozen=True)
class End:
    """Close it; what is queued still plays."""


Action = Begin | Speak | End


@dataclass(frozen=True)
class PlaybackStarted:
    """The first sample of a stream was heard."""

    sender: str
    """Identity of the participant that sent it."""


@dataclass(frozen=True)
class PlaybackFinished:
    """A stream is over; exactly one per stream."""

    sender: str
    playback_position: float
    """Seconds of its audio that were heard."""
    interrupted: bool
    """It was not played to its end."""


Report = PlaybackStarted | PlaybackFinished


@dataclass
class _Stream:
    number: int
    sender: str
    sample_rate: int | None
    """None: the header does not say what the stream holds."""
    channels: int
    opened_ns: int
    last_ns: int
    """When it was opened or its last piece came."""
    begun: bool = False
    utterance: str | None = None
    """The segment its audio joins; None before the first and after one has ended."""
    utterances: int = 0
    closed: bool = False
    discard_until_ns: int = 0
    held: deque[bytes] = field(default_factory=deque)
    held_samples: int = 0
    split: bytes = b""
    """The beginning of a sample whose rest comes with the next piece."""
    started: bool = False
    reported: bool = False


class AgentStreams:
    """The streams of a room's agent, oldest first; only the first of them speaks."""

    def __init__(self) -> None:
        self._streams: deque[_Stream] = deque()
        self._segments: dict[str, _Stream] = {}
        self._unheard: list[_Stream] = []
        self._reports: deque[Report] = deque()
        self._numbers = itertools.count(1)

    # What the room delivers

    def opened(self, sender: str, attributes: Mapping[str, str], now_ns: int) -> int:
        """A stream's header came from participant ``sender``. Returns the number it goes by.

        ``attributes`` name ``sample_rate`` (Hz) and ``num_channels``, as decimal strings. A stream
        whose header is no good plays nothing and is reported at position 0: see ``understood``.
        """
        rate = _integer(attributes.get("sample_rate"), MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
        channels = _integer(attributes.get("num_channels"), 1, MAX_CHANNELS)
        if channels is None:
            rate = None
        stream = _Stream(next(self._numbers), sender, rate, channels or 1, now_ns, now_ns)
        self._streams.append(stream)
        return stream.number

    def understood(self, number: int) -> bool:
        """Whether the stream's header made sense."""
        stream = self._find(number)
        return stream is not None and stream.sample_rate is not None

    def received(self, number: int, data: bytes, now_ns: int) -> bool:
        """A piece came, of any size. False: too much is held back already, the piece is lost."""
        stream = self._find(number)
        if stream is None or stream.closed:
            return True  # old speech that came too late
        stream.last_ns = now_ns
        if stream.sample_rate is None:
            return True
        data = stream.split + data
        whole = len(data) - len(data) % (2 * stream.channels)
        data, stream.split = data[:whole], data[whole:]
        if not data or now_ns < stream.discard_until_ns:
            return True
        pcm = data if stream.channels == 1 else _mixed(data, stream.channels)
        if stream.held_samples + len(pcm) // 2 > MAX_HELD_S * stream.sample_rate:
            return False
        stream.held.append(pcm)
        stream.held_samples += len(pcm) // 2
        return True

    def closed(self, number: int) -> None:
        """The trailer came, or the connection broke: nothing follows."""
        stream = self._find(number)
        if stream is not None:
            stream.closed = True

    def clear(self, now_ns: int) -> None:
        """The sender wants silence, and all speech so far forgotten. Interrupt the session, then
        call ``silent``."""
        while self._streams:
            stream = self._streams.popleft()
            if not stream.begun:
                stream.begun = True
                self._unheard.append(stream)
            if not self._streams and not stream.closed:
                # Only the newest can still be in use; it may go on with new speech.
                self._streams.append(stream)
                self._forget(stream, now_ns)
                break

    def silent(self) -> None:
        """The interrupt that ``clear`` asked for is done, its segments are reported."""
        for stream in self._unheard:
            self._finish(stream, 0.0, interrupted=True)
        self._unheard.clear()

    def sender_left(self) -> None:
        """No stream goes on: what came of them still plays."""
        for stream in self._streams:
            stream.closed = True

    # What the session tells

    def segment_started(self, utterance_id: str | None) -> None:
        """The first sample of a segment was heard."""
        stream = self._segments.get(utterance_id or "")
        if stream is not None and not stream.started and not stream.reported:
            stream.started = True
            self._reports.append(PlaybackStarted(stream.sender))

    def segment_ended(
        self, utterance_id: str | None, position: float, reason: SegmentReason, now_ns: int
    ) -> None:
        """A segment is over, ``position`` seconds of it were heard.

        If its stream goes on (it had starved, or somebody else interrupted), what comes next is a
        segment of its own, of which the sender is not told: it counts streams.
        """
        stream = self._segments.pop(utterance_id or "", None)
        if stream is None:
            return
        if stream.utterance == utterance_id:
            stream.utterance = None
            if reason == "interrupted":
                self._forget(stream, now_ns)
        whole = reason == "completed" and stream.sample_rate is not None
        self._finish(stream, position, interrupted=not whole)

    def session_over(self) -> None:
        """Nothing will be played any more: report what is still open."""
        self.silent()
        for stream in (*self._segments.values(), *self._streams):
            self._finish(stream, 0.0, interrupted=True)
        self._segments.clear()
        self._streams.clear()

    # What is to be done

    def poll(self, now_ns: int) -> Action | None:
        """What the session has to do next; None: nothing before more comes or ``deadline_ns``."""
        while self._streams:
            stream = self._streams[0]
            if not stream.begun or (stream.held and stream.utterance is None):
                return self._begin(stream)
            if stream.held and stream.utterance is not None and stream.sample_rate is not None:
                pcm = stream.held.popleft()
                stream.held_samples -= len(pcm) // 2
                return Speak(pcm, stream.sample_rate, stream.utterance)
            useless = stream.sample_rate is None
            over = stream.closed or self._overtaken(stream, now_ns)
            if over:
                self._streams.popleft()
            if (over or useless) and stream.utterance is not None:
                stream.utterance = None
                return End()
            if not over:
                return None
        return None

    def deadline_ns(self) -> int | None:
        """When ``poll`` is to be called again though nothing came."""
        return self._overtaken_ns(self._streams[0]) if len(self._streams) > 1 else None

    def speaking(self, utterance_id: str) -> bool:
        """Whether that segment still takes speech: a clear may come while ``Speak`` waits."""
        return any(stream.utterance == utterance_id for stream in self._streams)

    def reads(self, number: int) -> bool:
        """Whether more of the stream is wanted."""
        return self._find(number) is not None

    def reports(self) -> list[Report]:
        """What the sender is to be told since the last call, in order."""
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def _begin(self, stream: _Stream) -> Begin:
        stream.begun = True
        stream.utterances += 1
        name = f"lk.audio_stream/{stream.number}"
        stream.utterance = name if stream.utterances == 1 else f"{name}.{stream.utterances}"
        self._segments[stream.utterance] = stream
        return Begin(stream.utterance, stream.sample_rate or MAX_SAMPLE_RATE)

    def _forget(self, stream: _Stream, now_ns: int) -> None:
        stream.utterance = None
        stream.held.clear()
        stream.held_samples = 0
        stream.discard_until_ns = now_ns + round(DISCARD_AFTER_CLEAR_S * 1e9)

    def _overtaken(self, stream: _Stream, now_ns: int) -> bool:
        return len(self._streams) > 1 and now_ns >= self._overtaken_ns(stream)

    def _overtaken_ns(self, stream: _Stream) -> int:
        newer = self._streams[1]
        if newer.opened_ns < stream.discard_until_ns:
            return newer.opened_ns  # what might still come would be thrown away
        return max(stream.last_ns, newer.opened_ns) + round(OVERTAKEN_AFTER_S * 1e9)

    def _finish(self, stream: _Stream, position: float, *, interrupted: bool) -> None:
        if not stream.reported:
            stream.reported = True
            self._reports.append(PlaybackFinished(stream.sender, position, interrupted))

    def _find(self, number: int) -> _Stream | None:
        return next((stream for stream in self._streams if stream.number == number), None)


def _integer(text: str | None, low: int, high: int) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) if low <= int(text) <= high else None


def _mixed(data: bytes, channels: int) -> bytes:
    """Interleaved channels to one, each with the same weight."""
    samples = np.frombuffer(data, dtype="<i2").reshape(-1, channels)
    return np.round(samples.mean(axis=1)).astype("<i2").tobytes()
