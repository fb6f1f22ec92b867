"""Framing: the photo cropped, scaled and, where it is too tight, extended to the canvas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from models.blur import wide_blur
from models.engine import Canvas
from models.face import topology
from models.face.matte import PersonMatting, default_matting
from models.face.port import Face
from models.face.resample import resample
from models.i420 import OFFSET, RGB_TO_YUV

EYE_LINE = 0.41
"""Height of the eyes from the canvas's top, over its height, when the photo has the space."""
EYE_LINE_RANGE = (0.28, 0.50)
MAX_OFF_CENTRE = 0.07
"""How far from the middle the face may move for the same reason, over the canvas's width."""


@dataclass(frozen=True)
class FramedPortrait:
    """A portrait at its canvas's size."""

    rgb: np.ndarray
    """uint8 (canvas.height, canvas.width, 3)."""
    face: Face
    """The face in canvas pixels; z of its landmarks is scaled alike."""
    matte: np.ndarray
    """How much of each pixel is the person: float32 (canvas.height, canvas.width), 0 to 1."""
    scale: float
    """Canvas pixels per photo pixel."""
    extended: tuple[int, int, int, int]
    """Canvas pixels left, top, right, bottom that the photo did not cover and were made up."""
    _photo: np.ndarray = field(repr=False)
    _columns: _Axis = field(repr=False)
    _rows: _Axis = field(repr=False)

    def luma(self, scale: int) -> np.ndarray:
        """Y of ``rgb`` with the photo's own detail: float32 (scale * height, scale * width)."""
        columns, rows, photo = self._columns, self._rows, self._photo
        if scale * rows.size < len(photo):
            size = (scale * columns.size, scale * rows.size)
            photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        x = (columns.between(scale) + 0.5) * (photo.shape[1] / columns.size) - 0.5
        y = (rows.between(scale) + 0.5) * (photo.shape[0] / rows.size) - 0.5
        # Of a large photo only what the canvas shows is looked at.
        left, top = (max(0, int(at[0]) - 8) for at in (x, y))
        shown = photo[top : int(y[-1]) + 9, left : int(x[-1]) + 9]
        picture = resample(_luma(shown), x - left, y - top)
        # What was made up is out of focus: it has no more detail than the canvas shows.
        for part in _made_up_parts(columns, rows):
            around = (
                slice(max(0, part[0].start - 3), part[0].stop + 3),
                slice(max(0, part[1].start - 3), part[1].stop + 3),
            )
            inner = tuple(
                slice(scale * (side.start - wide.start), scale * (side.stop - wide.start))
                for side, wide in zip(part, around, strict=True)
            )
            soft = _luma(self.rgb[around])
            size = (scale * soft.shape[1], scale * soft.shape[0])
            soft = cv2.resize(soft, size, interpolation=cv2.INTER_CUBIC)[inner]
            weight = cv2.resize(_made_up(columns, rows, 1.0, around), size)[inner]
            fine = picture[tuple(slice(scale * side.start, scale * side.stop) for side in part)]
            fine += weight * (soft - fine)
        return picture

    @property
    def landmarks(self) -> np.ndarray:
        """The face's landmarks in canvas pixels."""
        return self.face.landmarks


