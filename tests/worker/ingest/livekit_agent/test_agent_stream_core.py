"""The streams' rules, on a clock of their own, against the session's real speech core."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.events import SegmentEnded, SegmentStarted
from worker.ingest.livekit_agent.agent_stream_core import (
    AgentStreams,
    Begin,
    End,
    PlaybackFinished,
    PlaybackStarted,
    Report,
    Speak,
)
from worker.pipeline.playback_tracker import PlaybackTracker
from worker.pipeline.speech import Speech
from worker.rooms.port import SAMPLES_PER_FRAME

FRAME_NS = 40_000_000
RATE = 16_000
MONO = {"sample_rate": str(RATE), "num_channels": "1"}


class Deaf:
    def push_audio(self, pcm: np.ndarray) -> None: ...

    def end_segment(self) -> None: ...


class Stage:
    """A session that plays a frame every 40 ms, and streams that feed it."""

    def __init__(self, backlog_s: float = 300.0) -> None:
        self.streams = AgentStreams()
        self.speech = Speech(Deaf(), backlog_s=backlog_s)
        self.tracker = PlaybackTracker()
        self.now_ns = 0
        self.played = 0
        self.said: list[np.ndarray] = []
        self.reports: list[Report] = []
        self.segments: list[SegmentEnded] = []
        self.refused: Speak | None = None

    def open(self, attributes=MONO) -> int:
        return self.streams.opened("agent", attributes, self.now_ns)

    def push(self, number: int, seconds: float, level: int = 9000) -> None:
        pcm = np.full(round(seconds * RATE), level, "<i2").tobytes()
        assert self.streams.received(number, pcm, self.now_ns)

    def close(self, number: int) -> None:
        self.streams.closed(number)

    def clear(self) -> None:
        self.streams.clear(self.now_ns)
        self.speech.interrupt()
        self.report(self.tracker.cut(0, "interrupted"))
        self.streams.silent()
        self.collect()

    def work(self) -> None:
        """Do all that the streams ask for."""
        while True:
            action, self.refused = self.refused or self.streams.poll(self.now_ns), None
            if action is None:
                return
            if isinstance(action, Begin):
                name, rate = action.utterance_id, action.sample_rate
                self.tracker.open(self.speech.begin(name, rate, self.now_ns))
            elif isinstance(action, Speak):
                name = action.utterance_id
                if not self.streams.speaking(name):
                    continue
                pcm = np.frombuffer(action.pcm, "<i2")
                segment = self.speech.speak(pcm, action.sample_rate, name, self.now_ns)
                if segment is None:
                    self.refused = action
                    return
                self.tracker.open(segment)
            else:
                assert isinstance(action, End)
                self.speech.end()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 1e9) // FRAME_NS):
            self.work()
            self.speech.underrun(self.now_ns)
            block = self.speech.take(self.now_ns)
            segment, own = (block.segment, block.samples) if block else (None, 0)
            self.said.append(block.audio if block else np.zeros(SAMPLES_PER_FRAME, np.int16))
            self.tracker.push(segment, own, SAMPLES_PER_FRAME)
            self.played += SAMPLES_PER_FRAME
            self.now_ns += FRAME_NS
            self.report(self.tracker.settle(self.played, self.now_ns))

    def report(self, events) -> None:
        for event in events:
            if isinstance(event, SegmentStarted):
                self.streams.segment_started(event.utterance_id)
            else:
                self.segments.append(event)
                self.streams.segment_ended(
                    event.utterance_id, event.playback_position, event.reason, self.now_ns
                )
        self.collect()

    def collect(self) -> None:
        self.reports.extend(self.streams.reports())

    @property
    def finished(self) -> list[PlaybackFinished]:
        return [report for report in self.reports if isinstance(report, PlaybackFinished)]

    @property
    def loud_s(self) -> float:
        """Seconds of speech that were played."""
        return sum(np.count_nonzero(audio) for audio in self.said) / 48_000


def finished(position: float, interrupted: bool) -> PlaybackFinished:
    return PlaybackFinished("agent", pytest.approx(position, abs=0.001), interrupted)  # type: ignore[arg-type]


def test_a_stream_is_one_segment():
    stage = Stage()
    stream = stage.open()
    stage.push(stream, 1.0)
    stage.push(stream, 1.0)
    stage.close(stream)
    stage.run(2.5)
    assert stage.reports == [PlaybackStarted("agent"), finished(2.0, False)]
    assert not stage.streams.reads(stream)


def test_pieces_may_end_in_the_middle_of_a_sample():
    stage = Stage()
    stream = stage.open()
    pcm = (np.sin(np.arange(RATE) / 9) * 9000).astype("<i2").tobytes()
    for at in range(0, len(pcm), 333):
        stage.streams.received(stream, pcm[at : at + 333], 0)
    stage.close(stream)
    actions = []
    while (action := stage.streams.poll(0)) is not None:
        actions.append(action)
    assert b"".join(action.pcm for action in actions if isinstance(action, Speak)) == pcm


def test_two_channels_are_mixed():
    stage = Stage()
    stream = stage.open({"sample_rate": "48000", "num_channels": "2"})
    pcm = np.array([[100, 300], [-32768, -32768], [32767, 32767], [0, -200]], "<i2").tobytes()
    stage.streams.received(stream, pcm[:5], 0)
    stage.streams.received(stream, pcm[5:], 0)
    assert stage.streams.poll(0) == Begin("lk.audio_stream/1", 48_000)
    mixed = b""
    while (action := stage.streams.poll(0)) is not None:
        assert isinstance(action, Speak)
        mixed += action.pcm
    assert np.frombuffer(mixed, "<i2").tolist() == [200, -32768, 32767, -100]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"sample_rate": "24000"},
        {"num_channels": "1"},
        {"sample_rate": "x", "num_channels": "1"},
        {"sample_rate": "-24000", "num_channels": "1"},
        {"sample_rate": "4000", "num_channels": "1"},
        {"sample_rate": "9" * 5000, "num_channels": "1"},
        {"sample_rate": "24000", "num_channels": "7"},
    ],
)
def test_a_stream_that_cannot_be_understood_is_reported_in_its_turn(attributes):
    stage = Stage()
    good, bad = stage.open(), stage.open(attributes)
    assert stage.streams.understood(good)
    assert not stage.streams.understood(bad)
    stage.push(good, 0.4)
    stage.push(bad, 3.0)
    stage.close(good)
    stage.run(1.0)
    assert stage.finished == [finished(0.4, False), finished(0.0, True)], "without its trailer"
    assert stage.loud_s == pytest.approx(0.4, abs=0.01)


def test_a_lost_trailer_is_made_up_for_by_the_next_stream():
    stage = Stage()
    lost = stage.open()
    stage.push(lost, 0.8)
    stage.run(0.4)
    newer = stage.open()
    stage.push(newer, 0.4)
    stage.run(0.08)
    stage.push(lost, 0.2)  # its last piece, overtaken by the new header
    stage.close(newer)
    stage.run(2.5)
    assert stage.finished == [finished(1.0, False), finished(0.4, False)]
    assert not stage.streams.reads(lost)


def test_a_lost_trailer_and_no_next_stream_ends_the_segment_after_ten_seconds():
    stage = Stage()
    stage.push(stage.open(), 1.0)
    stage.run(9.5)
    assert stage.finished == []
    stage.run(1.0)
    assert stage.finished == [finished(1.0, False)]


def test_a_voice_that_stalls_does_not_end_its_segment():
    stage = Stage()
    stream = stage.open()
    for _ in range(3):
        stage.push(stream, 0.2)
        stage.run(8.0)
    stage.close(stream)
    stage.run(0.1)
    assert stage.finished == [finished(0.6, False)]
    assert stage.reports.count(PlaybackStarted("agent")) == 1


def test_clear_reports_every_stream_even_those_never_begun():
    stage = Stage()
    first, second, third = stage.open(), stage.open(), stage.open()
    stage.push(first, 2.0)
    stage.close(first)
    stage.push(second, 2.0)  # its trailer is not there yet: the third has to wait
    stage.push(third, 2.0)
    stage.run(0.4)
    stage.clear()
    assert stage.finished == [finished(0.4, True), finished(0.0, True), finished(0.0, True)]
    stage.close(second)
    stage.close(third)
    stage.run(1.0)
    assert len(stage.finished) == 3
    assert stage.loud_s == pytest.approx(0.4, abs=0.01)


def test_clear_when_idle_and_clear_again_report_nothing():
    stage = Stage()
    stage.clear()
    stream = stage.open()
    stage.push(stream, 1.0)
    stage.close(stream)
    stage.run(0.2)
    stage.clear()
    stage.clear()
    stage.run(0.5)
    stage.clear()
    assert stage.finished == [finished(0.2, True)]


def test_after_a_clear_the_rest_of_an_open_stream_is_old_speech_for_a_moment():
    stage = Stage()
    stream = stage.open()
    stage.push(stream, 1.0)
    stage.run(0.2)
    stage.clear()
    for _ in range(7):  # 280 ms
        stage.push(stream, 0.04)
        stage.run(0.04)
    assert stage.loud_s == pytest.approx(0.2, abs=0.01)
    stage.run(0.04)
    stage.push(stream, 0.4)
    stage.run(1.0)
    assert stage.loud_s == pytest.approx(0.6, abs=0.01)
    stage.close(stream)
    stage.run(0.2)
    assert stage.finished == [finished(0.2, True)], "the sender counts streams, not segments"


def test_a_stream_opened_after_a_clear_speaks_at_once_whatever_became_of_the_old_trailer():
    stage = Stage()
    stage.push(stage.open(), 1.0)
    stage.run(0.2)
    stage.clear()
    stage.run(0.08)
    newer = stage.open()
    stage.push(newer, 0.4)
    stage.close(newer)
    stage.work()
    assert stage.speech.backlog_s == pytest.approx(0.4)
    stage.run(1.0)
    assert stage.finished == [finished(0.2, True), finished(0.4, False)]


def test_one_stream_for_ever():
    """20-ms pieces at the pace of speech, long gaps, a clear at every turn of the user."""
    stage = Stage()
    stream = stage.open()
    spoken = 0.0
    for gap_s in (1.0, 4.0, 12.0, 0.6):
        for _ in range(25):
            stage.push(stream, 0.02)
            stage.push(stream, 0.02)
            stage.run(0.04)
        stage.run(0.2)
        spoken += 1.0
        assert stage.loud_s == pytest.approx(spoken, abs=0.02)
        stage.clear()
        stage.run(gap_s)
        stage.clear()
        stage.run(0.4)
    assert len(stage.finished) == 1
    assert stage.reports.count(PlaybackStarted("agent")) == 1
    assert len(stage.segments) == 4
    assert stage.streams.reads(stream)


def test_speech_after_ten_seconds_of_silence_is_spoken_and_not_reported_again():
    stage = Stage()
    stream = stage.open()
    stage.push(stream, 0.4)
    stage.run(11.0)
    stage.push(stream, 0.4)
    stage.run(11.0)
    assert stage.finished == [finished(0.4, False)]
    assert stage.loud_s == pytest.approx(0.8, abs=0.01)


def test_an_interrupt_by_somebody_else_is_reported_and_the_rest_not_spoken():
    stage = Stage()
    stream = stage.open()
    stage.push(stream, 1.0)
    stage.run(0.4)
    stage.push(stream, 1.0)
    stage.speech.interrupt()
    stage.report(stage.tracker.cut(0, "interrupted"))
    stage.push(stream, 1.0)
    stage.close(stream)
    stage.run(2.0)
    assert stage.finished == [finished(0.4, True)]
    assert stage.loud_s == pytest.approx(0.4, abs=0.01)


def test_when_the_sender_leaves_what_it_said_is_played_to_the_end():
    stage = Stage()
    first, second = stage.open(), stage.open()
    stage.push(first, 0.4)
    stage.push(second, 0.4)
    stage.streams.sender_left()
    stage.push(first, 0.4)
    stage.run(1.5)
    assert stage.finished == [finished(0.4, False), finished(0.4, False)]
    assert not stage.streams.reads(second)


def test_the_end_of_the_session_reports_what_is_open():
    stage = Stage()
    first, second = stage.open(), stage.open()
    stage.push(first, 1.0)
    stage.push(second, 1.0)
    stage.run(0.2)
    stage.streams.session_over()
    stage.collect()
    assert len(stage.finished) == 2
    assert stage.streams.poll(stage.now_ns) is None


def test_a_session_that_is_full_holds_speech_back_and_loses_nothing_until_too_much_is_held():
    stage = Stage(backlog_s=1.0)
    stream = stage.open()
    for _ in range(12):
        stage.push(stream, 0.25)
    stage.close(stream)
    stage.run(4.0)
    assert stage.finished == [finished(3.0, False)]
    flood = stage.open()
    minute = bytes(2 * RATE * 60)
    assert [stage.streams.received(flood, minute, stage.now_ns) for _ in range(6)] == [True] * 5 + [
        False
    ]


STEPS = st.lists(
    st.one_of(
        st.just("open"),
        st.just("open badly"),
        st.just("trailer"),
        st.just("clear"),
        st.just("leave"),
        st.tuples(st.just("push"), st.integers(-3, -1), st.sampled_from([0.02, 0.1, 0.6])),
        st.tuples(st.just("wait"), st.sampled_from([0.04, 0.2, 0.4, 1.0, 11.0])),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_every_stream_is_reported_exactly_once(steps):
    stage = Stage()
    numbers: list[int] = []
    pushed = 0.0
    for step in steps:
        match step:
            case "open":
                numbers.append(stage.open())
            case "open badly":
                numbers.append(stage.open({}))
            case "trailer" if numbers:
                stage.close(numbers[-1])
            case "clear":
                stage.clear()
            case "leave":
                stage.streams.sender_left()
            case ("push", which, seconds) if len(numbers) >= -which:
                stage.push(numbers[which], seconds)
                pushed += seconds
            case ("wait", seconds):
                stage.run(seconds)
    stage.streams.sender_left()
    stage.run(pushed + 12.0)
    assert len(stage.finished) == len(numbers)
    assert sum(report.playback_position for report in stage.finished) <= stage.loud_s + 0.001
    assert stage.loud_s <= pushed + 0.001
    assert all(report.playback_position >= 0 for report in stage.finished)
    assert all(not stage.streams.reads(number) for number in numbers)
    assert sum(isinstance(report, PlaybackStarted) for report in stage.reports) <= len(numbers)
    heard = [report for report in stage.finished if report.playback_position > 0]
    assert sum(isinstance(report, PlaybackStarted) for report in stage.reports) >= len(heard)
