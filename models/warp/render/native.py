"""The compiled kernels, and their structures (``kernels/layers.h``) made from numpy arrays.

The kernels are plain C, compiled when the package is installed (``setup.py``) and called by
ctypes, which releases the GIL. Structures point into arrays and do not keep them alive; the
code that makes one does.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from models.engine import EngineError
from models.warp.grid import CoarseGrid

FOLDER = Path(__file__).parent


class GridStruct(ctypes.Structure):
    """A :class:`CoarseGrid`."""

    _fields_ = [(name, c_int32) for name in ("left", "top", "columns", "rows", "cell", "margin")]

    @classmethod
    def of(cls, grid: CoarseGrid) -> GridStruct:
        """The same grid."""
        return cls(grid.left, grid.top, grid.columns, grid.rows, grid.cell, grid.margin)


class TextureStruct(ctypes.Structure):
    """Bytes, one or more a texel."""

    _fields_ = [("data", c_void_p), ("width", c_int32), ("height", c_int32)]

    @classmethod
    def of(cls, texels: np.ndarray | None, channels: int = 1) -> TextureStruct:
        """A view of uint8 (height, width), or (height, width, channels); of nothing if None."""
        if texels is None:
            return cls(None, 0, 0)
        height, width = texels.shape[:2]
        shape = (height, width) if channels == 1 else (height, width, channels)
        if min(height, width) < 2:
            raise ValueError(f"a texture is at least 2 x 2, not of shape {texels.shape}")
        return cls(address(texels, np.uint8, shape), width, height)


class PlaneStruct(ctypes.Structure):
    """A float for each pixel."""

    _fields_ = [("data", c_void_p), ("width", c_int32), ("height", c_int32)]

    @classmethod
    def of(cls, values: np.ndarray) -> PlaneStruct:
        """A view of float32 (height, width)."""
        height, width = values.shape
        return cls(address(values, np.float32, (height, width)), width, height)


class FrameStruct(ctypes.Structure):
    """A tightly packed I420 frame."""

    _fields_ = [("data", c_void_p), ("width", c_int32), ("height", c_int32)]

    @classmethod
    def of(cls, i420: np.ndarray) -> FrameStruct:
        """A view of uint8 (height * 3 / 2, width)."""
        rows, width = i420.shape
        return cls(address(i420, np.uint8, (rows, width)), width, rows * 2 // 3)


class FieldStruct(ctypes.Structure):
    """One layer of displacement fields."""

    _fields_ = [
        ("grid", GridStruct),
        ("fields", c_void_p),
        ("hold", c_void_p),
        ("count", c_int32),
        ("to_nodes", c_float * 4),
    ]


class EyeStruct(ctypes.Structure):
    """One eye."""

    _fields_ = [
        *((name, TextureStruct) for name in ("skin", "skin_chroma", "shut", "shut_chroma")),
        *((name, TextureStruct) for name in ("ball", "ball_chroma", "lashes", "glasses")),
        ("to_own", c_float * 6),
        ("to_skin", c_float * 6),
        ("upper", c_float * 3),
        ("lower", c_float * 3),
        ("room", c_float),
        ("ball_radius", c_float),
        ("pixels", c_float),
        ("lash", c_float * 3),
        *((name, c_int32) for name in ("left", "top", "width", "height")),
    ]


class LookStruct(ctypes.Structure):
    """How an eye stands: lids 0 open to 1 shut; sines of the turn right and down."""

    _fields_ = [("blink", c_float), ("gaze_x", c_float), ("gaze_y", c_float)]


class MouthStruct(ctypes.Structure):
    """Lips and the inside of the mouth."""

    _fields_ = [
        ("luma", TextureStruct),
        ("tint", TextureStruct),
        ("depth", PlaneStruct),
        ("ramp", PlaneStruct),
        ("inside", TextureStruct * 3),
        ("blend", c_void_p),
        ("cavity", c_float * 3),
        ("black", c_float * 3),
        ("unit", c_float),
        *((name, c_int32) for name in ("left", "top", "inside_left", "inside_top")),
        *((name, c_int32) for name in ("texels", "inside_texels")),
    ]


class PersonStruct(ctypes.Structure):
    """The whole person."""

    _fields_ = [
        ("grid", GridStruct),
        ("neck", FieldStruct),
        ("face", FieldStruct),
        ("opacity", c_void_p),
        ("jaw", c_void_p),
        ("luma", TextureStruct),
        ("chroma", TextureStruct),
        ("texels", c_int32),
        ("lit_row", c_int32),
        ("eyes", EyeStruct * 2),
        ("lips", FieldStruct * 2),
        ("inside", FieldStruct * 3),
        ("mouth", MouthStruct),
    ]


class MotionStruct(ctypes.Structure):
    """One frame's motion."""

    _fields_ = [
        ("weights", c_void_p),
        ("neck", c_void_p),
        ("contact", c_float),
        ("fold", c_float),
        ("parted", c_int32),
        ("looks", LookStruct * 2),
    ]


def address(array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> int:
    """Where the first element of a contiguous array of exactly this type and shape is.

    Raises:
        ValueError: it is of another.
    """
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"a kernel needs contiguous {np.dtype(dtype).name} of shape {shape}, not "
            f"{array.dtype} of shape {array.shape}"
        )
    return array.ctypes.data


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels, those for AVX2 where the processor has it.

    Raises:
        EngineError: they were not built.
    """
    plain = built("_kernels")
    if plain is None:
        raise EngineError(
            "the renderer's kernels are not built; install the package: pip install . (in a "
            "checkout: make setup)"
        )
    return (built("_kernels_avx2") if plain.has_avx2() else None) or plain


def built(name: str) -> ctypes.CDLL | None:
    """The library of this name beside this module, ready to be called; None: it is not there."""
    # Whatever Python it was built for: it uses nothing of Python's.
    files = [path for path in FOLDER.glob(f"{name}.*") if path.suffix in (".so", ".pyd")]
    if not files:
        return None
    loaded = ctypes.CDLL(str(files[0]))
    grid, frame, texture = POINTER(GridStruct), POINTER(FrameStruct), POINTER(TextureStruct)
    for name, arguments in {
        "displace": [c_void_p, c_int32, c_int32, c_void_p, c_int32, c_void_p, c_void_p],
        "invert": [c_void_p, c_int32, c_int32, c_int32, c_float, c_void_p],
        "refine": [grid, c_void_p, grid, c_void_p],
        "person_nodes": [grid, c_void_p, grid, *[c_void_p] * 3, c_float, c_float, c_void_p],
        "warp_luma": [grid, c_void_p, texture, c_int32, frame],
        "warp_chroma": [grid, c_void_p, texture, frame],
        "paint_eye": [grid, c_void_p, POINTER(EyeStruct), POINTER(LookStruct), frame],
        "to_canvas": [grid, c_void_p],
        "paint_mouth": [
            grid,
            c_void_p,
            grid,
            c_void_p,
            grid,
            c_void_p,
            POINTER(MouthStruct),
            frame,
        ],
        "shade": [grid, c_void_p, c_int32, frame],
        "render_frame": [POINTER(PersonStruct), POINTER(MotionStruct), c_void_p, frame, c_void_p],
    }.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    loaded.scratch_floats.argtypes = [POINTER(PersonStruct)]
    loaded.scratch_floats.restype = c_int64
    return loaded
