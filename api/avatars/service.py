"""``Avatars``: photos become avatars, avatars are found, shown, handed to workers and deleted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from ulid import ULID

from api.avatars.catalogue import PUBLIC, RETIRED, Catalogue, successor
from api.avatars.decode import MAX_BYTES, decode_base64, too_large
from api.avatars.fetch import ImageFetcher
from api.avatars.links import AvatarLinks, Picture
from api.avatars.pictures import AvatarPictures, folder
from api.avatars.port import MediaMissing, MediaStore, Portrait, PortraitMaker
from api.dispatch.port import Dispatcher
from api.http.errors import ApiError, api_error
from api.records import Account, AspectRatio, Avatar, Plan
from api.secret import Secret
from api.settings import ApiSettings
from api.store.port import AvatarLimitReached, Store
from common.timestamps import timestamp

logger = structlog.get_logger(__name__)

T = TypeVar("T")

PREFIX = "avat_"
MAX_ID = 256
"""Nothing longer is looked up."""
DEFAULT_RATIO: AspectRatio = "4:3"
"""Of sessions that name none."""
WARMING = 8
"""Portraits workers are told of at a time; more uploads at once warm nothing."""
CLOSE_S = 5.0
WORKER_POLL_S = 1.0
"""Between looks for a worker to be warmed."""

_UNLIMITED = Plan("", "", 1, None, None, None, True)


class Avatars:
    """The avatars of every account. Safe to use from many tasks."""

    def __init__(
        self,
        settings: ApiSettings,
        secret: Secret,
        store: Store,
        media: MediaStore,
        portraits: PortraitMaker,
        dispatcher: Dispatcher,
        now: Callable[[], datetime],
        fetcher: ImageFetcher | None = None,
    ) -> None:
        """``fetcher``: default: one that keeps to public addresses, as the settings say."""
        self._store = store
        self._pictures = AvatarPictures(media)
        self._portraits = portraits
        self._dispatcher = dispatcher
        self._now = now
        self._links = AvatarLinks(secret, settings.base_url)
        self._aliases = frozenset(settings.avatar_aliases)
        self._default = successor(settings.default_avatar)
        self._fetcher = fetcher or ImageFetcher(allow_private=settings.allow_private_image_urls)
        self._catalogue = Catalogue(self._keep_public, now)
        self._warming_default: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._warming: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Wait a moment for what runs in the background, then stop it."""
        await self._catalogue.aclose()
        if self._warming_default is not None:
            self._warming_default.cancel()
            await asyncio.gather(self._warming_default, return_exceptions=True)
        if not self._background:
            return
        _, late = await asyncio.wait(self._background, timeout=CLOSE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    # Photos in

    async def from_bytes(self, account: Account, plan: Plan, photo: bytes) -> Avatar:
        """The avatar of an encoded photo. The same bytes again are the same avatar.

        Raises:
            ApiError: the photo cannot become an avatar, or the plan's number is reached.
        """
        if len(photo) > MAX_BYTES:
            raise too_large(len(photo) / 1024 / 1024)
        digest = (await asyncio.to_thread(hashlib.sha256, photo)).hexdigest()
        known = await self._store.avatar_with_digest(account.id, digest)
        if known is not None:
            return known
        await self._check_quota(account, plan)
        portrait = await self._portraits.make(photo)
        avatar = self._record(f"{PREFIX}{ULID()}", account.id, digest, portrait.ratio)
        # If the caller gives up waiting: it is stored whole, or not at all.
        return await asyncio.shield(
            self._in_background(self._add(avatar, plan, photo, portrait), f"store {avatar.id}")
        )

    async def from_url(self, account: Account, plan: Plan, url: str) -> Avatar:
        """The avatar of the photo at a public address.

        Raises:
            ApiError: it cannot be fetched, or as ``from_bytes``.
        """
        if plan.avatars_per_cycle == 0:
            raise _limit_reached(0, 0)
        return await self.from_bytes(account, plan, await self._fetcher.fetch(url))

    async def from_base64(self, account: Account, plan: Plan, text: str) -> Avatar:
        """The avatar of a base64 photo, with or without a data URI's prefix.

        Raises:
            ApiError: it is no base64, or as ``from_bytes``.
        """
        return await self.from_bytes(account, plan, await decode_base64(text))

    async def seed_public(self) -> None:
        """Add the public avatars this installation does not have. Waits for them a moment, no
        longer, and never raises (``Catalogue.open``)."""
        await self._catalogue.open()

    def warm_default(self) -> None:
        """Have the workers prepare the default avatar once there are any, for the first session
        that asks for it. Returns at once."""
        self._warming_default = asyncio.create_task(self._warm_default(), name="warm the default")

    async def _warm_default(self) -> None:
        await self._catalogue.ready(self._default, timeout_s=None)
        while (await self._dispatcher.capacity()).slots == 0:  # noqa: ASYNC110 - theirs to fill
            await asyncio.sleep(WORKER_POLL_S)
        avatar = await self._store.avatar(self._default)
        if avatar is not None:
            await self._warm_now(avatar)

    async def _keep_public(self, avatar_id: str, photo: bytes, created_at: datetime) -> None:
        """Make a public avatar that is missing, or whose picture has changed since."""
        digest = hashlib.sha256(photo).hexdigest()
        known = await self._store.avatar(avatar_id)
        if known is not None and known.digest == digest:
            return
        portrait = await self._portraits.make(photo)
        avatar = self._record(avatar_id, None, digest, portrait.ratio)
        avatar = replace(avatar, created_at=known.created_at if known else created_at)
        if known is not None:
            await self._pictures.forget(known)
        # Another process may do the same: it writes the same pictures to the same keys.
        await self._pictures.put(avatar, photo, portrait)
        await self._store.add_avatar(avatar, _UNLIMITED, self._now())

    # Avatars out

    async def resolve(self, account: Account, avatar_id: str) -> Avatar:
        """The avatar a session may use under this id.

        Raises:
            ApiError: AVATAR_NOT_FOUND, or AVATAR_ACCESS_DENIED for another account's.
        """
        meant = self._default if avatar_id in self._aliases | RETIRED else avatar_id
        avatar = await self._find(meant)
        if avatar is None:
            raise api_error("AVATAR_NOT_FOUND")
        if avatar.account_id not in (None, account.id):
            raise api_error("AVATAR_ACCESS_DENIED")
        return avatar

    async def visible(self, account: Account) -> tuple[list[Avatar], list[Avatar]]:
        """Public avatars and the account's own, newest first."""
        public = await self._store.avatars_of(None)
        listed = [avatar for avatar in public if avatar.id not in RETIRED]
        return listed, list(await self._store.avatars_of(account.id))

    async def portrait(self, avatar: Avatar, ratio: AspectRatio) -> bytes:
        """What a worker is given of it for ``ratio``: a JPEG, made once and kept.

        Raises:
            ApiError: AVATAR_NOT_FOUND: it has been deleted meanwhile.
        """
        try:
            try:
                return await self._pictures.crop(avatar, ratio)
            except MediaMissing:
                original = await self._pictures.original(avatar)
                crop = await self._portraits.crop(original, ratio)
                await self._pictures.put_crop(avatar, ratio, crop)
        except MediaMissing:
            raise api_error("AVATAR_NOT_FOUND") from None
        if await self._store.avatar(avatar.id) is None:
            # Deleted meanwhile. The session that asked may have it; nothing stays.
            await self._pictures.forget(avatar)
        return crop

    async def picture(self, avatar: Avatar, picture: Picture) -> bytes:
        """The preview or the aligned image.

        Raises:
            ApiError: AVATAR_NOT_FOUND: it has been deleted meanwhile.
        """
        try:
            return await self._pictures.shown(avatar, picture)
        except MediaMissing:
            raise api_error("AVATAR_NOT_FOUND") from None

    def preview_url(self, avatar: Avatar) -> str:
        """A link to the 500 x 500 preview, for 24 hours."""
        return self._links.url(avatar.id, "preview", self._now())

    def image_url(self, avatar: Avatar) -> str:
        """A link to the aligned image, for 24 hours."""
        return self._links.url(avatar.id, "image", self._now())

    async def open_link(
        self, avatar_id: str, picture: Picture, exp: str, sig: str
    ) -> tuple[Avatar, int]:
        """The avatar a link shows and the seconds it still does.

        Raises:
            ApiError: LINK_EXPIRED or AVATAR_NOT_FOUND.
        """
        left = self._links.seconds_left(avatar_id, picture, exp, sig, self._now())
        if left <= 0:
            raise api_error("LINK_EXPIRED")
        avatar = await self._find(avatar_id)
        if avatar is None:
            raise api_error("AVATAR_NOT_FOUND")
        return avatar, left

    async def store_link(self, avatar: Avatar, picture: Picture, expires_s: int) -> str | None:
        """The media store's own link to a picture, if it has such links."""
        return await self._pictures.link(avatar, picture, expires_s)

    def as_json(self, avatar: Avatar) -> dict[str, Any]:
        """The avatar as the API shows it."""
        if avatar.account_id is not None:
            tags = ["user_exclusive", f"user_{avatar.account_id}"]
        else:
            tags = ["public", *(PUBLIC[avatar.id].tags if avatar.id in PUBLIC else ())]
        named = {"name": PUBLIC[avatar.id].name} if avatar.id in PUBLIC else {}
        return {
            "avatar_id": avatar.id,
            **named,
            "tags": tags,
            "preview_url": self.preview_url(avatar),
            "image_url": self.image_url(avatar),
            "created_at": timestamp(avatar.created_at),
        }

    async def delete(self, account: Account, avatar_id: str) -> None:
        """Delete an own upload and every picture of it; running sessions keep theirs.

        Raises:
            ApiError: AVATAR_NOT_FOUND (another account's too), AVATAR_ACCESS_DENIED (public).
        """
        avatar = await self._find(avatar_id)
        if avatar is None or avatar.account_id not in (None, account.id):
            raise api_error("AVATAR_NOT_FOUND")
        if avatar.account_id is None:
            raise api_error("AVATAR_ACCESS_DENIED", suggestion="Public avatars cannot be deleted")
        # Pictures first: if that fails, the avatar is still there to be deleted again.
        await self._pictures.forget(avatar)
        if not await self._store.delete_avatar(avatar.id, self._now()):
            raise api_error("AVATAR_NOT_FOUND")
        # A session that was being created may have put a portrait meanwhile.
        await self._pictures.forget(avatar)

    # Inside

    async def _find(self, avatar_id: str) -> Avatar | None:
        # Not every database can be asked for every text.
        if len(avatar_id) > MAX_ID or not avatar_id.isprintable():
            return None
        found = await self._store.avatar(avatar_id)
        if found is None and avatar_id in PUBLIC:
            await self._catalogue.ready(avatar_id)
            found = await self._store.avatar(avatar_id)
        return found

    def _record(
        self, avatar_id: str, account_id: str | None, digest: str, ratio: AspectRatio
    ) -> Avatar:
        below = folder(avatar_id)
        return Avatar(
            avatar_id,
            account_id,
            ratio,
            digest,
            f"{below}/original",
            f"{below}/image.jpg",
            f"{below}/preview.jpg",
            self._now(),
        )

    async def _check_quota(self, account: Account, plan: Plan) -> None:
        """Refuse before the photo is examined; ``add_avatar`` has the last word."""
        limit = plan.avatars_per_cycle
        if limit is None:
            return
        used = 0
        if limit > 0:
            used = (await self._store.usage(account, plan, self._now())).avatars_used
        if used >= limit:
            raise _limit_reached(limit, used)

    async def _add(self, avatar: Avatar, plan: Plan, photo: bytes, portrait: Portrait) -> Avatar:
        stored: Avatar | None = None
        try:
            await self._pictures.put(avatar, photo, portrait)
            stored = await self._store.add_avatar(avatar, plan, self._now())
        except AvatarLimitReached as error:
            raise _limit_reached(error.limit, error.used) from None
        finally:
            # Refused, failed, or the same photo was faster: nobody will find these pictures.
            if stored is None or stored.id != avatar.id:
                await self._pictures.forget(avatar)
        if stored.id == avatar.id:
            self._warm(avatar)
        return stored

    def _warm(self, avatar: Avatar) -> None:
        """Have the workers prepare it, for the session that will likely follow."""
        if len(self._warming) >= WARMING:
            return
        task = self._in_background(self._warm_now(avatar), f"warm {avatar.id}")
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    def _in_background(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _warm_now(self, avatar: Avatar) -> None:
        try:
            for ratio in dict.fromkeys((DEFAULT_RATIO, avatar.ratio)):
                await self._dispatcher.warm(await self.portrait(avatar, ratio), ratio)
        except Exception as error:
            logger.warning("no worker was warmed", avatar=avatar.id, reason=type(error).__name__)


def _limit_reached(limit: int, used: int) -> ApiError:
    return api_error(
        "AVATAR_LIMIT_REACHED",
        message="Custom avatars are not available on your plan" if limit == 0 else None,
        suggestion="Upgrade your plan" if limit == 0 else None,
        details={"avatars": {"limit": limit, "used": used, "remaining": max(0, limit - used)}},
    )
