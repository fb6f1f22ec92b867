"""The ports of the upload pipeline: what turns a photo into a portrait, and where both are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from api.records import AspectRatio


@dataclass(frozen=True)
class Portrait:
    """A photo that passed every check."""

    ratio: AspectRatio
    """The orientation chosen for it."""
    image: bytes = field(repr=False)
    """JPEG, quality 95, aligned to ``ratio``, at most 1200 pixels wide."""
    preview: bytes = field(repr=False)
    """JPEG, quality 90, 500 x 500."""
    crops: Mapping[AspectRatio, bytes] = field(default_factory=dict, repr=False)
    """What ``PortraitMaker.crop`` answers, as far as it was made along the way."""


class PortraitMaker(Protocol):
    """Checks photos and aligns them. Safe to use from many tasks."""

    async def make(self, photo: bytes) -> Portrait:
        """Decode ``photo`` (JPEG, PNG, GIF or WebP), find the one prominent face, align.

        Raises:
            api.http.errors.ApiError: why it cannot become an avatar, and what to send instead.
        """
        ...

    async def crop(self, photo: bytes, ratio: AspectRatio) -> bytes:
        """For a worker: the part of a photo that passed ``make`` which its framing for ``ratio``
        needs, and a margin, as JPEG. Where the photo is too tight the worker makes up the rest, so
        its sides need not have that ratio.

        Raises:
            api.http.errors.ApiError: as ``make``.
        """
        ...


class MediaMissing(Exception):
    """Nothing is kept under this key."""


class MediaStore(Protocol):
    """Keeps pictures by key (``avatars/<id>/image.jpg``). Safe to use from many tasks."""

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Keep ``data``; an older value is replaced whole or not at all."""
        ...

    async def get(self, key: str) -> bytes:
        """What was put.

        Raises:
            MediaMissing: nothing was.
        """
        ...

    async def delete(self, *keys: str) -> None:
        """Forget; keys that are not there are fine."""
        ...

    async def link(self, key: str, expires_s: int) -> str | None:
        """A link of the store's own that works for ``expires_s`` seconds; None: it has none, serve
        the bytes yourself."""
        ...

    async def check(self) -> None:
        """Raise when the store cannot be written."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
