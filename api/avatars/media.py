"""Which media store the settings name."""

from __future__ import annotations

from api.avatars.folder import FolderMedia
from api.avatars.port import MediaStore
from api.settings import PREFIX, ApiSettings, SettingsError


async def open_media(settings: ApiSettings) -> MediaStore:
    """The store of ``media_url``, or a folder in ``data_dir``.

    Raises:
        SettingsError: the URL cannot be used, or its package is missing.
    """
    url = settings.media_url
    if url is None:
        return FolderMedia(settings.data_dir / "media")
    if url.startswith("s3://"):
        from api.avatars.s3 import open_s3

        return await open_s3(url)
    raise SettingsError(f"{PREFIX}MEDIA_URL: must begin with s3://; leave it out for a folder")
