"""The network that is trained, in torch, and the engine's own, in numpy, are one and the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

from models.warp.speech.log_mel import HOP, WINDOW, LogMelStream
from models.warp.speech.network import SpeechToMotion
from models.warp.speech.rows import OUTPUTS, PROBABILITIES
from tests.models.warp.speech.babble import babble
from tests.models.warp.speech.reference import Reference

torch = pytest.importorskip("torch", reason="networks are trained in torch, which is not installed")

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_can_be_imported():
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return babble(20.0, np.random.default_rng(4))


@pytest.fixture(scope="module")
def said_in_torch(speech) -> np.ndarray:
    """What the trained network says of the speech in float64."""
    from speech_to_motion.log_mel import log_mel
    from speech_to_motion.network import SpeechToMotionModule

    module = SpeechToMotionModule.load().double()
    sound = torch.from_numpy(np.pad(speech / 32768.0, (WINDOW - HOP, 0)))
    with torch.inference_mode():
        said, _, _ = module(log_mel(sound)[None], module.initial_state())
        said[..., PROBABILITIES] = said[..., PROBABILITIES].sigmoid()
    return said[0].numpy()


def test_numpy_says_what_torch_says_in_float64(speech, said_in_torch):
    network = SpeechToMotion.load()
    stream, state, said = LogMelStream(), network.initial_state(), []
    for pcm in np.array_split(speech, 40):  # of 25 rows
        rows, state = network(stream.push(pcm), state)
        said.append(rows)
    assert np.concatenate(said).shape == said_in_torch.shape
    assert np.ptp(said_in_torch[..., OUTPUTS.index("aperture")]) > 0.5
    np.testing.assert_allclose(np.concatenate(said), said_in_torch, atol=2e-5)


def test_the_reference_of_the_engines_tests_is_torchs(speech, said_in_torch):
    np.testing.assert_allclose(Reference().readings(speech), said_in_torch, atol=1e-7)


def test_what_is_trained_can_be_loaded_by_the_engine(tmp_path):
    from speech_to_motion.network import SpeechToMotionModule

    torch.manual_seed(0)
    module = SpeechToMotionModule().eval()
    module.save(tmp_path / "folder" / "new.safetensors")
    network = SpeechToMotion.load(tmp_path / "folder" / "new.safetensors")
    mel = np.random.default_rng(0).standard_normal((40, 80)).astype(np.float32)
    said, _ = network(mel, network.initial_state())
    with torch.inference_mode():
        wanted, _, _ = module(torch.from_numpy(mel)[None], module.initial_state())
        wanted[..., PROBABILITIES] = wanted[..., PROBABILITIES].sigmoid()
    np.testing.assert_allclose(said, wanted[0], atol=1e-4)
