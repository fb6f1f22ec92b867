"""Fetch the release: in parts if need be, checked, with the licence of each file beside it.

A folder that was fetched into holds, besides the files, ``release.lock.json`` (the SHA-256 that
each file had when it was first fetched: later ones are held to it) and ``LICENCES.txt``. It can be
carried to machines without a network.

``AVATAR_MODELS_MIRROR``
    Stands in for ``https://huggingface.co``: the address of a host that mirrors it path by path.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout
from tqdm import tqdm

from models.assets import AssetError, sha256_of
from models.ditto.weights.config import CONFIG_JSON, CONFIG_NPZ, ConfigError, convert_config
from models.ditto.weights.reader import FETCH
from models.ditto.weights.release import CONFIG, HOST, RELEASE, ReleaseFile

LOCK = "release.lock.json"
LICENCES = "LICENCES.txt"
MIRROR = "AVATAR_MODELS_MIRROR"

PATIENCE = httpx.Timeout(30.0)
"""Longest silence of a server in seconds. A download as a whole may take as long as it takes."""
ATTEMPTS = 6
"""Attempts in a row that bring nothing, before a file is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between attempts: doubled each time."""


class DownloadError(AssetError):
    """A file could not be had, or is not what it should be; the message says what to do."""


class _TryAgain(Exception):
    """This attempt failed, another may not."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause


