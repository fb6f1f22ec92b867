import json
import wave
from pathlib import Path

import numpy as np
import pytest

from models.warp.speech.motion_stream import MotionStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import COLUMN, LOOKAHEAD, ROW_SAMPLES

FIXTURE = Path(__file__).parents[3] / "fixtures" / "speech" / "papa_mama_baba"
EVALKIT = Path(__file__).parents[5] / "shared" / "evalkit" / "dev"


@pytest.fixture(scope="module")
def network() -> SpeechToMotion:
    return SpeechToMotion.load()


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read(FIXTURE.with_suffix(".wav"))


def rows_of(network: SpeechToMotion, pcm: np.ndarray) -> np.ndarray:
    stream = MotionStream(network)
    stream.hear(pcm)
    stream.finish()
    return stream.take(stream.heard)


def phones() -> list[tuple[str, float, float]]:
    """(class, start, end) of the fixture's phones, in seconds."""
    said = json.loads(FIXTURE.with_suffix(".json").read_text())["phones"]
    ends = [0.0] + [phone["end"] for phone in said]
    return [(phone["phone"], a, b) for phone, a, b in zip(said, ends[:-1], ends[1:], strict=True)]


def between(rows: np.ndarray, channel: str, start: float, end: float) -> np.ndarray:
    return rows[round(start * 50) : max(round(end * 50), round(start * 50) + 1), COLUMN[channel]]


@pytest.mark.parametrize("size", [37, 320, 640, 1024, 9000])
def test_final_rows_do_not_depend_on_how_the_speech_was_cut(network, speech, size):
    whole = rows_of(network, speech)
    stream, taken = MotionStream(network), []
    for i in range(0, len(speech), size):
        stream.hear(speech[i : i + size])
        taken.append(stream.take(stream.ready))
    stream.finish()
    taken.append(stream.take(stream.heard))
    np.testing.assert_allclose(np.concatenate(taken), whole, atol=1e-5)


def test_a_final_row_looks_no_further_than_its_lookahead(network, speech):
    row = 100
    end = (row + 1 + LOOKAHEAD) * ROW_SAMPLES
    assert end / 16_000 - row * 0.02 <= 0.122
    changed = speech.copy()
    changed[end:] = np.random.default_rng(0).integers(-9000, 9000, len(speech) - end)
    before, after = rows_of(network, speech), rows_of(network, changed)
    np.testing.assert_allclose(before[: row + 1], after[: row + 1], atol=1e-5)
    assert np.abs(before[row + 1 :] - after[row + 1 :]).max() > 0.05


def test_rows_are_ready_once_their_lookahead_is_heard(network, speech):
    stream = MotionStream(network)
    stream.hear(speech[: 10 * ROW_SAMPLES - 1])
    assert (stream.heard, stream.ready) == (9, 9 - LOOKAHEAD)
    stream.hear(speech[10 * ROW_SAMPLES - 1 : 10 * ROW_SAMPLES])
    assert (stream.heard, stream.ready) == (10, 10 - LOOKAHEAD)
    stream.take(3)
    assert (stream.heard, stream.ready) == (7, 2)
    stream.finish()
    assert stream.heard == stream.ready == 7


def test_taking_early_rows_changes_no_later_row(network, speech):
    whole = rows_of(network, speech)
    stream = MotionStream(network)
    stream.hear(speech[: 80 * ROW_SAMPLES])
    early = stream.take(80)
    np.testing.assert_allclose(early[: 80 - LOOKAHEAD], whole[: 80 - LOOKAHEAD], atol=1e-5)
    stream.hear(speech[80 * ROW_SAMPLES :])
    stream.finish()
    np.testing.assert_allclose(stream.take(stream.heard), whole[80:], atol=1e-5)


def test_early_rows_are_a_fair_guess_of_the_final_ones(network, speech):
    whole = rows_of(network, speech)
    stream, early = MotionStream(network), []
    for i in range(0, len(speech) - ROW_SAMPLES + 1, ROW_SAMPLES):
        stream.hear(speech[i : i + ROW_SAMPLES])
        early.append(stream.take(1))
    aperture = np.concatenate(early)[:, COLUMN["aperture"]]
    final = whole[: len(aperture), COLUMN["aperture"]]
    assert np.corrcoef(aperture, final)[0, 1] > 0.6


