"""Fetching models by engine, from a source made here."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.assets import ASSETS, Asset, AssetError, find
from models.ditto.weights import download
from models.ditto.weights import release as ditto_release
from models.ditto.weights.release import CONFIG, ReleaseFile
from scripts import download_models

CONTENT = b"weights" * 1000


@dataclass(frozen=True)
class Shelf:
    """A source on disk; empty, it fails."""

    path: Path
    label: str = "demo==1.0 (7 MB)"

    def fetch(self, folder: Path) -> Path:
        if not self.path.is_file():
            raise AssetError("the network is down")
        return Path(shutil.copy(self.path, folder / "fetched"))

    def extract(self, fetched: Path, member: str, target: Path) -> None:
        shutil.copy(fetched, target)


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assets = (
        Asset("a.bin", digest, Shelf(path), licence="MIT"),
        Asset("b.bin", digest, Shelf(path)),
    )
    monkeypatch.setattr(
        download_models, "ENGINES", {"small": assets[:1], "big": assets, "broken": ()}
    )
    monkeypatch.setattr(download_models, "DEFAULT", ["small", "big"])
    monkeypatch.delenv("AVATAR_MODELS_DIR", raising=False)
    monkeypatch.setenv("AVATAR_CACHE", str(tmp_path / "cache"))
    return path


def test_each_file_comes_with_its_licence(shelf, tmp_path, capsys):
    assert download_models.main(["--engine", "big", "--to", str(tmp_path / "to")]) == 0
    out = capsys.readouterr().out
    assert "MIT" in out.splitlines()[0]
    assert "Apache-2.0" in out.splitlines()[1]
    assert "demo==1.0" in out
    assert {file.name for file in (tmp_path / "to").glob("*.bin")} == {"a.bin", "b.bin"}


def test_files_that_are_there_take_one_line(shelf, tmp_path, capsys):
    assert download_models.main([]) == 0
    assert "MIT" in capsys.readouterr().out
    assert download_models.main([]) == 0
    assert capsys.readouterr().out == f"2 model files are in {tmp_path / 'cache'}\n"


def test_the_folder_works_without_a_network(shelf, tmp_path, monkeypatch):
    assert download_models.main(["--to", str(tmp_path / "to")]) == 0
    shelf.unlink()
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path / "to"))
    assert download_models.main([]) == 0
    assert find(download_models.ENGINES["small"][0]) == tmp_path / "to" / "a.bin"


def test_only_what_the_engine_needs_is_fetched(shelf, tmp_path):
    assert download_models.main(["--engine", "small"]) == 0
    assert {file.name for file in (tmp_path / "cache").glob("*.bin")} == {"a.bin"}


def test_a_failure_is_one_sentence(shelf, tmp_path, capsys):
    shelf.unlink()
    assert download_models.main(["--engine", "small"]) == 1
    err = capsys.readouterr().err
    assert "a.bin" in err
    assert "the network is down" in err
    assert "Traceback" not in err


def test_damaged_files_are_not_found(shelf, tmp_path):
    asset = download_models.ENGINES["small"][0]
    assert find(asset) is None
    download_models.main(["--engine", "small"])
    assert find(asset) == tmp_path / "cache" / "a.bin"
    (tmp_path / "cache" / "a.bin").write_bytes(b"bad")
    assert find(asset) is None


def test_every_file_of_the_default_engine_has_a_commercial_licence():
    assert download_models.DEFAULT == ["warp"]
    assert download_models.ENGINES["warp"] == ASSETS
    assert {asset.licence for asset in ASSETS} <= {"Apache-2.0", "MIT", "BSD-3-Clause"}


@pytest.fixture
def release(shelf, tmp_path, monkeypatch) -> Path:
    """A folder that holds a small release of Ditto, and the face model of that engine."""
    content = pickle.dumps({"default_kwargs": {}})
    network = ReleaseFile("models/net.pth", "MIT", "someone", len(CONTENT))
    forbidden = ReleaseFile("aux/det.onnx", "non-commercial", "others", needed=False)
    for module in (download, ditto_release):
        monkeypatch.setattr(module, "RELEASE", (network, CONFIG, forbidden))
    engines = {"small": (), "ditto": download_models.ENGINES["small"]}
    monkeypatch.setattr(download_models, "ENGINES", engines)
    folder = tmp_path / "release"
    for file, data in ((network, CONTENT), (CONFIG, content), (forbidden, b"net")):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "a.bin").write_bytes(CONTENT)
    shelf.unlink()
    return folder


def test_ditto_from_a_folder_with_its_licences(release, tmp_path, capsys, monkeypatch):
    to = tmp_path / "to"
    assert download_models.main(["ditto", "--from", str(release), "--to", str(to)]) == 0
    out = capsys.readouterr().out
    assert "MIT" in out
    assert "by someone" in out
    assert (to / "a.bin").is_file()
    assert (to / "ditto" / "net.pth").read_bytes() == CONTENT
    assert (to / "ditto" / "LICENCES.txt").is_file()
    assert not (to / "ditto" / "det.onnx").exists()

    # What was carried elsewhere is only looked into, and carried on.
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(to))
    assert download_models.main(["ditto"]) == 0
    again = tmp_path / "again"
    assert download_models.main(["ditto", "--from", str(to), "--to", str(again)]) == 0
    assert (again / "ditto" / "net.pth").is_file()
    (to / "ditto" / "net.pth").unlink()
    assert download_models.main(["ditto"]) == 1
    assert "net.pth is missing; run: python scripts/download_models.py ditto" in (
        capsys.readouterr().err
    )


def test_ditto_s_other_files_are_named_to_be_fetched(release, tmp_path, capsys):
    arguments = ["ditto", "--from", str(release), "--include", "det.onnx"]
    assert download_models.main(arguments) == 0
    assert "non-commercial" in capsys.readouterr().out
    assert (tmp_path / "cache" / "ditto" / "det.onnx").is_file()


def test_unknown_engines_are_named(capsys):
    with pytest.raises(SystemExit):
        download_models.main(["dito"])
    assert "no engine dito; there are ditto, warp" in capsys.readouterr().err
