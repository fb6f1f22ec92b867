import numpy as np
import pytest

from worker.pipeline.speech import Speech

SECOND = 1_000_000_000


class Recorder:
    """Keeps what the actor would hear."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []
        self.finished_at: list[int] = []

    def push_audio(self, pcm: np.ndarray) -> None:
        self.pieces.append(pcm)

    def end_segment(self) -> None:
        self.finished_at.append(self.heard)

    @property
    def heard(self) -> int:
        return sum(map(len, self.pieces))


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (12_000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def drain(speech: Speech, now_ns: int = 0) -> list:
    blocks = []
    while (block := speech.take(now_ns)) is not None:
        blocks.append(block)
    return blocks


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_both_copies_of_a_segment_have_the_same_frames(rate):
    actor = Recorder()
    speech = Speech(actor)
    pcm = tone(1.013, rate)
    speech.speak(pcm, rate, None, 0)
    speech.end()
    blocks = drain(speech)
    assert len(blocks) == 26
    assert actor.heard == 26 * 640
    assert actor.finished_at == [26 * 640]
    assert sum(block.samples for block in blocks) == pytest.approx(1.013 * 48000, abs=2)
    heard = np.concatenate([block.audio for block in blocks])
    want = 12_000 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    assert np.abs(heard[500:47500] - want[500:47500]).max() < 40


def test_cutting_the_input_differently_changes_nothing():
    rng = np.random.default_rng(1)
    pcm = tone(0.7, 24000)
    results = []
    for cuts in ([len(pcm)], list(rng.integers(1, 900, 60))):
        actor, at = Recorder(), 0
        speech = Speech(actor)
        for size in cuts:
            speech.speak(pcm[at : at + size], 24000, None, 0)
            at += size
        speech.speak(pcm[at:], 24000, None, 0)
        speech.end()
        blocks = drain(speech)
        results.append((np.concatenate([b.audio for b in blocks]), np.concatenate(actor.pieces)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_a_segment_waits_for_lookahead_but_a_short_one_does_not_wait_for_ever():
    speech = Speech(Recorder(), start_lookahead_s=0.1)
    speech.speak(tone(0.12, 16000), 16000, None, 0)
    assert speech.take(0) is None
    assert speech.take(SECOND // 10) is None
    assert speech.take(SECOND // 5) is not None


def test_speech_at_microphone_pace_plays_without_a_gap():
    speech = Speech(Recorder(), start_lookahead_s=0.1)
    pcm = tone(2.0, 16000)
    played, started = [], None
    for tick in range(100):
        speech.speak(pcm[tick * 320 : tick * 320 + 320], 16000, None, tick * 20_000_000)
        if tick % 2:
            block = speech.take(tick * 20_000_000)
            if block is not None and started is None:
                started = tick
            assert started is None or block is not None
            if block is not None:
                played.append(block.samples)
    assert started is not None
    assert started * 20 <= 160
    assert set(played) == {1920}


def test_a_segment_that_runs_dry_plays_its_last_piece_once_and_gathers_lookahead_again():
    speech = Speech(Recorder(), start_lookahead_s=0.1)
    speech.speak(tone(0.21, 48000), 48000, None, 0)
    blocks = drain(speech)
    assert [b.samples for b in blocks] == [1920] * 5 + [480]
    speech.speak(tone(0.06, 48000), 48000, None, SECOND // 10)
    assert speech.take(SECOND // 10) is None
    speech.speak(tone(0.10, 48000), 48000, None, SECOND // 10)
    assert speech.take(SECOND // 10).samples == 1920


def test_an_open_segment_ends_by_underrun():
    speech = Speech(Recorder())
    segment = speech.speak(tone(0.04, 16000), 16000, None, 0)
    drain(speech)
    speech.underrun(SECOND * 4 // 10)
    assert not segment.closed
    speech.underrun(SECOND // 2)
    assert segment.closed
    assert speech.speak(tone(0.1, 16000), 16000, None, SECOND).id == segment.id + 1


def test_a_marked_utterance_survives_a_stalling_voice():
    speech = Speech(Recorder())
    segment = speech.speak(tone(0.04, 16000), 16000, "u-1", 0)
    drain(speech)
    speech.underrun(9 * SECOND)
    assert not segment.closed
    speech.underrun(10 * SECOND)
    assert segment.closed


def test_speech_that_still_plays_does_not_underrun():
    speech = Speech(Recorder())
    segment = speech.speak(tone(3.0, 16000), 16000, None, 0)
    speech.take(0)
    speech.underrun(20 * SECOND)
    assert not segment.closed


def test_what_opens_a_new_segment():
    speech = Speech(Recorder())
    first = speech.speak(tone(0.1, 16000), 16000, None, 0)
    assert speech.speak(tone(0.1, 16000), 16000, None, 0) is first
    other_rate = speech.speak(tone(0.1, 24000), 24000, None, 0)
    other_id = speech.speak(tone(0.1, 24000), 24000, "u-1", 0)
    same_id = speech.speak(tone(0.1, 24000), 24000, "u-1", 0)
    begun = speech.begin("u-2", 24000, 0)
    assert [first.id, other_rate.id, other_id.id, same_id.id, begun.id] == [1, 2, 3, 3, 4]
    assert first.closed
    assert other_rate.closed
    assert other_id.closed
    assert not begun.closed


def test_segments_play_in_order_each_from_a_frame_of_its_own():
    actor = Recorder()
    speech = Speech(actor)
    for n, hz in enumerate((300, 500, 700)):
        speech.begin(f"u-{n}", 16000, 0)
        speech.speak(tone(0.1, 16000, hz), 16000, None, 0)
    speech.end()
    blocks = drain(speech)
    assert [block.segment.id for block in blocks] == [1] * 3 + [2] * 3 + [3] * 3
    assert actor.finished_at == [1920, 3840, 5760]
    assert not speech.pending


def test_interrupt_drops_everything_and_counts_a_generation():
    speech = Speech(Recorder())
    speech.speak(tone(1.0, 16000), 16000, "a", 0)
    speech.speak(tone(1.0, 16000), 16000, "b", 0)
    speech.take(0)
    dropped = speech.interrupt()
    assert [segment.id for segment in dropped] == [1, 2]
    assert speech.generation == 1
    assert speech.take(0) is None
    assert speech.backlog_s == 0
    assert speech.speak(tone(0.1, 16000), 16000, None, 0).id == 3


def test_backlog_is_bounded_and_work_per_message_too():
    actor = Recorder()
    speech = Speech(actor, backlog_s=300)
    minute = tone(60.0, 16000)
    for _ in range(5):
        assert speech.speak(minute, 16000, None, 0) is not None
    assert speech.speak(tone(1.0, 16000), 16000, None, 0) is None
    assert actor.heard < 2 * 16000  # converted just ahead of playing, not all at once
    assert speech.backlog_s == pytest.approx(300, abs=0.01)
    for _ in range(26):
        assert speech.take(0) is not None
    assert speech.speak(tone(1.0, 16000), 16000, None, 0) is not None


def test_an_empty_segment_is_complete_when_it_is_ended():
    actor = Recorder()
    speech = Speech(actor)
    segment = speech.begin("u-1", 16000, 0)
    speech.end()
    assert speech.take(0) is None
    assert segment.drained
    assert not speech.pending
    assert actor.finished_at == []
