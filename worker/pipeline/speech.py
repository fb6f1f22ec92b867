"""Speech of one session: segments in order of arrival, cut into frames of 40 ms.

Every way in (WebSocket, LiveKit streams) feeds this one core. It is pure: no sockets, no clock of
its own (times come in as arguments), no tasks. Each stretch of speech is kept once, as it came,
and converted just ahead of playing into two copies: 48 kHz for playback and 16 kHz for the
actor.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.engine import SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME
from worker.pipeline.resampler import Resampler
from worker.rooms.port import MEDIA_RATE, SAMPLES_PER_FRAME

AHEAD_S = 1.0
"""Seconds converted ahead of playing: enough for any lookahead, bounded work per call."""

START_ANYWAY_AFTER_S = 0.15
"""A segment too short to fill its lookahead begins after this long without more audio."""

UNDERRUN_AFTER_S = 0.5
"""An open segment with nothing left to play ends after this long without audio."""

UNDERRUN_AFTER_MARKED_S = 10.0
"""The same once the client marks its utterances: a stalling TTS must not split one."""


class Listener(Protocol):
    """Who hears the 16 kHz copy: the session's actor."""

    def push_audio(self, pcm: np.ndarray) -> None:
        """More speech, int16 at 16 kHz."""
        ...

    def end_segment(self) -> None:
        """The segment is complete; its last frame is whole."""
        ...


@dataclass(frozen=True)
class Block:
    """One frame's worth of speech."""

    segment: Segment
    audio: np.ndarray
    """int16, (1920,), 48 kHz; padded with zeros in a segment's last frame."""
    samples: int
    """How many of them are the segment's own."""


class _Samples:
    """A queue of int16 samples."""

    def __init__(self) -> None:
        self._pieces: deque[np.ndarray] = deque()
        self.count = 0

    def push(self, pcm: np.ndarray) -> None:
        if len(pcm):
            self._pieces.append(pcm)
            self.count += len(pcm)

    def take(self, n: int) -> np.ndarray:
        """The first ``min(n, count)`` samples."""
        n = min(n, self.count)
        taken: list[np.ndarray] = []
        missing = n
        while missing:
            piece = self._pieces.popleft()
            if len(piece) > missing:
                self._pieces.appendleft(piece[missing:])
                piece = piece[:missing]
            taken.append(piece)
            missing -= len(piece)
        self.count -= n
        return np.concatenate(taken) if taken else np.zeros(0, dtype=np.int16)


