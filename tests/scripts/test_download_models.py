"""Fetching models by engine, from a source made here."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.assets import ASSETS, Asset, AssetError, find
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
    assert download_models.ENGINES["warp"] == ASSETS
    assert {asset.licence for asset in ASSETS} <= {"Apache-2.0", "MIT", "BSD-3-Clause"}
