"""Pictures in an S3-compatible bucket.

``s3://bucket/prefix?endpoint_url=https://…&region_name=…&style=path&links=off``: credentials come
from where boto3 finds them (``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, a profile, the
machine's role). ``style`` is ``auto``, ``path`` or ``virtual``; ``links=off`` is for buckets that
clients cannot reach: their pictures go through us.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from api.avatars.port import MediaMissing
from api.settings import PREFIX, SettingsError

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_OPTIONS = frozenset({"endpoint_url", "region_name", "style", "links"})
_FORM = (
    "s3://bucket/prefix?endpoint_url=https://…&region_name=…&style=path|virtual|auto&links=on|off"
)


class S3Media:
    """Implements ``MediaStore`` with boto3, whose calls run in threads."""

    def __init__(self, client: Any, bucket: str, prefix: str, *, links: bool = True) -> None:
        """``prefix``: what every key begins with, without slashes at its ends; may be empty."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._links = links

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Keep ``data``; an older value is replaced whole or not at all."""
        await asyncio.to_thread(
            self._client.put_object,
            **self._at(key),
            Body=data,
            ContentType=content_type,
        )

    async def get(self, key: str) -> bytes:
        """What was put.

        Raises:
            MediaMissing: nothing was.
        """
        return await asyncio.to_thread(self._get, key)

    async def delete(self, *keys: str) -> None:
        """Forget; keys that are not there are fine."""
        # One by one: not every store that speaks S3 knows the call for many.
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(asyncio.to_thread(self._client.delete_object, **self._at(key)))

    async def link(self, key: str, expires_s: int) -> str | None:
        """A presigned link, or None where clients cannot reach the bucket."""
        if not self._links:
            return None
        return await asyncio.to_thread(
            self._client.generate_presigned_url,
            "get_object",
            Params=self._at(key),
            ExpiresIn=expires_s,
        )

    async def check(self) -> None:
        """Raise when the bucket cannot be written."""
        await asyncio.to_thread(self._client.put_object, **self._at("check"), Body=b"")

    async def aclose(self) -> None:
        """Close connections."""
        await asyncio.to_thread(self._client.close)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _get(self, key: str) -> bytes:
        from botocore.exceptions import ClientError

        try:
            body: bytes = self._client.get_object(**self._at(key))["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                raise MediaMissing(key) from error
            raise
        return body


async def open_s3(url: str) -> S3Media:
    """The bucket ``url`` names. Nothing is sent yet.

    Raises:
        SettingsError: the URL cannot be used, or boto3 is not installed.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS)
    style, links = options.get("style", "auto"), options.get("links", "on")
    if parts.username or parts.password:
        raise SettingsError(
            f"{PREFIX}MEDIA_URL: credentials do not belong in it; set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY"
        )
    if (
        not parts.netloc
        or unknown
        or style not in ("auto", "path", "virtual")
        or links not in ("on", "off")
    ):
        raise SettingsError(f"{PREFIX}MEDIA_URL: write it as {_FORM}")
    # Reads botocore's service description from disk: a third of a second.
    client = await asyncio.to_thread(
        _client, options.get("endpoint_url"), options.get("region_name"), style
    )
    return S3Media(client, parts.netloc, parts.path.strip("/"), links=links == "on")


def _client(endpoint_url: str | None, region_name: str | None, style: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise SettingsError(
            f"{PREFIX}MEDIA_URL: s3 needs the package boto3: pip install 'avatar-server[s3]'"
        ) from None
    try:
        return boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region_name,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": style},
                connect_timeout=5,
                read_timeout=20,
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 3},
                # Stores other than Amazon's do not all know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except ValueError as error:
        raise SettingsError(f"{PREFIX}MEDIA_URL: {error}") from None