@dataclass
class Downloader:
    """Fetches files of the release into one folder."""

    folder: Path
    mirror: str = ""
    """Host to fetch from; empty: AVATAR_MODELS_MIRROR, or the original."""
    source: Path | None = None
    """A folder to copy from instead: flat, or laid out as the repository."""
    any_size: bool = False
    """Take files whose size is not the known one: of a release newer than this code."""
    sleep: Callable[[float], None] = time.sleep
    log: Callable[[str], None] = field(default=lambda line: print(line, flush=True))

    def fetch(self, files: Sequence[ReleaseFile]) -> list[Path]:
        """Have every file: kept ones are checked, missing ones fetched, all recorded.

        Raises:
            DownloadError: a file could not be had; those before it are kept, and it goes on from
                where it was when it is asked for again.
        """
        host = self.mirror or os.environ.get(MIRROR) or HOST
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=1.0):
                paths = [self._have(file, host) for file in files]
                self._convert(files)
        except Timeout as error:
            raise DownloadError(f"another process is fetching into {self.folder}") from error
        except OSError as error:
            raise self._unwritable(error) from error
        return paths

    def _have(self, file: ReleaseFile, host: str) -> Path:
        path = self.folder / file.name
        pinned = _read_lock(self.folder).get(file.name)
        if path.is_file():
            self._check_size(path, file)
            digest = self._check_hash(path, file, pinned, None)
            self.log(f"{file.name}: here, sha256 {digest}")
        else:
            part = path.with_name(path.name + ".part")
            if self.source is not None:
                origin = str(self._copy(file, part))
                expected = None
            else:
                origin = file.url(host)
                expected = self._download(origin, file, part)
            try:
                self._check_size(part, file)
                digest = self._check_hash(part, file, pinned, expected)
            except DownloadError:
                part.unlink()
                _etag_of(part).unlink(missing_ok=True)
                raise
            os.replace(part, path)
            _etag_of(part).unlink(missing_ok=True)
            self.log(f"{file.name}: fetched from {origin}, sha256 {digest}")
        if pinned is None:
            self._record(file, path, digest)
        return path

    def _check_size(self, path: Path, file: ReleaseFile) -> None:
        size = path.stat().st_size
        if file.size is not None and size != file.size and not self.any_size:
            raise DownloadError(
                f"{path.name} has {size} bytes, not {file.size}. If the release has changed, take "
                "it with --any-size; else delete it and fetch it again"
            )

    def _check_hash(
        self, path: Path, file: ReleaseFile, pinned: dict[str, Any] | None, expected: str | None
    ) -> str:
        found = sha256_of(path)
        if expected is not None and found != expected:
            raise DownloadError(
                f"{file.name} arrived damaged: sha256 {found}, its host says {expected}. "
                f"Run again: {FETCH}"
            )
        if pinned is not None and found != pinned["sha256"]:
            raise DownloadError(
                f"{file.name} is not the file that was first fetched: sha256 {found}, pinned "
                f"{pinned['sha256']}. If it may be another, delete its entry in "
                f"{self.folder / LOCK}; else delete the file and run: {FETCH}"
            )
        return found

    def _record(self, file: ReleaseFile, path: Path, digest: str) -> None:
        lock = _read_lock(self.folder)
        lock[file.name] = {
            "sha256": digest,
            "size": path.stat().st_size,
            "licence": file.licence,
            "origin": file.origin,
            "source": file.url(),
        }
        _write_text(self.folder / LOCK, json.dumps(lock, indent=1, sort_keys=True) + "\n")
        lines = [
            f"{name}\n    {entry['licence']}: {entry['origin']}\n    {entry['source']}\n"
            for name, entry in sorted(lock.items())
        ]
        _write_text(self.folder / LICENCES, "".join(lines))

    def _convert(self, files: Sequence[ReleaseFile]) -> None:
        done = all((self.folder / name).is_file() for name in (CONFIG_JSON, CONFIG_NPZ))
        if CONFIG in files and not done:
            try:
                convert_config(self.folder / CONFIG.name, self.folder)
            except ConfigError as error:
                raise DownloadError(str(error)) from error
            self.log(f"{CONFIG.name}: kept as {CONFIG_JSON} and {CONFIG_NPZ}")

    def _copy(self, file: ReleaseFile, part: Path) -> Path:
        assert self.source is not None
        places = [self.source / file.name, self.source / file.path]
        for place in places:
            if place.is_file():
                self._room(place.stat().st_size)
                shutil.copyfile(place, part)
                return place
        raise DownloadError(f"{self.source} holds no {file.name}, nor {file.path}")

    def _room(self, more: int) -> None:
        """Raise unless the disk holds ``more`` bytes."""
        free = shutil.disk_usage(self.folder).free
        if more > free:
            raise OSError(errno.ENOSPC, f"{more / 1e6:.0f} MB are needed, {free / 1e6:.0f} free")

    def _unwritable(self, error: OSError) -> DownloadError:
        return DownloadError(
            f"{self.folder} cannot be written: {error.strerror or error}. What was fetched is "
            "kept; make room, or choose another folder with --to or AVATAR_CACHE"
        )

    def _download(self, url: str, file: ReleaseFile, part: Path) -> str | None:
        """Bring ``part`` to its whole length; returns the SHA-256 its host says, if it does."""
        fruitless = 0
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as client:
            while True:
                before = part.stat().st_size if part.exists() else 0
                try:
                    return self._attempt(client, url, file, part)
                except (httpx.TransportError, _TryAgain) as error:
                    why = str(error) or type(error).__name__
                    pause = error.pause if isinstance(error, _TryAgain) else 0.0
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise DownloadError(f"{url} cannot be fetched: {error}") from error
                after = part.stat().st_size if part.exists() else 0
                fruitless = 1 if after > before else fruitless + 1
                if fruitless >= ATTEMPTS:
                    raise DownloadError(
                        f"{url} could not be fetched: {why}. What arrived is kept; run again: "
                        f"{FETCH}, or name a mirror in {MIRROR}"
                    )
                pause = max(pause, FIRST_PAUSE * 2 ** (fruitless - 1))
                pause = min(pause, LONGEST_PAUSE)
                self.log(f"{file.name}: {why}; again in {pause:.0f} s")
                self.sleep(pause)

    def _attempt(self, client: httpx.Client, url: str, file: ReleaseFile, part: Path) -> str | None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        mark = _etag_of(part)
        if have:
            headers["Range"] = f"bytes={have}-"
            if mark.is_file():
                # If the file has changed since, the server sends all of the new one.
                headers["If-Range"] = mark.read_text()
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code == 416:
                # Nothing lies behind what we have. All of it, or what we have is of another file.
                if response.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                    return _linked_hash(response)
                part.unlink()
                raise _TryAgain("the server knows no such part")
            self._check_status(response, url)
            start, total = _extent(response)
            if start not in (0, have):
                raise _TryAgain(f"the server answered with another part, from byte {start}")
            if total is not None and file.size not in (None, total) and not self.any_size:
                raise DownloadError(
                    f"{url} has {total} bytes, not {file.size}: it is another file. If the release "
                    "has changed, take it with --any-size"
                )
            if total is not None:
                self._room(total - start)
            tag = response.headers.get("ETag", "")
            if tag.startswith('"'):  # weak ones do not promise equal bytes
                mark.write_text(tag)
            else:
                mark.unlink(missing_ok=True)
            self._save(response, part, start, total, file)
            return _linked_hash(response)

    def _check_status(self, response: httpx.Response, url: str) -> None:
        status = response.status_code
        if status in (408, 429) or status >= 500:
            wait = response.headers.get("Retry-After", "")
            raise _TryAgain(f"the server answers {status}", float(wait) if wait.isdigit() else 0.0)
        if status not in (200, 206):
            reason = {404: "there is no such file", 401: "it asks for a login"}
            said = reason.get(status, response.reason_phrase or "refused")
            raise DownloadError(
                f"{url} cannot be fetched: {status}, {said}. Name a mirror in {MIRROR}, or fetch "
                "from a folder with --from"
            )

    def _save(
        self,
        response: httpx.Response,
        part: Path,
        start: int,
        total: int | None,
        file: ReleaseFile,
    ) -> None:
        with (
            part.open("r+b" if start else "wb") as out,
            tqdm(
                desc=file.name,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                disable=None,  # not a terminal: no bar
            ) as bar,
        ):
            out.seek(start)
            # As it comes: chunks of a fixed size would drop what is left when a connection ends.
            for chunk in response.iter_raw():
                out.write(chunk)
                bar.update(len(chunk))
            got = out.tell()
        if total is not None and got != total:
            raise _TryAgain(f"the connection ended at {got} of {total} bytes")


