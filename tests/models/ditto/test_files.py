"""Where Ditto's files are looked for, and what is said of those that are not there."""

import json

import pytest

from models.ditto.files import (
    SIZES,
    missing_files,
    model_folder,
    read_sizes,
    require_files,
    wanted_files,
    write_sizes,
)
from models.ditto.networks.ditto_networks import DittoSizes
from models.ditto.weights.reader import WeightsError
from models.engine import EngineError


def test_the_folder_is_that_of_the_other_models(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path / "given"))
    assert model_folder() == tmp_path / "given" / "ditto"
    monkeypatch.delenv("AVATAR_MODELS_DIR")
    monkeypatch.setenv("AVATAR_CACHE", str(tmp_path / "cache"))
    assert model_folder() == tmp_path / "cache" / "ditto"


def test_what_is_missing_is_named_with_what_fetches_it(tmp_path):
    for name in wanted_files()[2:]:
        (tmp_path / name).touch()
    assert missing_files(tmp_path) == ["appearance_extractor.pth", "motion_extractor.pth"]
    with pytest.raises(EngineError) as refusal:
        require_files(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} lacks appearance_extractor.pth, motion_extractor.pth; run: "
        "python scripts/download_models.py ditto"
    )
    for name in wanted_files():
        (tmp_path / name).touch()
    assert require_files(tmp_path) == tmp_path


def test_sizes_are_the_official_ones_unless_a_file_says_otherwise(tmp_path):
    assert read_sizes(tmp_path) == DittoSizes.official()
    write_sizes(DittoSizes.tiny(), tmp_path)
    assert read_sizes(tmp_path) == DittoSizes.tiny()


@pytest.mark.parametrize("text", ["{", "3", json.dumps({"depht": 3})])
def test_a_file_of_sizes_that_makes_no_sense_is_refused(tmp_path, text):
    (tmp_path / SIZES).write_text(text)
    with pytest.raises(WeightsError, match=SIZES):
        read_sizes(tmp_path)
