"""Head motion: which parts of the picture turn with the head, how deep they lie, and the turn."""

from __future__ import annotations

import numpy as np

from models.face import topology
from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.spline import ThinPlateSpline
from models.warp.motion.motion_vector import INDEX

FIELDS = 5
"""Fields of the head's motion: weighted x, y and depth, the weight itself, and breath."""
BREATH_RISE = 0.022
"""How far the shoulders rise with a breath, in units."""
PIVOT_BELOW_CHIN = 0.25
"""Height of the point the head turns about, in units below the chin."""
PIVOT_BEHIND_EARS = 0.1


class HeadFields:
    """The fields of one head's motion.

    Args:
        landmarks: (478, 3), pixels.
        frame: of the same face.
    """

    def __init__(self, landmarks: np.ndarray, frame: FaceFrame) -> None:
        points = frame.to_frame(landmarks)
        self._points = points
        depth = landmarks[:, 2].astype(np.float64) / frame.unit
        ears = [topology.EAR_RIGHT, topology.EAR_LEFT]
        self._axis = float(depth[ears].mean()) + PIVOT_BEHIND_EARS
        self._nearest = float(depth.min()) - 0.05
        self._spline, self._solution = _depth_spline(points, depth, self._axis)

    def __call__(self, at: np.ndarray) -> np.ndarray:
        """Fields at frame positions ``at`` (m, 2): float32 (FIELDS, m), units.

        The rotation is a sum of the first three by :func:`head_coefficients`.
        """
        chin = self._points[topology.CHIN]
        pivot = np.array([self._points[[10, 152], 0].mean(), chin[1] + PIVOT_BELOW_CHIN])
        weight = _head_weight(self._points, at)
        depth = self._spline(self._solution, at)[:, 0].clip(self._nearest, self._axis)
        breath = smoothstep(chin[1] + 0.2, chin[1] + 1.2, at[:, 1])
        fields = np.stack(
            [
                weight * (at[:, 0] - pivot[0]),
                weight * (at[:, 1] - pivot[1]),
                weight * (self._axis - depth),
                weight,
                0.35 + 0.65 * breath,
            ]
        )
        return fields.astype(np.float32)


def pushed_back(fields: np.ndarray, by: float) -> np.ndarray:
    """``fields`` of :class:`HeadFields` for what lies ``by`` units behind the face's surface."""
    out = fields.copy()
    out[2] -= by * fields[3]
    return out


def head_coefficients(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and the weights of the head's fields for a motion vector (channels,).

    Returns:
        The image part of the rotation, float32 (2, 2), which turns expressions with the head; and
        the weights of the fields for the x and y displacement, float32 (2, FIELDS).
    """
    yaw, pitch, roll = (np.deg2rad(float(motion[INDEX[a]])) for a in ("yaw", "pitch", "roll"))
    # Depth counts towards the camera: yaw moves the near side right, pitch moves it down.
    turned = np.array(
        [
            [np.cos(yaw), 0.0, np.sin(yaw)],
            [-np.sin(yaw) * np.sin(pitch), np.cos(pitch), np.cos(yaw) * np.sin(pitch)],
        ]
    )
    rolled = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    turn = rolled @ turned
    weights = np.zeros((2, FIELDS), np.float32)
    weights[:, :3] = turn
    weights[:, :2] -= np.eye(2, dtype=np.float32)
    weights[:, 3] = motion[[INDEX["sway_x"], INDEX["sway_y"]]]
    weights[1, 4] = -BREATH_RISE * min(max(float(motion[INDEX["breath"]]), 0.0), 1.0)
    return turn[:, :2].astype(np.float32), weights


def _head_weight(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """1 on the head, falling to 0 from the jaw to the shoulders."""
    jaw = points[list(topology.JAW_LINE)]
    order = np.argsort(jaw[:, 0])
    line = np.interp(at[:, 0], jaw[order, 0], jaw[order, 1])
    # Beside the face the jaw line ends at the ears; hair there leaves the head a little lower.
    chin = points[topology.CHIN, 1]
    start = np.minimum(line, chin) * 0.35 + chin * 0.65 - 0.1
    # Beside the neck are shoulders, collars and hair that lies on them: they follow less.
    middle, half_width = (jaw[:, 0].max() + jaw[:, 0].min()) / 2, np.ptp(jaw[:, 0]) / 2
    beside = smoothstep(0.65, 1.35, np.abs(at[:, 0] - middle) / half_width)
    start = np.maximum(start - 0.5 * beside, line + 0.02)
    return 1 - smoothstep(start, chin + 1.15 - 0.9 * beside, at[:, 1])


def _depth_spline(
    points: np.ndarray, depth: np.ndarray, axis: float
) -> tuple[ThinPlateSpline, np.ndarray]:
    """Depth of the face's ``points``, units, continued to hair and neck, as far as the axis."""
    oval = list(topology.FACE_OVAL)
    centre = (points[10] + points[152]) / 2
    rim = centre + (points[oval] - centre) * 1.35
    outer = centre + (points[oval] - centre) * 2.0
    inner = [i for i in range(0, 468, 3) if i not in topology.FACE_OVAL]
    where = np.concatenate([points[inner], points[oval], rim[::2], outer[::2]])
    values = np.concatenate(
        [
            depth[inner],
            depth[oval],
            np.maximum(depth[oval[::2]], axis - 0.25) * 0.5 + (axis - 0.1) * 0.5,
            np.full(len(outer[::2]), axis),
        ]
    )
    spline = ThinPlateSpline(where, smoothing=2e-2)
    return spline, spline.solve(values[:, None])
