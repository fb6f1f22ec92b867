"""Pictures in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path, PurePosixPath

from api.avatars.port import MediaMissing


class FolderMedia:
    """Implements ``MediaStore``: a key is a path below the folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when something is put."""
        self._folder = folder

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Keep ``data``; an older value is replaced whole or not at all."""
        await asyncio.to_thread(_write, self._folder, self._path(key), data)

    async def get(self, key: str) -> bytes:
        """What was put.

        Raises:
            MediaMissing: nothing was.
        """
        try:
            return await asyncio.to_thread(self._path(key).read_bytes)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MediaMissing(key) from error

    async def delete(self, *keys: str) -> None:
        """Forget; keys that are not there are fine."""
        await asyncio.to_thread(self._delete, [self._path(key) for key in keys])

    async def link(self, key: str, expires_s: int) -> str | None:
        """None: a folder has no address of its own."""
        return None

    async def check(self) -> None:
        """Raise ``OSError`` when the folder cannot be written."""
        probe = self._folder / f".check-{secrets.token_hex(8)}"
        try:
            await asyncio.to_thread(_write, self._folder, probe, b"")
        finally:
            await asyncio.to_thread(probe.unlink, missing_ok=True)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _path(self, key: str) -> Path:
        """Raises ``ValueError`` for a key that is no plain path below the folder."""
        parts = PurePosixPath(key).parts
        if not parts or "\0" in key or "\\" in key or any(p in ("/", "..") for p in parts):
            raise ValueError("a key must be a plain relative path")
        return self._folder.joinpath(*parts)

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths} - {self._folder}:
            # Fails where something else is still kept.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _write(root: Path, path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    while True:
        # Strangers' photos: nobody else on this machine looks in.
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = draft.open("xb")
            break
        except FileNotFoundError:
            continue  # A deletion tidied the folder away in between.
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
