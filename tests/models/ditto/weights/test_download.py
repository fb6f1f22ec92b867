"""Fetching the release from a server that behaves as badly as servers do."""

import errno
import hashlib
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from models.ditto.weights import download
from models.ditto.weights.config import read_config
from models.ditto.weights.download import (
    LICENCES,
    LOCK,
    MIRROR,
    Downloader,
    DownloadError,
    fetch,
    verify,
)
from models.ditto.weights.release import CONFIG, HOST, RELEASE, ReleaseFile

WEIGHTS = bytes(range(256)) * 4096  # 1 MB
FILE = ReleaseFile("models/decoder.pth", "MIT", "someone", len(WEIGHTS))


class Host:
    """A server of the release and how it misbehaves."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {f"/{self.path(FILE)}": WEIGHTS}
        self.ranges = True
        self.etag: str | None = '"one"'
        self.cuts: list[int] = []
        """For each answer to come, the number of bytes after which the connection ends."""
        self.errors: list[int] = []
        """For each answer to come, its status instead."""
        self.hash: str | None = None
        self.asked: list[dict[str, str]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @staticmethod
    def path(file: ReleaseFile) -> str:
        return file.url("").lstrip("/")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(dict(request.headers))
        if self.errors:
            request.send_response(self.errors.pop(0))
            request.send_header("Retry-After", "7")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content = self.content.get(request.path)
        if content is None:
            request.send_error(404)
            return
        start = 0
        wanted = request.headers.get("Range")
        fresh = request.headers.get("If-Range") in (None, self.etag)
        if wanted and self.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        if self.etag:
            request.send_header("ETag", self.etag)
        if self.hash:
            request.send_header("X-Linked-ETag", f'"{self.hash}"')
        request.end_headers()
        body = content[start:]
        request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)
        request.close_connection = True


@pytest.fixture
def host(monkeypatch) -> Iterator[Host]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    host = Host()
    monkeypatch.setenv(MIRROR, host.url)
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def downloader(tmp_path, pauses) -> Downloader:
    return Downloader(tmp_path / "ditto", sleep=pauses.append)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_arrives_whole_and_is_recorded(host, downloader):
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    lock = json.loads((downloader.folder / LOCK).read_text())
    assert lock["decoder.pth"]["sha256"] == digest(WEIGHTS)
    assert lock["decoder.pth"]["licence"] == "MIT"
    assert "decoder.pth\n    MIT: someone" in (downloader.folder / LICENCES).read_text()
    left = {path.name for path in downloader.folder.iterdir()}
    assert left == {"decoder.pth", LOCK, LICENCES, ".lock"}


def test_a_cut_connection_goes_on_where_it_ended(host, downloader, pauses):
    host.cuts = [300_000, 500_000]
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    starts = [asked.get("Range") for asked in host.asked]
    assert starts == [None, "bytes=300000-", "bytes=800000-"]
    assert host.asked[1]["If-Range"] == '"one"'
    assert pauses == [1.0, 1.0], "it moved on, so the pause does not grow"


def test_another_process_goes_on_with_the_part(host, downloader):
    host.cuts = [300_000]
    host.errors = []
    downloader.sleep = lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        downloader.fetch([FILE])
    assert (downloader.folder / "decoder.pth.part").stat().st_size == 300_000
    Downloader(downloader.folder).fetch([FILE])
    assert host.asked[-1]["Range"] == "bytes=300000-"
    assert (downloader.folder / "decoder.pth").read_bytes() == WEIGHTS


def test_a_part_that_is_already_whole(host, downloader):
    downloader.folder.mkdir()
    (downloader.folder / "decoder.pth.part").write_bytes(WEIGHTS)
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    assert len(host.asked) == 1


def test_a_part_longer_than_the_file_is_thrown_away(host, downloader):
    downloader.folder.mkdir()
    (downloader.folder / "decoder.pth.part").write_bytes(WEIGHTS + b"more")
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS


def test_a_server_without_parts_sends_all_of_it_again(host, downloader):
    host.ranges = False
    host.etag = None
    host.cuts = [300_000]
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    assert len(host.asked) == 2


def test_a_file_that_changed_meanwhile_is_not_patched_together(host, downloader):
    host.cuts = [300_000]
    other = bytes(reversed(WEIGHTS))

    def change(_: float) -> None:
        host.content[f"/{Host.path(FILE)}"] = other
        host.etag = '"two"'

    downloader.sleep = change
    assert downloader.fetch([FILE])[0].read_bytes() == other


def test_busy_servers_are_asked_again_later(host, downloader, pauses):
    host.errors = [503, 429, 500]
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    assert pauses == [7.0, 7.0, 7.0]


def test_a_dead_server_is_given_up(host, downloader, pauses):
    host.server.shutdown()
    host.server.server_close()
    with pytest.raises(DownloadError, match=r"could not be fetched.*run again: python scripts"):
        downloader.fetch([FILE])
    assert pauses == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("status", [404, 401, 403])
def test_refusals_are_final_and_named(host, downloader, pauses, status):
    host.errors = [status]
    with pytest.raises(
        DownloadError, match=rf"{FILE.path} cannot be fetched: {status}, .*{MIRROR}"
    ):
        downloader.fetch([FILE])
    assert not pauses
    assert not (downloader.folder / "decoder.pth").exists()


def test_what_the_host_says_of_the_hash_counts(host, downloader):
    host.hash = digest(WEIGHTS)
    downloader.fetch([FILE])
    (downloader.folder / "decoder.pth").unlink()
    (downloader.folder / LOCK).unlink()
    host.hash = digest(b"other")
    with pytest.raises(DownloadError, match=f"damaged: sha256 {digest(WEIGHTS)}, its host says"):
        downloader.fetch([FILE])
    assert not list(downloader.folder.glob("decoder.pth*")), "nothing damaged is kept"


def test_later_fetches_are_held_to_the_first(host, downloader):
    downloader.fetch([FILE])
    (downloader.folder / "decoder.pth").unlink()
    host.content[f"/{Host.path(FILE)}"] = bytes(reversed(WEIGHTS))
    with pytest.raises(DownloadError, match=rf"not the file that was first.*{LOCK}"):
        downloader.fetch([FILE])
    assert not (downloader.folder / "decoder.pth").exists()


def test_a_kept_file_that_changed_is_found(host, downloader):
    path = downloader.fetch([FILE])[0]
    downloader.fetch([FILE])
    assert len(host.asked) == 1, "what is here is not fetched again"
    content = bytearray(WEIGHTS)
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"decoder.pth is not the file that was first fetched"):
        downloader.fetch([FILE])


def test_another_size_is_refused_before_it_is_fetched(host, downloader):
    host.content[f"/{Host.path(FILE)}"] = WEIGHTS[:-1]
    with pytest.raises(DownloadError, match=rf"has {len(WEIGHTS) - 1} bytes, not {len(WEIGHTS)}"):
        downloader.fetch([FILE])
    assert not list(downloader.folder.glob("decoder.pth*"))
    downloader.any_size = True
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS[:-1]


def test_a_disk_without_room_is_told_beforehand(host, downloader, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"cannot be written: 1 MB are needed, 0 free.*kept"):
        downloader.fetch([FILE])


def test_a_disk_that_fills_up_keeps_what_arrived(host, downloader, monkeypatch):
    real_open = Path.open

    class Full:
        """A file on a disk with room for 100 kB."""

        def __init__(self, file: object) -> None:
            self._file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, chunk: bytes) -> None:
            room = 100_000 - self._file.tell()
            self._file.write(chunk[:room])
            if len(chunk) > room:
                raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    def small(path: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        file = real_open(path, mode, *arguments, **named)
        return Full(file) if path.suffix == ".part" and "b" in mode and mode != "rb" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", small)
        with pytest.raises(DownloadError, match=r"No space left.*kept"):
            downloader.fetch([FILE])
    assert (downloader.folder / "decoder.pth.part").stat().st_size == 100_000
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS
    assert host.asked[-1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("layout", ["flat", "as released"])
def test_offline_from_a_folder(tmp_path, downloader, layout):
    shelf = tmp_path / "shelf"
    place = shelf / (FILE.name if layout == "flat" else FILE.path)
    place.parent.mkdir(parents=True)
    downloader.source = shelf
    with pytest.raises(DownloadError, match=r"shelf holds no decoder.pth"):
        downloader.fetch([FILE])
    place.write_bytes(WEIGHTS)
    assert downloader.fetch([FILE])[0].read_bytes() == WEIGHTS


@pytest.fixture
def released(monkeypatch, host) -> Host:
    """A small release on the host: one file of each kind."""
    limits = np.stack([np.full(265, -1.0), np.full(265, 1.0)])
    config = pickle.dumps({"default_kwargs": {"v_min_max_for_clip": limits}})
    forbidden = ReleaseFile("aux/det.onnx", "non-commercial", "someone", needed=False)
    monkeypatch.setattr(download, "RELEASE", (FILE, CONFIG, forbidden))
    host.content |= {f"/{Host.path(CONFIG)}": config, f"/{Host.path(forbidden)}": b"net"}
    return host


def test_the_configuration_is_converted(released, tmp_path):
    fetch(tmp_path)
    low, high = read_config(tmp_path).clip
    assert (low[0], high[0]) == (-1, 1)


def test_a_configuration_that_runs_code_is_refused(released, tmp_path):
    released.content[f"/{Host.path(CONFIG)}"] = b"cos\nsystem\n(S'true'\ntR."
    with pytest.raises(DownloadError, match=r"refused: it wants to use os\.system"):
        fetch(tmp_path)


def test_what_is_not_for_commerce_comes_only_when_named(released, tmp_path):
    fetch(tmp_path)
    assert not (tmp_path / "det.onnx").exists()
    assert not any("det" in line for line in (tmp_path / LICENCES).read_text().splitlines())
    fetch(tmp_path, include=["det.onnx"])
    assert (tmp_path / "det.onnx").read_bytes() == b"net"
    assert "non-commercial" in (tmp_path / LICENCES).read_text()
    with pytest.raises(DownloadError, match=r"no file other.onnx; there are decoder.pth"):
        fetch(tmp_path, include=["other.onnx"])


def test_verifying_fetches_nothing(released, tmp_path):
    with pytest.raises(DownloadError, match=r"decoder.pth is missing; run: python scripts"):
        verify(tmp_path)
    fetch(tmp_path)
    asked = len(released.asked)
    assert {path.name for path in verify(tmp_path)} == {FILE.name, CONFIG.name}
    (tmp_path / CONFIG.name).write_bytes(b"other")
    with pytest.raises(DownloadError, match=CONFIG.name):
        verify(tmp_path)
    (tmp_path / LOCK).write_text("[]")
    with pytest.raises(DownloadError, match="damaged"):
        verify(tmp_path)
    assert len(released.asked) == asked


def test_the_list_of_the_release():
    names = [file.name for file in RELEASE]
    assert len(set(names)) == len(names)
    assert all(file.commercial for file in RELEASE if file.needed)
    assert not all(file.commercial for file in RELEASE)
    assert {file.licence for file in RELEASE} == {"MIT", "Apache-2.0", "non-commercial"}
    assert RELEASE[0].url() == f"{HOST}/digital-avatar/ditto-talkinghead/resolve/main/" + (
        "ditto_pytorch/models/appearance_extractor.pth"
    )
