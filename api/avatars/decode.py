"""Base64 photos to bytes, within the limits of photos."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re

from api.http.errors import ApiError, api_error

MAX_BYTES = 10 * 1024 * 1024
"""Of an encoded photo; the same as ``models.face.photo.MAX_BYTES``, which this process does not
load."""

_PREFIX = re.compile(r"\s*data:[^,]{0,256},")
_SPACE = re.compile(r"\s+")
_SLICE = 1 << 20
"""Characters decoded at a time, a multiple of 4: other threads get their turn in between."""
_ALLOWED = "Send JPEG, PNG, GIF or WebP as standard base64, with or without data:image/jpeg;base64,"


async def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text; a data URI's prefix and white space are skipped.

    Raises:
        ApiError: INVALID_BASE64 or IMAGE_TOO_LARGE.
    """
    return await asyncio.to_thread(_decode, text)


def too_large(megabytes: float | None = None) -> ApiError:
    """413: over 10 MB. ``megabytes``: what it has, if known."""
    message = "Image is larger than 10 MB" + (f": it has {megabytes:.1f} MB" if megabytes else "")
    return api_error(
        "IMAGE_TOO_LARGE",
        message=message,
        suggestion="Send a smaller file, such as a JPEG of 2000 pixels height.",
    )


def _decode(text: str) -> bytes:
    prefix = _PREFIX.match(text, 0, 300)
    if prefix is not None:
        if ";base64," not in prefix.group().lower():
            raise _invalid("the data URI does not say ;base64")
        text = text[prefix.end() :]
    if any(space in text for space in " \n\r\t"):
        text = _SPACE.sub("", text)
    if not text:
        raise _invalid("it is empty")
    size = len(text) * 3 // 4
    if size > MAX_BYTES + 2:
        raise too_large(size / 1024 / 1024)
    # Some encoders leave the padding out, some write the URL-safe alphabet.
    text = text.rstrip("=")
    text += "=" * (-len(text) % 4)
    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    photo = bytearray()
    try:
        for start in range(0, len(text), _SLICE):
            photo += base64.b64decode(text[start : start + _SLICE], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("it holds characters or a length no base64 text has") from error
    if len(photo) > MAX_BYTES:
        raise too_large(len(photo) / 1024 / 1024)
    return bytes(photo)


def _invalid(why: str) -> ApiError:
    return api_error("INVALID_BASE64", message=f"Invalid base64 image: {why}", suggestion=_ALLOWED)