def frame_portrait(
    rgb: np.ndarray, face: Face, canvas: Canvas, matting: PersonMatting | None = None
) -> FramedPortrait:
    """Head and shoulders on the canvas.

    The face gets its natural share of the canvas, the eyes lie a little above the middle. A photo
    that is too tight is first zoomed and shifted; what is still missing continues the photo's
    border, ever more out of focus.

    Args:
        rgb: the photo, uint8 (height, width, 3).
        face: its face, in photo pixels.
        canvas: the size wanted.
        matting: cuts the person out; default: one per process.
    """
    matting = matting or default_matting()
    height, width = rgb.shape[:2]
    window = _choose_window(width, height, face, canvas, _head_is_cut(rgb, face, matting))
    scaled = _resize(rgb, window.scale)
    scale_x, scale_y = scaled.shape[1] / width, scaled.shape[0] / height
    # A whole number of pixels: the photo is resampled once only.
    left, top = round(window.left * scale_x), round(window.top * scale_y)
    box = np.array(face.box) * (scale_x, scale_y, scale_x, scale_y)
    margin = 0.12 * (box[3] - box[1])
    columns = _Axis.fit(left, canvas.width, scaled.shape[1], box[0] - margin, box[2] + margin)
    rows = _Axis.fit(top, canvas.height, scaled.shape[0], box[1] - 2 * margin, box[3] + margin)
    picture = _extend(scaled, columns, rows)
    landmarks = face.landmarks.copy()
    landmarks[:, 0] = landmarks[:, 0] * scale_x - left
    landmarks[:, 1] = landmarks[:, 1] * scale_y - top
    if landmarks.shape[1] == 3:
        landmarks[:, 2] *= (scale_x + scale_y) / 2
    framed_box = box - (left, top, left, top)
    framed = replace(
        face,
        landmarks=landmarks,
        box=(
            float(framed_box[0]),
            float(framed_box[1]),
            float(framed_box[2]),
            float(framed_box[3]),
        ),
    )
    matte = matting(picture, _outline(framed))
    return FramedPortrait(
        picture,
        framed,
        matte,
        (scale_x + scale_y) / 2,
        (columns.before, rows.before, columns.after, rows.after),
        rgb,
        columns,
        rows,
    )


def framed_region(
    rgb: np.ndarray, face: Face, canvas: Canvas, matting: PersonMatting | None = None
) -> tuple[float, float, float, float]:
    """The part of the photo that ``frame_portrait`` shows: left, top, right, bottom in pixels.

    It may reach beyond the photo. A photo cut to it, or to more, is framed alike.
    """
    matting = matting or default_matting()
    height, width = rgb.shape[:2]
    window = _choose_window(width, height, face, canvas, _head_is_cut(rgb, face, matting))
    return (
        window.left,
        window.top,
        window.left + canvas.width / window.scale,
        window.top + canvas.height / window.scale,
    )


@dataclass(frozen=True)
class _Window:
    """The part of the photo the canvas shows; may reach beyond the photo."""

    left: float
    top: float
    scale: float


def face_shares(canvas: Canvas) -> tuple[float, float]:
    """Height of the face (hairline to chin) over the canvas's: the natural one, and the largest it
    may get to avoid extending a tight photo."""
    aspect = canvas.width / canvas.height
    natural = np.interp(aspect, (9 / 16, 3 / 4, 1.0, 4 / 3), (0.31, 0.39, 0.43, 0.46))
    largest = np.interp(aspect, (3 / 4, 1.0, 4 / 3), (0.67, 0.65, 0.64))
    return float(natural), float(largest)