def test_a_view_goes_on_from_its_row_with_what_comes(network, speech):
    whole = rows_of(network, speech)
    stream = MotionStream(network)
    stream.hear(speech[: 60 * ROW_SAMPLES])
    views = stream.take_views(60)
    assert [len(view) for view in views] == [1 + LOOKAHEAD] * 55 + [5, 4, 3, 2, 1]
    loudness, aperture = COLUMN["loudness"], COLUMN["aperture"]
    for row, view in enumerate(views):
        np.testing.assert_allclose(view[:, loudness], whole[row : row + len(view), loudness])
    np.testing.assert_allclose([view[0] for view in views[:55]], whole[:55], atol=1e-5)
    guessed = np.array([view[3, aperture] for view in views[:55]])
    assert np.corrcoef(guessed, whole[3:58, aperture])[0, 1] > 0.9


def test_finish_pads_to_whole_frames(network):
    stream = MotionStream(network)
    stream.hear(np.zeros(641, np.int16))
    stream.finish()
    assert stream.heard == 4
    with pytest.raises(ValueError, match="finished"):
        stream.hear(np.zeros(1, np.int16))
    with pytest.raises(ValueError, match="5 rows"):
        stream.take(5)


@pytest.mark.parametrize("pcm", [np.zeros(640, np.float32), np.zeros((2, 640), np.int16)])
def test_speech_of_another_kind_is_refused(network, pcm):
    with pytest.raises(ValueError, match="int16 of shape"):
        MotionStream(network).hear(pcm)


def test_the_callers_buffer_may_be_used_again(network, speech):
    buffer, stream = speech.copy(), MotionStream(network)
    stream.hear(buffer)
    buffer[:] = 0
    stream.finish()
    np.testing.assert_allclose(stream.take(stream.heard), rows_of(network, speech), atol=1e-5)


def test_lips_press_together_on_p_b_and_m(network, speech):
    rows = rows_of(network, speech)
    said = phones()
    bilabials = [(a, b) for phone, a, b in said if phone == "p b m"]
    assert len(bilabials) == 6
    for start, end in bilabials:
        assert between(rows, "closure", start - 0.02, end + 0.02).max() > 0.5
        assert between(rows, "aperture", start - 0.02, end + 0.02).min() < 0.2
    for phone, start, end in said:
        if phone in ("aa", "eh", "e", "iy"):
            middle = (start + end) / 2
            assert between(rows, "closure", middle - 0.01, middle + 0.01).max() < 0.4


def test_vowels_open_the_mouth_and_f_v_bring_the_lip_to_the_teeth(network, speech):
    rows = rows_of(network, speech)
    said = phones()
    open_vowels = [between(rows, "aperture", a, b).max() for p, a, b in said if p == "aa"]
    assert np.mean(open_vowels) > 0.5
    labiodentals = [
        between(rows, "labiodental", a - 0.02, b + 0.02).max() for p, a, b in said if p == "f v"
    ]
    assert np.min(labiodentals) > 0.35


def test_rounding_and_spreading_are_told_apart(network, speech):
    rows = rows_of(network, speech)
    width = {
        name: np.mean([between(rows, "width", a, b).mean() for p, a, b in phones() if p == name])
        for name in ("w", "e", "iy")
    }
    assert width["w"] < -0.3
    assert min(width["e"], width["iy"]) > 0.1


def test_silence_is_not_speech(network, speech):
    rows = rows_of(network, speech)
    assert rows[:20, COLUMN["speech"]].max() < 0.2
    assert rows[60:70, COLUMN["speech"]].min() < rows[40:50, COLUMN["speech"]].max()
    still = rows_of(network, np.zeros(32_000, np.int16))
    assert still[:, COLUMN["speech"]].max() < 0.2
    assert still[:, COLUMN["closure"]].max() < 0.4
    assert still[:, COLUMN["loudness"]].max() == 0.0


@pytest.mark.evalkit
def test_agrees_with_measured_lips():
    clips = sorted(EVALKIT.glob("vasa-1__*")) + sorted(EVALKIT.glob("short_case__10"))
    if not clips:
        pytest.skip("the evaluation kit is not beside this checkout")
    network = SpeechToMotion.load()
    agreement = []
    for clip in clips:
        frames = json.loads((clip / "reference_track.json").read_text())["frames"]
        rows = rows_of(network, read(clip / "speech.wav"))
        gap = np.array([np.nan if v is None else v for v in frames["lip_gap"]], float)
        middle = np.array(frames["t"]) + 0.02
        times = np.arange(len(rows)) * 0.02 + 0.01
        aperture = np.interp(middle, times, rows[:, COLUMN["aperture"]])
        good = np.isfinite(gap) & (middle < times[-1])
        agreement.append(np.corrcoef(aperture[good], gap[good])[0, 1])
    assert np.mean(agreement) > 0.45, agreement
