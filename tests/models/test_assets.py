"""The model cache, with a real pip and wheels made here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from models import assets
from models.assets import Asset, AssetError, Wheel, ensure

CONTENT = b"weights of a very small network" * 100
MEMBER = "demo_weights/net.tflite"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that pip takes as its only package index, with one wheel in it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(
        folder / "demo_weights-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", "w"
    ) as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("demo_weights/unwanted.bin", b"x" * 1000)
        wheel.writestr(
            "demo_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\n",
        )
        wheel.writestr(
            "demo_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_x86_64\n",
        )
        wheel.writestr("demo_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("AVATAR_MODELS_DIR", raising=False)
    return folder


def demo(shelf: Path, wheel_sha: str = "", content_sha: str = "", member: str = MEMBER) -> Asset:
    (path,) = shelf.glob("*.whl")
    source = Wheel(
        "demo-weights==1.0",
        "3.11",
        "manylinux_2_28_x86_64",
        wheel_sha or sha(path.read_bytes()),
        1,
    )
    return Asset("net.tflite", content_sha or sha(CONTENT), source, member)


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock")


@dataclass(frozen=True)
class Broken:
    """A source that is interrupted half-way."""

    label: str = "a broken thing"

    def fetch(self, folder: Path) -> Path:
        (folder / "half").write_bytes(CONTENT[:50])
        raise KeyboardInterrupt

    def extract(self, fetched: Path, member: str, target: Path) -> None:
        raise AssertionError("nothing was fetched")


def test_fetches_from_pips_own_index_and_keeps_only_what_is_wanted(shelf, tmp_path):
    lines: list[str] = []
    (path,) = ensure(demo(shelf), cache=tmp_path / "cache", log=lines.append)
    assert path.read_bytes() == CONTENT
    assert listing(tmp_path / "cache") == ["net.tflite"]
    assert len(lines) == 1
    assert "demo-weights==1.0 (1 MB)" in lines[0]


def test_fetches_once(shelf, tmp_path):
    asset = demo(shelf)
    ensure(asset, cache=tmp_path / "cache")
    shutil.rmtree(shelf)
    lines: list[str] = []
    assert ensure(asset, cache=tmp_path / "cache", log=lines.append)[0].is_file()
    assert lines == []


def test_a_damaged_file_is_fetched_again(shelf, tmp_path):
    asset = demo(shelf)
    (path,) = ensure(asset, cache=tmp_path / "cache")
    path.write_bytes(CONTENT[:-1] + b"!")
    assert ensure(asset, cache=tmp_path / "cache")[0].read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", ["wheel", "content", "member"])
def test_the_wrong_file_never_enters_the_cache(shelf, tmp_path, wrong):
    asset = demo(
        shelf,
        wheel_sha="0" * 64 if wrong == "wheel" else "",
        content_sha="0" * 64 if wrong == "content" else "",
        member="demo_weights/absent" if wrong == "member" else MEMBER,
    )
    with pytest.raises(AssetError, match=r"net\.tflite") as caught:
        ensure(asset, cache=tmp_path / "cache")
    assert listing(tmp_path / "cache") == []
    assert ("absent" if wrong == "member" else "expected " + "0" * 64) in str(caught.value)


def test_a_truncated_wheel_is_refused(shelf, tmp_path):
    asset = demo(shelf)
    (wheel,) = shelf.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(AssetError, match=r"python -m models\.assets"):
        ensure(asset, cache=tmp_path / "cache")
    assert listing(tmp_path / "cache") == []


def test_without_a_network_the_error_says_what_to_do(shelf, tmp_path):
    asset = demo(shelf)
    shutil.rmtree(shelf)
    with pytest.raises(AssetError) as caught:
        ensure(asset, cache=tmp_path / "cache")
    for part in ("net.tflite", str(tmp_path / "cache"), "python -m models.assets", "demo-weights"):
        assert part in str(caught.value)


def test_an_interrupted_fetch_leaves_nothing_and_does_not_block_the_next(shelf, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        ensure(Asset("net.tflite", sha(CONTENT), Broken()), cache=cache)
    assert listing(cache) == []
    assert ensure(demo(shelf), cache=cache)[0].read_bytes() == CONTENT


def test_two_processes_at_once_fetch_once(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        from dataclasses import dataclass
        from pathlib import Path
        from models.assets import Asset, ensure

        @dataclass(frozen=True)
        class Slow:
            label: str = "slow"
            def fetch(self, folder):
                with open({str(tmp_path / "fetches")!r}, "a") as log:
                    log.write("fetch\\n")
                time.sleep(0.5)
                (folder / "all").write_bytes({CONTENT!r})
                return folder / "all"
            def extract(self, fetched, member, target):
                target.write_bytes(fetched.read_bytes())

        asset = Asset("net", {sha(CONTENT)!r}, Slow())
        (path,) = ensure(asset, cache=Path({str(tmp_path / "c")!r}))
        assert path.read_bytes() == {CONTENT!r}
        """
    )
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (tmp_path / "fetches").read_text() == "fetch\n"


def test_a_given_folder_is_used_and_nothing_is_fetched(shelf, tmp_path, monkeypatch):
    asset = demo(shelf)
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(given))
    with pytest.raises(AssetError, match=r"holds no net\.tflite"):
        ensure(asset)
    (given / "net.tflite").write_bytes(CONTENT[:-1])
    with pytest.raises(AssetError, match="damaged"):
        ensure(asset)
    (given / "net.tflite").write_bytes(CONTENT)
    assert ensure(asset) == [given / "net.tflite"]


def test_the_cache_folder_is_read_from_the_environment_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("AVATAR_CACHE", str(tmp_path / "here"))
    assert assets.cache_dir() == tmp_path / "here"
    monkeypatch.delenv("AVATAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_dir() == tmp_path / "xdg" / "avatar-server"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert assets.cache_dir() == tmp_path / "home" / ".cache" / "avatar-server"


def test_a_cache_that_cannot_be_written_is_named(shelf, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AssetError, match="AVATAR_CACHE"):
        ensure(demo(shelf), cache=tmp_path / "file" / "cache")
