"""``FacePortraits``: photos examined by processes of our own, a set number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from api.avatars.face_worker_client import FaceWorkerClient, FaceWorkerFailed, FaceWorkerGone
from api.avatars.port import Portrait
from api.http.errors import ApiError, api_error
from api.records import AspectRatio

logger = structlog.get_logger(__name__)

TIME_LIMIT_S = 15.0
"""Longest a photo may be examined. Usual photos take half a second."""
PATIENCE_S = 25.0
"""Longest a photo waits for its turn, and for the models to be loaded."""

_SAVE_AGAIN = "Save the photo again as JPEG or PNG and send it whole."


class FacePortraits:
    """Implements ``api.avatars.port.PortraitMaker`` with the face analysis of ``models.face``."""

    def __init__(
        self,
        workers: int = 1,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        patience_s: float = PATIENCE_S,
        command: Sequence[str] | None = None,
    ) -> None:
        """No process is started before the first photo.

        Args:
            workers: photos examined at a time, each in a process of its own.
            time_limit_s: longest a photo may be examined.
            patience_s: longest a photo waits for its turn.
            command: what to run instead of ``python -m api.avatars.face_worker``.
        """
        self._time_limit_s = time_limit_s
        self._patience_s = patience_s
        self._face_workers = [FaceWorkerClient(command) for _ in range(workers)]
        # The one used last is taken first: fewer processes when little is to do.
        self._idle: asyncio.LifoQueue[FaceWorkerClient] = asyncio.LifoQueue()
        for face_worker in self._face_workers:
            self._idle.put_nowait(face_worker)

    async def make(self, photo: bytes) -> Portrait:
        """Decode ``photo`` (JPEG, PNG, GIF or WebP), find the one prominent face, align.

        Raises:
            ApiError: why it cannot become an avatar, and what to send instead.
        """
        head, (image, preview, *crops) = await self._ask({"verb": "make"}, photo)
        return Portrait(head["ratio"], image, preview, dict(zip(head["names"], crops, strict=True)))

    async def crop(self, photo: bytes, ratio: AspectRatio) -> bytes:
        """For a worker: what its framing for ``ratio`` needs of the photo, as JPEG.

        Raises:
            ApiError: as ``make``.
        """
        _, (picture,) = await self._ask({"verb": "crop", "ratio": ratio}, photo)
        return picture

    async def aclose(self) -> None:
        """End every process."""
        await asyncio.gather(*(face_worker.aclose() for face_worker in self._face_workers))

    async def _ask(self, head: dict[str, Any], photo: bytes) -> tuple[dict[str, Any], list[bytes]]:
        try:
            async with asyncio.timeout(self._patience_s):
                face_worker = await self._idle.get()
        except TimeoutError:
            raise api_error("IMAGE_CHECK_UNAVAILABLE") from None
        try:
            try:
                answer, pictures = await self._examine(face_worker, head, photo)
            except FaceWorkerGone:
                # It may have died before, of something else: the photo gets a second chance.
                answer, pictures = await self._examine(face_worker, head, photo)
        except TimeoutError:
            logger.warning("a photo took too long", bytes=len(photo), limit_s=self._time_limit_s)
            raise api_error(
                "INVALID_IMAGE",
                message="Image could not be decoded: it takes too long",
                suggestion=_SAVE_AGAIN,
            ) from None
        except FaceWorkerGone as error:
            logger.error("a photo killed its examiner", detail=str(error), bytes=len(photo))
            raise api_error("INVALID_IMAGE", suggestion=_SAVE_AGAIN) from error
        except FaceWorkerFailed as error:
            logger.error("photos cannot be examined", detail=str(error))
            raise api_error("IMAGE_CHECK_UNAVAILABLE") from error
        finally:
            self._idle.put_nowait(face_worker)
        if "refused" in answer:
            refused = answer["refused"]
            status = 413 if refused["code"] == "IMAGE_TOO_LARGE" else 400
            raise ApiError(status, refused["code"], refused["message"], refused["remedy"])
        return answer, pictures

    async def _examine(
        self, face_worker: FaceWorkerClient, head: dict[str, Any], photo: bytes
    ) -> tuple[dict[str, Any], list[bytes]]:
        await self._prepare(face_worker)
        async with asyncio.timeout(self._time_limit_s):
            return await face_worker.ask(head, photo)

    async def _prepare(self, face_worker: FaceWorkerClient) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await face_worker.ready()
        except TimeoutError:
            # It goes on loading: files are fetched the first time.
            logger.warning("the face analysis is still loading", waited_s=self._patience_s)
            raise api_error("IMAGE_CHECK_UNAVAILABLE") from None
