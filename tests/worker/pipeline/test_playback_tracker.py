import numpy as np
import pytest

from protocol.events import SegmentEnded, SegmentStarted
from worker.pipeline.playback_tracker import PlaybackTracker
from worker.pipeline.speech import Speech


class Deaf:
    def push_audio(self, pcm: np.ndarray) -> None: ...
    def end_segment(self) -> None: ...


def said(seconds: float, *, count: int = 1) -> tuple[PlaybackTracker, Speech]:
    """A tracker and speech of ``count`` closed segments of ``seconds`` each."""
    speech, tracker = Speech(Deaf()), PlaybackTracker()
    for n in range(count):
        speech.begin(f"u-{n + 1}", 48000, 1_000_000_000)
        pcm = np.ones(round(seconds * 48000), np.int16)
        tracker.open(speech.speak(pcm, 48000, None, 1_000_000_000))
    speech.end()
    return tracker, speech


def push_all(tracker: PlaybackTracker, speech: Speech) -> int:
    pushed = 0
    while (block := speech.take(0)) is not None:
        tracker.push(block.segment, block.samples, 1920)
        pushed += 1920
    return pushed


def test_started_when_the_first_sample_left_and_ended_when_the_last_did():
    tracker, speech = said(0.1)
    tracker.push(None, 0, 1920)
    assert push_all(tracker, speech) == 3 * 1920
    assert tracker.settle(1920, 1_100_000_000) == []
    # 480 samples (10 ms) of the segment have been heard by now, 100 ms after its first byte.
    assert tracker.settle(2400, 1_100_000_000) == [SegmentStarted(1, "u-1", 90)]
    assert tracker.settle(1920 + 4799, 0) == []
    (ended,) = tracker.settle(1920 + 4800, 0)
    assert ended == SegmentEnded(1, "u-1", pytest.approx(0.1), pytest.approx(0.1), "completed")
    assert tracker.settle(10**9, 0) == []


def test_position_after_a_cut_counts_only_own_samples_that_were_heard():
    tracker, speech = said(0.1, count=3)
    pushed = push_all(tracker, speech)
    started = tracker.settle(3 * 1920 + 960, 0)
    assert [type(event) for event in started] == [SegmentStarted, SegmentEnded, SegmentStarted]
    speech.interrupt()
    second, third = tracker.cut(pushed - (3 * 1920 + 960), "interrupted")
    assert (second.segment_id, second.playback_position) == (2, pytest.approx(0.02))
    assert (third.segment_id, third.playback_position) == (3, 0.0)
    assert tracker.cut(0, "interrupted") == []


def test_an_open_segment_is_not_reported_before_it_is_closed():
    speech, tracker = Speech(Deaf()), PlaybackTracker()
    tracker.open(speech.speak(np.ones(2400, np.int16), 48000, None, 0))
    push_all(tracker, speech)
    assert [type(event) for event in tracker.settle(3840, 0)] == [SegmentStarted]
    speech.end()
    (ended,) = tracker.settle(3840, 0)
    assert ended.playback_position == pytest.approx(2400 / 48000)


def test_an_empty_segment_ends_without_having_started():
    speech, tracker = Speech(Deaf()), PlaybackTracker()
    tracker.open(speech.begin("u-1", 16000, 0))
    speech.end()
    assert tracker.settle(0, 0) == [SegmentEnded(1, "u-1", 0.0, 0.0, "completed")]
