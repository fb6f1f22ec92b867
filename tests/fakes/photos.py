"""Photos for tests, made of one of the portraits in the repository."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from portraits import MARK


def portrait() -> Image.Image:
    """1536 x 1280, one face of 520 pixels height."""
    part = Image.open(MARK.path).convert("RGB").crop((34, 100, 1246, 1110))
    return part.resize((1536, 1280), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def lying() -> bytes:
    """Stored on its side, with an EXIF orientation that says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(portrait().rotate(90, expand=True), exif=exif)


def two_faces() -> bytes:
    one = portrait().crop((368, 100, 1168, 1100))
    both = Image.new("RGB", (1600, 1000))
    both.paste(one, (0, 0))
    both.paste(one, (800, 0))
    return encoded(both)


def far_away() -> bytes:
    """A face of 65 pixels height."""
    scene = Image.new("RGB", (1200, 900), (96, 110, 104))
    scene.paste(portrait().resize((192, 160), Image.Resampling.LANCZOS), (500, 400))
    return encoded(scene)


def blurred() -> bytes:
    return encoded(portrait().filter(ImageFilter.GaussianBlur(20)))


def turned() -> bytes:
    """Turned by a right angle without EXIF: a person lying on the side."""
    return encoded(portrait().rotate(90, expand=True))


def nobody() -> bytes:
    slope = np.linspace(0, 255, 640, dtype=np.uint8)
    return encoded(Image.fromarray(np.stack([np.tile(slope, (480, 1))] * 3, 2)))


def small() -> bytes:
    return encoded(portrait().resize((288, 240)))


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a few bytes that says it has ``width`` x ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
