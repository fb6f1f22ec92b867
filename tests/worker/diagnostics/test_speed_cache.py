import json
import os

import pytest

from models.engine import Canvas
from worker.diagnostics import speed_cache
from worker.diagnostics.speed_cache import KEPT, Speed, SpeedCache, fingerprint

SPEED = Speed(100.0, 0.01, 0.002)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "speeds.json"


def test_what_is_kept_is_known_to_the_next_process(path):
    SpeedCache(path).put("one", SPEED)
    assert SpeedCache(path).get("one") == SPEED
    assert SpeedCache(path).get("other") is None
    assert os.listdir(path.parent) == ["speeds.json"]


def test_the_oldest_go(path):
    cache = SpeedCache(path)
    for number in range(KEPT + 1):
        cache.put(str(number), SPEED)
    assert cache.get("0") is None
    assert cache.get(str(KEPT)) == SPEED


@pytest.mark.parametrize("text", ["", "[]", "{", '{"one": 3}', '{"one": {"frames": 1}}'])
def test_a_damaged_file_is_passed_over(path, text):
    path.parent.mkdir()
    path.write_text(text)
    cache = SpeedCache(path)
    assert cache.get("one") is None
    cache.put("one", SPEED)
    assert cache.get("one") == SPEED
    json.loads(path.read_text())


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path):
    (tmp_path / "file").write_text("")
    cache = SpeedCache(tmp_path / "file" / "speeds.json")
    cache.put("one", SPEED)
    assert cache.get("one") is None


def test_a_fingerprint_stands_for_what_a_speed_depends_on(tmp_path, monkeypatch):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    given = ("warp", 1, Canvas(640, 480), photo)
    first = fingerprint(*given)
    assert fingerprint(*given) == first
    others = {
        fingerprint("other", *given[1:]),
        fingerprint("warp", 2, *given[2:]),
        fingerprint("warp", 1, Canvas(1280, 960), photo),
    }
    monkeypatch.setattr(speed_cache, "usable_cores", lambda: 99)
    others.add(fingerprint(*given))
    monkeypatch.setattr(speed_cache, "_version", lambda name: "0.0")
    others.add(fingerprint(*given))
    monkeypatch.setattr(speed_cache.models, "__path__", [str(tmp_path)])
    for name in ("engine.py", "kernels.so"):
        (tmp_path / name).write_text("code")
        others.add(fingerprint(*given))
    (tmp_path / "README.md").write_text("no code")
    others.add(fingerprint(*given))
    assert len(others | {first}) == 8
