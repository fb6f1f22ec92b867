"""The training's phone tables and targets; the synthesisers themselves are not needed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.warp.speech.rows import COLUMN, OUTPUTS

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_can_be_imported():
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


def target_rows(*said: tuple[str, float]) -> np.ndarray:
    """Target rows of (phone class, seconds) one after the other."""
    from speech_to_motion.phones import INDEX
    from speech_to_motion.targets import targets

    classes = np.array([INDEX[name] for name, _ in said])
    ends = np.cumsum([length for _, length in said])
    motion, phone = targets(classes, ends, int(ends[-1] * 50))
    assert motion.shape == (len(phone), len(OUTPUTS))
    return motion


@pytest.mark.parametrize(
    ("ipa", "classes"),
    [
        ("", ["silence"]),
        ("ˈaɪ", ["aa", "ih"]),
        ("oʊ", ["o", "uh"]),
        ("tʃ", ["sh"]),
        ("dʒ", ["sh"]),
        ("ts", ["s z"]),
        ("iː", ["iy"]),
        ("m̩", ["p b m"]),
        ("β", ["bilabial fricative"]),
        ("ɔ̃", ["ao"]),
        ("øː", ["mid front rounded"]),
        ("(en)", []),
    ],
)
def test_ipa_phones_find_their_classes(ipa, classes):
    from speech_to_motion.phones import from_ipa

    parts = from_ipa(ipa)
    assert [name for name, _ in parts] == classes
    if parts:
        assert sum(share for _, share in parts) == pytest.approx(1.0)


def test_every_phone_name_leads_to_a_class_the_network_knows():
    from speech_to_motion import phones

    for table, convert in (
        (phones._ARPABET, phones.from_arpabet),
        (phones._ITALIAN, phones.from_italian),
    ):
        for name in table:
            assert all(part in phones.SHAPES for part, _ in convert(name))
    assert set(phones._IPA) <= set(phones.SHAPES)


def test_lips_are_shut_during_p_and_open_in_the_vowels_around():
    motion = target_rows(
        ("silence", 0.3), ("aa", 0.16), ("p b m", 0.08), ("aa", 0.16), ("silence", 0.3)
    )
    closure, aperture = motion[:, COLUMN["closure"]], motion[:, COLUMN["aperture"]]
    shut = slice(23, 26)  # 0.46 to 0.52 s
    assert closure[shut].min() > 0.9
    assert aperture[shut].max() < 0.1
    assert aperture[19] > 0.7
    assert aperture[31] > 0.7
    assert closure[:20].max() == 0.0


def test_silence_lets_the_lips_sink_and_speech_parts_them_before_it_sounds():
    motion = target_rows(("aa", 0.3), ("silence", 1.0), ("aa", 0.3))
    aperture = motion[:, COLUMN["aperture"]]
    assert aperture[10] > 0.9
    assert aperture[40] == pytest.approx(0.22, abs=0.02)
    assert aperture[63] > aperture[40] + 0.1, "20 ms before the vowel the lips are on their way"
    assert list(motion[[5, 40, 75], COLUMN["speech"]]) == [1, 0, 1]


def test_rounding_spreads_to_its_neighbours():
    with_w = target_rows(("silence", 0.3), ("k g", 0.08), ("w", 0.08), ("aa", 0.2))
    without = target_rows(("silence", 0.3), ("k g", 0.08), ("l", 0.08), ("aa", 0.2))
    at_k = 18
    assert with_w[at_k, COLUMN["width"]] < without[at_k, COLUMN["width"]] - 0.3


def test_missing_programs_end_with_a_remedy():
    pytest.importorskip("torch", reason="networks are trained in torch, which is not installed")
    run = subprocess.run(
        [sys.executable, SCRIPTS / "train_speech_to_motion.py", "--quick"],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert "flite" in run.stderr
    assert "apt-get install espeak-ng" in run.stderr
