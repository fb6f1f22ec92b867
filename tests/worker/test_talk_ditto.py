"""The ditto engine from the command line to the MP4, with tiny networks read from files."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from models.assets import ASSETS, find
from models.ditto.files import model_folder, wanted_files
from portraits import ANNA
from tests.fakes.ditto_files import write_tiny_files
from worker.cli import main

RATE = 16_000
SIZE = (320, 240)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """What AVATAR_MODELS_DIR names on a machine without a network: face models and Ditto's."""
    folder = tmp_path_factory.mktemp("models")
    for asset in ASSETS:
        path = find(asset)
        assert path is not None, "make models"
        (folder / asset.name).symlink_to(path)
    write_tiny_files(folder / "ditto")
    return folder


def write_speech(path: Path) -> int:
    """A second of noise, a second of silence, a second of noise; answers the samples."""
    rng = np.random.default_rng(0)
    loud = rng.normal(0, 4000, RATE)
    pcm = np.concatenate([loud, np.zeros(RATE), loud]).clip(-32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return len(pcm)


def talk(folder: Path, *more: str) -> tuple[int, Path]:
    write_speech(folder / "speech.wav")
    out = folder / "out.mp4"
    status = main(
        [
            "talk",
            "--engine",
            "ditto",
            "--device",
            "cpu",
            "--fast",
            "--quiet",
            "--portrait",
            str(ANNA.path),
            "--speech",
            str(folder / "speech.wav"),
            "--out",
            str(out),
            "--size",
            f"{SIZE[0]}x{SIZE[1]}",
            *more,
        ]
    )
    return status, out


def test_a_portrait_talks(models, tmp_path, monkeypatch):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(models))
    status, out = talk(tmp_path)
    assert status == 0
    with av.open(str(out)) as container:
        pictures = np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)])
    with av.open(str(out)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    assert pictures.shape == (75 + 10, SIZE[1], SIZE[0])
    # Sound: loud, silent, loud.
    level = [np.abs(sound[int(t * rate) : int((t + 0.8) * rate)]).mean() for t in (0.1, 1.1, 2.1)]
    assert min(level[0], level[2]) > 20 * level[1]
    # Pictures: the face moves, and beyond the reach of its crop nothing does.
    moved = np.abs(np.diff(pictures.astype(int), axis=0))
    assert (moved[:, 60:180, 100:220].mean((1, 2)) > 0.02).mean() > 0.9
    assert moved[:, 215:].max() <= 2, "only the encoder's noise"
    assert moved[:, :, 280:].max() <= 2


def test_what_is_missing_names_itself_and_the_command(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path))
    (tmp_path / "ditto").mkdir()
    for name in wanted_files():
        if name != "decoder.pth":
            (tmp_path / "ditto" / name).symlink_to(models / "ditto" / name)
    assert model_folder() == tmp_path / "ditto"
    status, _ = talk(tmp_path)
    assert status == 1
    assert capsys.readouterr().err == (
        f"worker: {tmp_path}/ditto lacks decoder.pth; run: "
        "python scripts/download_models.py ditto\n"
    )


def test_check_says_what_ditto_lacks(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(models))
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "ditto")
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", "cpu")
    assert main(["check", "--no-measure"]) == 0
    assert f"7 of 7 files in {models}/ditto" in capsys.readouterr().out

    (models / "ditto" / "lmdm_v0.4_hubert.pth").rename(tmp_path / "away")
    try:
        assert main(["check", "--no-measure"]) == 1
    finally:
        (tmp_path / "away").rename(models / "ditto" / "lmdm_v0.4_hubert.pth")
    said = capsys.readouterr().err
    assert "lacks lmdm_v0.4_hubert.pth" in said
    assert "run: python scripts/download_models.py ditto" in said