class Segment:
    """One stretch of speech. Made by ``Speech``; others only read it."""

    def __init__(
        self, id: int, utterance_id: str | None, sample_rate: int, now_ns: int, marked: bool
    ) -> None:
        self.id = id
        self.utterance_id = utterance_id
        self.sample_rate = sample_rate
        self.marked = marked
        self.first_byte_ns: int | None = None
        self.last_byte_ns = now_ns
        self.received = 0
        self.closed = False
        self.begun = False
        self._raw = _Samples()
        self._playback = _Samples()
        self._converted_for_playback = 0
        self._heard = 0
        self._taken = 0
        self._own_taken = 0
        self._flushed = False
        self._to_playback = Resampler(sample_rate, MEDIA_RATE)
        self._to_actor = Resampler(sample_rate, SPEECH_RATE)

    @property
    def duration_s(self) -> float:
        """Seconds of audio received."""
        return self.received / self.sample_rate

    @property
    def frames_ready(self) -> int:
        """Whole frames that can be taken now."""
        frames = min(
            self._converted_for_playback // SAMPLES_PER_FRAME,
            self._heard // SPEECH_SAMPLES_PER_FRAME,
        )
        if self._flushed:
            frames = -(-self._converted_for_playback // SAMPLES_PER_FRAME)
        return frames - self._taken

    @property
    def taken(self) -> int:
        """Its own samples (48 kHz) that frames have taken."""
        return self._own_taken

    @property
    def drained(self) -> bool:
        """Closed, and every frame has been taken."""
        return self.closed and self._flushed and self.frames_ready <= 0

    @property
    def untaken_s(self) -> float:
        """Seconds of audio that no frame has taken yet."""
        return self._raw.count / self.sample_rate + self._playback.count / MEDIA_RATE

    @property
    def exhausted(self) -> bool:
        """Nothing is left to take, unless more audio comes."""
        return not self._raw.count and self.frames_ready < 1 and not self._playback.count

    def lookahead_s(self) -> float:
        """Seconds the actor has heard beyond the end of the next frame to take."""
        return (self._heard - (self._taken + 1) * SPEECH_SAMPLES_PER_FRAME) / SPEECH_RATE

    def _append(self, pcm: np.ndarray, now_ns: int) -> None:
        if self.first_byte_ns is None:
            self.first_byte_ns = now_ns
        self.last_byte_ns = now_ns
        self.received += len(pcm)
        self._raw.push(pcm)

    def _convert(self, listener: Listener) -> None:
        """Keep ``AHEAD_S`` converted; after the last sample, flush and pad to a whole frame."""
        while self._raw.count and self._playback.count < AHEAD_S * MEDIA_RATE:
            pcm = self._raw.take(max(1, self.sample_rate // 4))
            self._give(self._to_playback.push(pcm), self._to_actor.push(pcm), listener)
        if self.closed and not self._raw.count and not self._flushed:
            self._give(self._to_playback.finish(), self._to_actor.finish(), listener)
            # The two copies round differently; both must have the same number of frames.
            frames = -(-self._converted_for_playback // SAMPLES_PER_FRAME)
            padding = frames * SPEECH_SAMPLES_PER_FRAME - self._heard
            if padding > 0:
                self._give(np.zeros(0, np.int16), np.zeros(padding, np.int16), listener)
            self._flushed = True
            if frames:
                listener.end_segment()

    def _give(self, playback: np.ndarray, actor: np.ndarray, listener: Listener) -> None:
        self._playback.push(playback)
        self._converted_for_playback += len(playback)
        if len(actor):
            self._heard += len(actor)
            listener.push_audio(actor)

    def _take(self) -> Block:
        own = self._playback.take(SAMPLES_PER_FRAME)
        self._taken += 1
        self._own_taken += len(own)
        self.begun = True
        audio = np.pad(own, (0, SAMPLES_PER_FRAME - len(own)))
        return Block(self, audio, len(own))

    def _take_remainder(self, listener: Listener) -> Block:
        """The begun frame, filled up with silence: better now than after a gap."""
        frames = self._taken + 1
        missing = frames * SPEECH_SAMPLES_PER_FRAME - self._heard
        if missing > 0:
            self._give(np.zeros(0, np.int16), np.zeros(missing, np.int16), listener)
        self._converted_for_playback = max(self._converted_for_playback, frames * SAMPLES_PER_FRAME)
        return self._take()


class Speech:
    """The segments of one session, oldest first, and the generation they belong to."""

    def __init__(
        self, listener: Listener, *, backlog_s: float = 300.0, start_lookahead_s: float = 0.0
    ) -> None:
        """``start_lookahead_s``: audio beyond its first frame that a segment waits for, so that
        the actor starts well; once it has begun, audio never waits for lookahead."""
        self.generation = 0
        self._listener = listener
        self._backlog_s = backlog_s
        self._start_lookahead_s = start_lookahead_s
        self._segments: deque[Segment] = deque()
        self._next_id = 1
        self._marked = False

    @property
    def open(self) -> Segment | None:
        """The segment that more audio would join."""
        if self._segments and not self._segments[-1].closed:
            return self._segments[-1]
        return None

    @property
    def pending(self) -> tuple[Segment, ...]:
        """Segments not completely taken yet, oldest first."""
        return tuple(self._segments)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that wait to be played."""
        return sum(segment.untaken_s for segment in self._segments)

    def begin(self, utterance_id: str | None, sample_rate: int, now_ns: int) -> Segment:
        """Close the open segment and open a new one, as a client that marks utterances asks."""
        self._marked = True
        return self._open(utterance_id, sample_rate, now_ns)

    def speak(
        self, pcm: np.ndarray, sample_rate: int, utterance_id: str | None, now_ns: int
    ) -> Segment | None:
        """Take in int16 mono samples, shape (n,), at ``sample_rate`` Hz.

        Returns the segment they joined, or None when the backlog is full (then nothing is kept).
        A changed ``utterance_id`` or sample rate opens a new segment.
        """
        if self.backlog_s + len(pcm) / sample_rate > self._backlog_s:
            return None
        segment = self.open
        if utterance_id is not None:
            self._marked = True
        changed = segment is not None and (
            (utterance_id is not None and utterance_id != segment.utterance_id)
            or sample_rate != segment.sample_rate
        )
        if segment is None or changed:
            segment = self._open(utterance_id, sample_rate, now_ns)
        segment._append(pcm, now_ns)
        self._convert()
        return segment

    def end(self) -> None:
        """No more audio for the open segment; what is left of it still plays."""
        if self.open is not None:
            self.open.closed = True
            self._convert()

    def underrun(self, now_ns: int) -> None:
        """End an open segment that has nothing left to play and got no audio for too long."""
        segment = self.open
        if segment is None or not segment.exhausted:
            return
        limit_s = UNDERRUN_AFTER_MARKED_S if segment.marked else UNDERRUN_AFTER_S
        if now_ns - segment.last_byte_ns >= limit_s * 1e9:
            self.end()

    def interrupt(self) -> list[Segment]:
        """Drop everything; what comes now is new speech. Returns the segments that were pending."""
        self.generation += 1
        dropped = list(self._segments)
        self._segments.clear()
        for segment in dropped:
            segment.closed = True
        return dropped

    def can_take(self, now_ns: int) -> bool:
        """Whether the next frame can be speech."""
        self._retire()
        if not self._segments:
            return False
        head = self._segments[0]
        if head.begun or head.closed:
            return head.frames_ready > 0 or head._playback.count > 0
        if head.lookahead_s() >= self._start_lookahead_s:
            return True
        quiet_ns = now_ns - head.last_byte_ns
        return head._playback.count > 0 and quiet_ns >= START_ANYWAY_AFTER_S * 1e9

    def take(self, now_ns: int) -> Block | None:
        """The next frame's speech, or None when there is none to play now.

        When a begun segment runs dry, its last piece of a frame plays at once, filled up with
        silence, and the segment gathers lookahead again before it goes on: one pause instead of a
        crackle in every frame.
        """
        if not self.can_take(now_ns):
            if self._segments:
                self._segments[0].begun = False
            return None
        head = self._segments[0]
        if head.frames_ready > 0:
            block = head._take()
        else:
            block = head._take_remainder(self._listener)
            head.begun = False
        self._convert()
        return block

    def _open(self, utterance_id: str | None, sample_rate: int, now_ns: int) -> Segment:
        self.end()
        segment = Segment(self._next_id, utterance_id, sample_rate, now_ns, self._marked)
        self._next_id += 1
        self._segments.append(segment)
        return segment

    def _convert(self) -> None:
        # Only while everything before it is converted completely may a segment be heard: the
        # actor's stream is one line in order of arrival.
        for segment in self._segments:
            segment._convert(self._listener)
            if not segment._flushed:
                break

    def _retire(self) -> None:
        while self._segments and self._segments[0].drained:
            self._segments.popleft()
            self._convert()