def _head_is_cut(rgb: np.ndarray, face: Face, matting: PersonMatting) -> bool:
    """Whether the photo's upper edge runs through the person's hair."""
    if face.box[1] > face.height:
        return False
    shrink = min(1.0, 512 / max(rgb.shape[:2]))
    matte = matting(_resize(rgb, shrink), _outline(face) * shrink)
    left, right = (int(max(0.0, x * shrink)) for x in (face.box[0], face.box[2]))
    rim = matte[: max(2, matte.shape[0] // 100), left : max(right, left + 1)]
    return bool(rim.mean() > 0.25)


def _choose_window(
    width: int, height: int, face: Face, canvas: Canvas, head_is_cut: bool
) -> _Window:
    """Weigh what would have to be made up against leaving the natural composition."""
    natural, largest = face_shares(canvas)
    eye_x, eye_y = _eyes(face)
    middle = (2 * (face.box[0] + face.box[2]) / 2 + eye_x) / 3
    best, least = _Window(0.0, 0.0, 1.0), np.inf
    for zoom in np.linspace(1.0, largest / natural, 31):
        scale = natural * zoom * canvas.height / face.height
        w, h = canvas.width / scale, canvas.height / scale
        # Sideways: as far towards the middle of the photo as helps.
        left = middle - w / 2
        inside = float(np.clip(left, min(0.0, width - w), max(0.0, width - w)))
        shift = float(np.clip(inside - left, -MAX_OFF_CENTRE * w, MAX_OFF_CENTRE * w))
        left += shift
        sides = (max(0.0, -left) + max(0.0, left + w - width)) / w
        for eye_line in np.linspace(*EYE_LINE_RANGE, 45):
            top = eye_y - eye_line * h
            above, below = max(0.0, -top) / h, max(0.0, top + h - height) / h
            cost = (
                # A made-up body or head looks worse than a made-up background, and that worse than
                # a face that is a little large or off the middle.
                8.0 * below
                + (9.0 if head_is_cut else 2.5) * above
                + 1.0 * sides
                + 1.1 * (zoom - 1.0)
                + 3.0 * (shift / w) ** 2
                + 20.0 * (eye_line - EYE_LINE) ** 2
            )
            if cost < least:
                least, best = cost, _Window(left, top, scale)
    return best


def _eyes(face: Face) -> tuple[float, float]:
    """The point between the eyes."""
    if face.layout == "mesh478":
        corners = [*topology.RIGHT_EYE_CORNERS, *topology.LEFT_EYE_CORNERS]
        x, y = face.landmarks[corners, :2].mean(0)
        return float(x), float(y)
    return (face.box[0] + face.box[2]) / 2, face.box[1] + 0.40 * face.height


def _outline(face: Face) -> np.ndarray:
    """Outline of the face, (points, 2) in pixels."""
    if face.layout == "mesh478":
        return face.landmarks[list(topology.FACE_OVAL), :2]
    return cv2.convexHull(face.landmarks[:, :2].astype(np.float32))[:, 0]


def _luma(rgb: np.ndarray) -> np.ndarray:
    """Y of ``rgb`` (height, width, 3): float32 (height, width)."""
    luma = np.empty(rgb.shape[:2], np.float32)
    weights = np.array([[*RGB_TO_YUV[0], OFFSET[0]]])
    # In bands: the whole photo as float32 would take hundreds of megabytes.
    for top in range(0, len(rgb), 64):
        band = rgb[top : top + 64].astype(np.float32)
        luma[top : top + 64] = cv2.transform(band, weights)
    return luma


def _resize(rgb: np.ndarray, scale: float) -> np.ndarray:
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    if size == (rgb.shape[1], rgb.shape[0]):
        return rgb
    if scale > 1:
        return cv2.resize(rgb, size, interpolation=cv2.INTER_LANCZOS4)
    if scale > 0.5:
        # Averages over little more than a pixel would blur some pixels and not their neighbours.
        twice = (2 * size[0], 2 * size[1])
        rgb = cv2.resize(rgb, twice, interpolation=cv2.INTER_LANCZOS4)
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _Axis:
    """Which pixel of the scaled photo each canvas pixel of one axis shows, and how far it is made
    up."""

    source: np.ndarray
    """float32: position in the scaled photo."""
    depth: np.ndarray
    """float32: pixels beyond the photo's edge, 0 inside."""
    before: int
    after: int
    size: int
    """Pixels of the whole scaled photo."""

    def between(self, scale: int) -> np.ndarray:
        """Positions in the scaled photo of a canvas ``scale`` times as fine: float64."""
        at = (np.arange(scale * self.source.size) + 0.5) / scale - 0.5
        first = np.clip(at.astype(int), 0, self.source.size - 2)
        source = self.source.astype(np.float64)
        return source[first] + (at - first) * (source[first + 1] - source[first])

    @staticmethod
    def fit(start: int, length: int, size: int, low: float, high: float) -> _Axis:
        """Canvas pixels ``start .. start + length`` of a photo of ``size`` pixels.

        Missing pixels are won by stretching the photo's rim: smoothly, from nothing at the face
        (``low`` to ``high``) to most at the edge.
        """
        position = np.arange(start, start + length, dtype=np.float64)
        before, after = max(0, -start), max(0, start + length - size)
        source = position.copy()
        if before:
            band = max(0.7 * low, 1.0)
            near = position < band
            source[near] = band - _stretch(band - position[near], band, before)
        if after:
            band = max(0.7 * (size - 1 - high), 1.0)
            near = position > size - 1 - band
            source[near] = (
                size - 1 - band + _stretch(position[near] - (size - 1 - band), band, after)
            )
        depth = np.maximum(-position, position - (size - 1)).clip(0)
        return _Axis(
            np.clip(source, 0, size - 1).astype(np.float32),
            depth.astype(np.float32),
            before,
            after,
            size,
        )


def _stretch(u: np.ndarray, band: float, extra: float) -> np.ndarray:
    """Map [0, band + extra] onto [0, band]: slope 1 at 0, gently falling to a positive rest."""
    ratio = band / (band + extra)
    rest = 0.6 * ratio
    power = (1 - rest) / (ratio - rest) - 1
    t = np.clip(u / (band + extra), 0, 1)
    return (band + extra) * (rest * t + (1 - rest) / (power + 1) * (1 - (1 - t) ** (power + 1)))


def _extend(photo: np.ndarray, columns: _Axis, rows: _Axis) -> np.ndarray:
    """The canvas's picture; made-up parts lose focus with their distance from the photo."""
    if not (columns.before or columns.after or rows.before or rows.after):
        y, x = int(rows.source[0]), int(columns.source[0])
        return np.ascontiguousarray(photo[y : y + rows.source.size, x : x + columns.source.size])
    map_x, map_y = np.meshgrid(columns.source, rows.source)
    picture = cv2.remap(photo, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    unit = max(picture.shape[:2]) / 100
    sharp = picture.astype(np.float32)
    parts = _made_up_parts(columns, rows)
    results = [sharp[part] for part in parts]
    for sigma, reach in ((0.5, 1.0), (1.2, 4.0), (2.4, 9.0)):
        soft = wide_blur(sharp, sigma * unit, cv2.BORDER_REFLECT)
        for i, part in enumerate(parts):
            weight = _made_up(columns, rows, reach, part)[:, :, None]
            results[i] = np.asarray(results[i] + weight * (soft[part] - results[i]), np.float32)
    for part, result in zip(parts, results, strict=True):
        picture[part] = np.round(result).clip(0, 255)
    return picture


def _made_up_parts(columns: _Axis, rows: _Axis) -> list[tuple[slice, slice]]:
    """Rectangles of the canvas, beside each other, that the photo did not cover."""
    width, height = columns.source.size, rows.source.size
    left, right = min(columns.before, width), max(width - columns.after, columns.before)
    top, bottom = min(rows.before, height), max(height - rows.after, rows.before)
    parts = (
        (slice(0, top), slice(0, width)),
        (slice(top, bottom), slice(0, left)),
        (slice(top, bottom), slice(right, width)),
        (slice(bottom, height), slice(0, width)),
    )
    return [part for part in parts if all(side.start < side.stop for side in part)]


def _made_up(columns: _Axis, rows: _Axis, reach: float, part: tuple[slice, slice]) -> np.ndarray:
    """0 in the photo, rising to 1 at ``reach`` hundredths of the canvas beyond its edge: float32,
    over ``part`` of the canvas."""
    depth = np.hypot(columns.depth[part[1]], rows.depth[part[0], None])
    longest = max(columns.depth.size, rows.depth.size)
    share = np.clip(depth * (100 / (reach * longest)), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
