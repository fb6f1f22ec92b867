"""Poses to frames: what the kernels need of a motion, and where they work.

Everything per node and per pixel is in ``kernels/``; ``kernels/render.c`` has the order: the whole
person is warped from the coarse grids' nodes, eyes and mouth are painted over it, each from layers
of their own, and last come the shades.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from ctypes import byref

import numpy as np

from models.warp.build.head import FIELDS, head_coefficients
from models.warp.build.jaw import shade_depths
from models.warp.identity import WarpIdentity
from models.warp.motion.blend_shape import BlendShape, coefficients
from models.warp.motion.motion_vector import INDEX
from models.warp.pose import WarpPose
from models.warp.render import native
from models.warp.render.person import native_person

_PARTED = 0.003
"""Gap between the lips, in units, up to which nothing of the mouth's inside can be seen."""
_HEAD = range(2 * len(BlendShape), 2 * len(BlendShape) + FIELDS)
NECK_FIELDS = [BlendShape.CLOSE, len(BlendShape) + BlendShape.CLOSE, *_HEAD]
"""The fields that move the neck, in the order of ``WarpIdentity.neck``."""
_GAZE = [INDEX["gaze_x"], INDEX["gaze_y"]]
_LIDS = [INDEX["blink_right"], INDEX["blink_left"]]

_scratch = threading.local()
"""Each thread's working memory, as large as the largest person it rendered needs: fresh memory for
each frame costs a page fault for each of its pages."""


def render(poses: Sequence[WarpPose]) -> list[np.ndarray]:
    """One I420 frame per pose, in their order: uint8, shape ``canvas.i420_shape``.

    Thread-safe, and releases the GIL.

    Raises:
        ValueError: a motion is not finite.
        models.engine.EngineError: the kernels were not built.
    """
    return [render_frame(pose.identity, pose.motion) for pose in poses]


STAGES = ("nodes", "luma", "chroma", "eyes", "lip nodes", "mouth", "shades")
"""What :func:`render_frame` can time, in the order of the work."""


def render_frame(
    identity: WarpIdentity, motion: np.ndarray, stages_ns: np.ndarray | None = None
) -> np.ndarray:
    """One frame of one person.

    Args:
        identity: whose.
        motion: float32 (channels,); see ``models.warp.motion.motion_vector``.
        stages_ns: int64 (len(STAGES),): nanoseconds of each stage are added to it.

    Returns:
        I420, uint8 (height * 3 / 2, width).
    """
    if not np.isfinite(motion).all():
        raise ValueError(f"a motion must be finite numbers, not {motion}")
    expression = coefficients(motion)
    turn, head = head_coefficients(motion)
    weights = np.concatenate([turn[:, :1] * expression, turn[:, 1:] * expression, head], 1)
    neck = weights.take(NECK_FIELDS, 1)
    contact, fold = shade_depths(expression)
    asked = native.MotionStruct(
        weights.ctypes.data,
        neck.ctypes.data,
        contact,
        fold,
        bool(expression[BlendShape.OPEN] > _PARTED),
        _looks(motion),
    )
    person, kernels = native_person(identity), native.library()
    frame = identity.base.copy()
    scratch = _scratch_of(kernels.scratch_floats(byref(person)))
    timed = None
    if stages_ns is not None:
        timed = native.address(stages_ns, np.int64, (len(STAGES),))
    kernels.render_frame(
        byref(person), byref(asked), scratch.ctypes.data, byref(native.FrameStruct.of(frame)), timed
    )
    return frame


def _looks(motion: np.ndarray) -> tuple[native.LookStruct, ...]:
    """How the right and the left eye stand."""
    gaze = np.sin(np.deg2rad(motion[_GAZE]))
    lids = np.clip(motion[_LIDS], 0.0, 1.0)
    return tuple(native.LookStruct(blink, *gaze) for blink in lids)


def _scratch_of(floats: int) -> np.ndarray:
    """This thread's working memory: float32, at least ``floats`` of them."""
    scratch: np.ndarray | None = getattr(_scratch, "floats", None)
    if scratch is None or len(scratch) < floats:
        scratch = _scratch.floats = np.empty(floats, np.float32)
    return scratch
