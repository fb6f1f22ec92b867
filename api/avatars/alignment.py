"""A photo examined and aligned: the pictures of an avatar. Pure functions of pixels, no I/O."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from api.avatars.port import Portrait
from api.records import RATIOS, AspectRatio
from models.engine import Canvas
from models.face import (
    Face,
    FaceAnalyzer,
    PortraitError,
    default_analyzer,
    frame_portrait,
    framed_region,
    inspect_portrait,
    load_photo,
)
from models.face.photo import MIN_SHORT_SIDE

CANVASES: dict[AspectRatio, Canvas] = {
    "4:3": Canvas(1200, 900),
    "3:4": Canvas(900, 1200),
    "1:1": Canvas(1200, 1200),
}
"""The aligned image's size, as far as the photo has the pixels."""
IMAGE_QUALITY = 95
PREVIEW_QUALITY = 90
PREVIEW_SIDE = 500
LANDSCAPE = 1.15
PORTRAIT = 0.87
"""Width over height from which, and up to which, a photo counts as such."""
MIN_IMAGE_SIDE = 480
"""Small photos are enlarged this far and no further."""
MARGIN = 0.15
"""Crops keep this share of the framed region on each side, for heads that move and for engines
that frame a little wider."""
CROP_SIDE = 1280
"""Longer side of the framed region in a crop, pixels: a worker's largest canvas."""


@functools.cache
def analyzer() -> FaceAnalyzer:
    """The process's face analyser, loaded on first use.

    Raises:
        models.assets.AssetError: its files cannot be fetched.
    """
    return default_analyzer()


def orientation(width: int, height: int) -> AspectRatio:
    """The aspect ratio a photo of this size is aligned to."""
    shape = width / height
    if shape >= LANDSCAPE:
        return "4:3"
    return "3:4" if shape <= PORTRAIT else "1:1"


def examine(photo: bytes) -> Portrait:
    """Everything an upload makes of a photo.

    Raises:
        PortraitError: why it cannot become an avatar.
    """
    rgb, face = _face_of(photo)
    ratio = orientation(rgb.shape[1], rgb.shape[0])
    return Portrait(
        ratio,
        _aligned(rgb, face, CANVASES[ratio]),
        _preview(rgb, face),
        {each: _crop(rgb, face, each) for each in RATIOS},
    )


def crop(photo: bytes, ratio: AspectRatio) -> bytes:
    """What a worker needs of the photo for ``ratio``, as JPEG.

    Raises:
        PortraitError: why it cannot become an avatar.
    """
    rgb, face = _face_of(photo)
    return _crop(rgb, face, ratio)


def _face_of(photo: bytes) -> tuple[np.ndarray, Face]:
    rgb = load_photo(photo)
    return rgb, inspect_portrait(rgb, analyzer()).face


def _aligned(rgb: np.ndarray, face: Face, canvas: Canvas) -> bytes:
    framed = frame_portrait(rgb, face, canvas)
    picture = framed.rgb
    # Pixels the photo does not have would only make the file larger.
    shrink = max(1 / framed.scale, MIN_IMAGE_SIDE / min(canvas.width, canvas.height))
    if shrink < 1:
        size = (round(canvas.width * shrink), round(canvas.height * shrink))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return _jpeg(picture, IMAGE_QUALITY)


def _preview(rgb: np.ndarray, face: Face) -> bytes:
    framed = frame_portrait(rgb, face, Canvas(PREVIEW_SIDE, PREVIEW_SIDE))
    return _jpeg(framed.rgb, PREVIEW_QUALITY)


def _crop(rgb: np.ndarray, face: Face, ratio: AspectRatio) -> bytes:
    left, top, right, bottom = framed_region(rgb, face, CANVASES[ratio])
    width, height = right - left, bottom - top
    x0, x1 = _span(left, right, rgb.shape[1])
    y0, y1 = _span(top, bottom, rgb.shape[0])
    part = np.ascontiguousarray(rgb[y0:y1, x0:x1])
    shrink = CROP_SIDE / max(width, height)
    if shrink < 1:
        size = (max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return _jpeg(part, IMAGE_QUALITY)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """``low`` to ``high`` with its margin, inside the photo, no shorter than photos must be."""
    margin = MARGIN * (high - low)
    start, end = max(0, int(low - margin)), min(size, int(high + margin) + 1)
    missing = MIN_SHORT_SIDE - (end - start)
    if missing > 0:
        start = max(0, start - missing // 2)
        end = min(size, start + MIN_SHORT_SIDE)
        start = max(0, end - MIN_SHORT_SIDE)
    return start, end


def _jpeg(rgb: np.ndarray, quality: int) -> bytes:
    done, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    )
    if not done:
        raise PortraitError("INVALID_IMAGE", "Image could not be encoded", "Send another photo.")
    return data.tobytes()
