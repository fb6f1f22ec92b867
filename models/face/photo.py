"""From the bytes of an uploaded photo to RGB pixels, or a sentence on why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from models.face.port import PortraitError

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 50_000_000
MIN_SHORT_SIDE = 256
WORK_SIDE = 3840
"""Longer photos are scaled down to this: no canvas can show more of a face."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")


def load_photo(source: bytes | Path) -> np.ndarray:
    """Decode a photo: uint8 RGB, shape (height, width, 3), upright, in sRGB.

    JPEG, PNG, GIF and WebP, told apart by their first bytes; of animations the first frame.
    EXIF orientation is applied, transparency becomes white, an embedded colour profile is
    converted to sRGB, and what is longer than ``WORK_SIDE`` is scaled down.

    Args:
        source: the file's bytes, or its path.

    Raises:
        PortraitError: ``IMAGE_TOO_LARGE``, ``UNSUPPORTED_IMAGE_TYPE``, ``INVALID_IMAGE`` or
            ``IMAGE_TOO_SMALL``.
    """
    data = _read(source) if isinstance(source, Path) else source
    _check_bytes(data)
    try:
        with warnings.catch_warnings():
            # Sizes are judged below, against our own limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("far more than 50") from error
    except UnidentifiedImageError as error:
        # Pillow's text would name an object in memory.
        raise _undecodable("its header is damaged") from error
    except Exception as error:
        raise _undecodable(str(error)) from error
    with image:
        _check_size(*image.size)
        try:
            # JPEG decoders can halve on the way: a 50 megapixel photo need not be held whole.
            image.draft(None, (WORK_SIDE, WORK_SIDE))
            image.load()
            upright = _upright(image)
            rgb = _to_rgb(upright)
        # On hostile bytes decoders raise nearly anything.
        except Exception as error:
            raise _undecodable(str(error)) from error
    if max(rgb.size) > WORK_SIDE:
        rgb.thumbnail((WORK_SIDE, WORK_SIDE), Image.Resampling.LANCZOS)
    return np.array(rgb)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            return _refuse_bytes(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise PortraitError(
            "INVALID_IMAGE",
            f"{path} cannot be read: {error.strerror or error}",
            "Name a readable JPEG, PNG, GIF or WebP file.",
        ) from error


def _refuse_bytes(count: int) -> bytes:
    raise PortraitError(
        "IMAGE_TOO_LARGE",
        f"Image is larger than 10 MB: it has {count / 1024 / 1024:.1f} MB",
        "Send a smaller file, such as a JPEG of 2000 pixels height.",
    )


def _check_bytes(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        _refuse_bytes(len(data))
    if not data:
        raise _undecodable("it is empty")
    known = data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")) or (
        data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    )
    if not known:
        raise PortraitError(
            "UNSUPPORTED_IMAGE_TYPE",
            f"Unsupported image format: the file begins with {data[:8].hex(' ')}",
            "Use JPEG, PNG, GIF or WebP.",
        )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{width}x{height} = {width * height / 1e6:.0f}")
    if min(width, height) < MIN_SHORT_SIDE:
        raise PortraitError(
            "IMAGE_TOO_SMALL",
            f"Image is too small (short side under 256 px): it has {width}x{height} pixels",
            "Send a photo whose shorter side has at least 256 pixels.",
        )


def _too_many_pixels(how_many: str) -> PortraitError:
    return PortraitError(
        "IMAGE_TOO_LARGE",
        f"Image is over 50 megapixels: it has {how_many} megapixels",
        "Scale it down, 2000 pixels height are plenty.",
    )


def _undecodable(why: str) -> PortraitError:
    return PortraitError(
        "INVALID_IMAGE",
        f"Image could not be decoded: {why or 'damaged'}",
        "Save the photo again as JPEG or PNG and send it whole.",
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged EXIF says nothing about the pixels: take the photo as it lies.
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if image.mode in ("P", "1", "LA", "RGBA"):
        image = image.convert("RGB" if image.mode != "LA" else "L")
    rgb = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is not None:
        white = Image.new("RGB", rgb.size, (255, 255, 255))
        white.paste(rgb, mask=alpha)
        return white
    return rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey: keep the upper byte. Other depths: spread what there is over 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1e-9)
    return Image.fromarray((values / top * 255.0).clip(0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A damaged profile, or one for another colour space than the pixels'.
        return image.convert("RGB")
    return converted if converted is not None else image.convert("RGB")