def fetch(
    folder: str | Path,
    include: Sequence[str] = (),
    source: str | Path | None = None,
    mirror: str = "",
    any_size: bool = False,
) -> list[Path]:
    """Have what the engine needs in ``folder``.

    Args:
        folder: made if it is not there.
        include: names of files to have besides; those that may not be used commercially come in
            no other way.
        source: a folder to copy from instead of the network.
        mirror: host to fetch from.
        any_size: see :class:`Downloader`.

    Raises:
        DownloadError: as :meth:`Downloader.fetch`; or ``include`` names no file of the release.
    """
    known = {file.name: file for file in RELEASE}
    if unknown := [name for name in include if name not in known]:
        raise DownloadError(f"no file {', '.join(unknown)}; there are {', '.join(known)}")
    files = [file for file in RELEASE if file.needed or file.name in include]
    place = None if source is None else Path(source)
    return Downloader(Path(folder), mirror, place, any_size).fetch(files)


def verify(folder: str | Path) -> list[Path]:
    """Hold the needed files of a folder to what was first fetched, and fetch nothing.

    Raises:
        DownloadError: one is missing or has changed; says which.
    """
    place = Path(folder)
    lock = _read_lock(place)
    paths = []
    for file in (file for file in RELEASE if file.needed or file.name in lock):
        path = place / file.name
        if not path.is_file():
            raise DownloadError(f"{path} is missing; run: {FETCH}")
        if file.name in lock and sha256_of(path) != lock[file.name]["sha256"]:
            raise DownloadError(
                f"{path} is not the file that was first fetched. Delete it and run: {FETCH}"
            )
        paths.append(path)
    return paths


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of the body, and length of the whole file if it is told."""
    if response.status_code == 206:
        said = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if said is None:
            raise _TryAgain("the server sent a part and does not say which")
        return int(said[1]), None if said[2] == "*" else int(said[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _linked_hash(response: httpx.Response) -> str | None:
    """The SHA-256 that Hugging Face tells in the answer that redirects to large files."""
    for answer in (*response.history, response):
        tag = answer.headers.get("X-Linked-ETag", "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            return tag
    return None


def _etag_of(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / LOCK
    if not path.is_file():
        return {}
    try:
        lock = json.loads(path.read_text())
        for entry in lock.values():
            entry["sha256"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{path} is damaged ({error}); delete it to pin the files again"
        ) from error
    result: dict[str, dict[str, Any]] = lock
    return result


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
