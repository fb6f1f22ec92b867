"""The network's training without synthesisers: what is heard, how it learns, how it is judged."""

import json
import math
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from models.warp.speech.log_mel import BANDS
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import COLUMN, OUTPUTS

torch = pytest.importorskip("torch", reason="networks are trained in torch, which is not installed")

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "speech" / "papa_mama_baba"


@pytest.fixture(scope="module", autouse=True)
def _scripts_can_be_imported():
    sys.path.insert(0, str(ROOT / "scripts"))
    yield
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """So small products are not worth sharing out, and wait long for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counting_corpus(rows: int = 900):
    """A corpus whose first band and aperture count the rows."""
    from speech_to_motion.corpus import Corpus

    count = torch.arange(rows, dtype=torch.float32)
    mel = torch.zeros(2 * rows, BANDS)
    mel[:, 0] = count.repeat_interleave(2)
    motion = torch.zeros(rows, len(OUTPUTS))
    motion[:, COLUMN["aperture"]] = count
    return Corpus(mel.half(), motion, torch.zeros(rows, dtype=torch.int64))


def speechlike_corpus(rows: int = 600):
    """Noise that swells, and lips that follow it."""
    from speech_to_motion.corpus import Corpus

    loud = torch.rand(rows // 20, generator=chance()).repeat_interleave(20)
    mel = loud.repeat_interleave(2)[:, None] + 0.1 * torch.randn(
        2 * rows, BANDS, generator=chance(1)
    )
    motion = loud[:, None].expand(-1, len(OUTPUTS)).contiguous()
    return Corpus(mel.half(), motion, torch.zeros(rows, dtype=torch.int64))


def test_lips_stay_in_time_with_sound_at_every_tempo():
    from speech_to_motion.augmentation import crop

    mel, motion, _ = crop(counting_corpus(), 100, torch.linspace(0.0, 1.0, 24), chance())
    assert mel.shape == (24, 200, BANDS)
    sounding = mel[:, :, 0].reshape(24, 100, 2).mean(2)
    assert (sounding - motion[..., COLUMN["aperture"]]).abs().max() < 1.1
    passed = motion[:, -1, COLUMN["aperture"]] - motion[:, 0, COLUMN["aperture"]]
    assert passed[0] == pytest.approx(99.0), "strength 0 leaves the tempo"
    assert (passed[12:] - 99.0).abs().max() > 10.0


def test_a_shorter_vocal_tract_moves_formants_up():
    from speech_to_motion.augmentation import _CENTRES_HZ, stretch_frequency

    band = 30
    heard = stretch_frequency(torch.eye(BANDS)[band].expand(1, 4, -1), torch.tensor([0.74]))
    moved = float(_CENTRES_HZ[heard[0, 0].argmax()] / _CENTRES_HZ[band])
    assert moved == pytest.approx(1 / 0.74, rel=0.04)


def test_a_telephone_passes_the_middle_of_the_voice_only():
    from speech_to_motion.augmentation import _CENTRES_HZ, narrow_band

    power = narrow_band(torch.ones(1, 1, BANDS), 300.0, 3400.0)[0, 0]
    inside = (_CENTRES_HZ > 300) & (_CENTRES_HZ < 3400)
    assert power[inside].min() > 0.99
    assert power[_CENTRES_HZ < 150].max() < 1e-5
    assert power[_CENTRES_HZ > 6900].max() < 1e-5


def test_a_room_rings_on_after_the_sound_and_never_before():
    from speech_to_motion.augmentation import _reverberate

    power = torch.zeros(8, 200, BANDS)
    power[:, 50] = 1.0
    heard = _reverberate(power, torch.full((8, 1, 1), 0.5), chance())
    assert heard[:, :50].abs().max() == 0.0
    tail = heard[:, 51:, 0]
    assert (tail[:, :-1] >= tail[:, 1:]).all()
    assert tail[:, 5].min() > 0.0
    total = tail.sum(1)
    assert total.max() < 0.501
    assert total.max() > 0.4


def test_half_of_every_batch_stays_light_and_the_hard_half_is_ramped():
    from speech_to_motion.training import strength_at

    start, full, end = strength_at(0.0), strength_at(0.5), strength_at(0.9)
    assert float(start.max()) <= 0.11
    assert float(full.max()) == pytest.approx(1.0)
    assert float(full.median()) < 0.6
    assert float(end.max()) == pytest.approx(0.6)


def test_augmentation_is_repeatable_and_as_strong_as_asked():
    from speech_to_motion.augmentation import augment

    mels = 0.5 * torch.randn(12, 80, BANDS, generator=chance())
    strength = torch.tensor([0.05] * 6 + [1.0] * 6)
    first, again = augment(mels, strength, chance(1)), augment(mels, strength, chance(1))
    assert torch.equal(first, again)
    assert torch.isfinite(first).all()
    changed = (first - mels).abs().mean((1, 2))
    assert changed[:6].mean() < 0.5 * changed[6:].mean()


def test_the_optimizer_moves_a_matrix_in_all_its_directions():
    from speech_to_motion.muon import Muon, orthogonal

    steep = torch.diag(torch.logspace(0, -2, 16)) @ torch.randn(16, 40, generator=chance())
    strengths = torch.linalg.svdvals(orthogonal(steep))
    assert strengths.min() > 0.5
    assert strengths.max() < 1.3

    wanted = torch.randn(8, 16, generator=chance(2))
    matrix = torch.zeros(8, 16, requires_grad=True)
    optimizer = Muon([matrix], rate=0.1, decay=0.0)
    for _ in range(80):
        matrix.grad = matrix.detach() - wanted
        optimizer.step()
    assert (matrix - wanted).abs().mean() < 0.3 * wanted.abs().mean()


def test_the_same_seed_trains_the_same_network(monkeypatch):
    from speech_to_motion import training

    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "ROWS", 60)
    corpus = speechlike_corpus()
    first, again, other = (training.train(corpus, 3, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["motion.weight"], other["motion.weight"])


def test_an_open_p_costs_more_than_a_narrow_vowel():
    from speech_to_motion.training import ROWS, loss

    phone = torch.zeros(1, ROWS, dtype=torch.int64)
    named = torch.zeros(1, ROWS, 29)

    def cost(closure: float) -> float:
        motion = torch.zeros(1, ROWS, len(OUTPUTS))
        motion[..., COLUMN["closure"]] = closure
        off, right = (torch.zeros(1, ROWS, 6, len(OUTPUTS)) for _ in range(2))
        off[..., COLUMN["aperture"]] = 0.5
        return float(loss(off, named, motion, phone) - loss(right, named, motion, phone))

    assert cost(1.0) > 1.5 * cost(0.0)


def test_agreement_with_lips_that_do_what_is_said_is_told_from_lips_that_do_not():
    from speech_to_motion.evaluation import agree

    with wave.open(str(FIXTURE.with_suffix(".wav"))) as file:
        speech = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    phones = json.loads(FIXTURE.with_suffix(".json").read_text())["phones"]
    t = np.arange(len(speech) // 640) / 25
    ends = np.array([phone["end"] for phone in phones])
    said = [phones[i]["phone"] for i in np.searchsorted(ends, np.minimum(t, ends[-1] - 1e-3))]
    opening = {"aa": 1.0, "p b m": 0.0, "silence": 0.4}
    gap = np.array([opening.get(phone, 0.5) for phone in said])
    lips = {"t": t, "lip_gap": gap, "mouth_width": np.sin(t)}

    network = SpeechToMotion.load()
    right = agree(network, speech, lips)
    assert right.aperture_r is not None
    assert right.aperture_r > 0.5
    assert right.closure_auc is not None
    assert right.closure_auc > 0.9
    assert right.precision == 1.0
    assert right.recall > 0.6
    wrong = agree(network, speech, lips | {"lip_gap": gap[::-1]})
    assert wrong.closure_auc is not None
    assert wrong.closure_auc < right.closure_auc - 0.2
    assert wrong.precision < 0.7


def test_every_kind_of_sound_is_judged():
    from speech_to_motion.evaluation import KINDS, hear
    from speech_to_motion.network import SpeechToMotionModule

    network = SpeechToMotionModule.load()
    corpus = speechlike_corpus()
    for kind in KINDS:
        figures = hear(network, corpus, kind, seed=1, pieces=4)
        assert figures.aperture_r is not None
        assert math.isfinite(figures.aperture_r)


def test_weights_that_are_not_there_cannot_be_judged(tmp_path, capsys):
    import evaluate_speech_to_motion

    assert evaluate_speech_to_motion.main([str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err
