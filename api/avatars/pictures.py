"""Where an avatar's pictures lie in the media store; those workers ask for are kept in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from api.avatars.links import Picture
from api.avatars.port import MediaStore, Portrait
from api.records import RATIOS, AspectRatio, Avatar

KEPT_CROPS = 64
"""Crops kept in memory, those used last: about 20 MB."""

_JPEG = "image/jpeg"


def folder(avatar_id: str) -> str:
    """What the keys of all its pictures begin with."""
    return f"avatars/{avatar_id}"


class AvatarPictures:
    """The pictures of every avatar: ``original``, ``image.jpg``, ``preview.jpg``, ``4x3.jpg``, …"""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._kept: OrderedDict[tuple[str, AspectRatio], bytes] = OrderedDict()

    async def put(self, avatar: Avatar, photo: bytes, portrait: Portrait) -> None:
        """Keep everything an upload made."""
        puts = (
            (avatar.original_key, photo, "application/octet-stream"),
            (avatar.image_key, portrait.image, _JPEG),
            (avatar.preview_key, portrait.preview, _JPEG),
            *((_crop_key(avatar.id, r), crop, _JPEG) for r, crop in portrait.crops.items()),
        )
        # All of them end before one's failure is told: none may write after the others were
        # deleted.
        ends = await asyncio.gather(
            *(self._media.put(*put) for put in puts), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def original(self, avatar: Avatar) -> bytes:
        """The uploaded bytes. Raises ``MediaMissing``."""
        return await self._media.get(avatar.original_key)

    async def shown(self, avatar: Avatar, picture: Picture) -> bytes:
        """The preview or the aligned image. Raises ``MediaMissing``."""
        return await self._media.get(_shown_key(avatar, picture))

    async def link(self, avatar: Avatar, picture: Picture, expires_s: int) -> str | None:
        """The media store's own link to a picture, if it has such links."""
        return await self._media.link(_shown_key(avatar, picture), expires_s)

    async def crop(self, avatar: Avatar, ratio: AspectRatio) -> bytes:
        """What a worker is given for ``ratio``. Raises ``MediaMissing``."""
        kept = self._kept.get((avatar.id, ratio))
        if kept is None:
            kept = await self._media.get(_crop_key(avatar.id, ratio))
        self._keep(avatar.id, ratio, kept)
        return kept

    async def put_crop(self, avatar: Avatar, ratio: AspectRatio, crop: bytes) -> None:
        """Keep a crop that was missing."""
        await self._media.put(_crop_key(avatar.id, ratio), crop, _JPEG)
        self._keep(avatar.id, ratio, crop)

    async def forget(self, avatar: Avatar) -> None:
        """Delete every picture."""
        for ratio in RATIOS:
            self._kept.pop((avatar.id, ratio), None)
        await self._media.delete(
            avatar.original_key,
            avatar.image_key,
            avatar.preview_key,
            *(_crop_key(avatar.id, ratio) for ratio in RATIOS),
        )

    def _keep(self, avatar_id: str, ratio: AspectRatio, crop: bytes) -> None:
        self._kept[avatar_id, ratio] = crop
        self._kept.move_to_end((avatar_id, ratio))
        while len(self._kept) > KEPT_CROPS:
            self._kept.popitem(last=False)


def _crop_key(avatar_id: str, ratio: AspectRatio) -> str:
    return f"{folder(avatar_id)}/{ratio.replace(':', 'x')}.jpg"


def _shown_key(avatar: Avatar, picture: Picture) -> str:
    return avatar.preview_key if picture == "preview" else avatar.image_key
