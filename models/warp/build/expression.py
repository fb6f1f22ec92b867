"""What each blend shape does to the face: displacements of its points, carried to every place.

Displacements are defined at mesh points, in the frame of the face and in distances of the pupils,
and carried to every place by thin-plate splines. The lips tear the face apart, so there are two
fields: one that follows the upper lip and one that follows the lower; they agree beyond the
corners of the mouth.
"""

from __future__ import annotations

import numpy as np

from models.face import topology
from models.warp.build.anatomy import FaceFrame, smoothstep
from models.warp.build.mouth.lips import COMMISSURE, LipLines
from models.warp.build.spline import ThinPlateSpline
from models.warp.motion.blend_shape import CHIN_SHARE, JAW_DROP, TUCK_APERTURE, BlendShape

UPPER_SHARE, CORNER_DROP = 0.2, 0.2
"""Of an opening of 1: how far the upper lip rises, and how far the corners sink."""
LIP_THINS, LIP_THINS_WIDE = 0.33, 0.5
"""Share of its own thickness that a lip loses to an opening of 1, and to WIDE on top of that."""
TUCK_RAISES, TUCK_OVERLAP = 0.022, 0.012
"""How far the upper lip rises to show the teeth of an f, and how much of their tips the lower lip
covers, units."""
LONG_CHIN = 1.06
"""Height from nose to chin, units, from which on the chin follows an opening in full: shorter
faces would be drawn to a point."""
GAPES, LEAST_GAPE = 0.80, 0.75
"""Width of a mouth, units, from which on it opens as far as asked, and the least share of that:
narrower ones open by their width's share, or they would be holes taller than wide."""
_OPENINGS = [BlendShape.OPEN, BlendShape.WIDE, BlendShape.ROUND_OPEN]
ROUND_THINS = 0.6
"""Share of its own thickness that a lip loses to ROUND_OPEN."""
ROUND_NARROWS, ROUND_EASES = 0.30, 0.38
"""Share of the mouth's width that ROUND takes, and that ROUND_OPEN gives back: a wide mouth cannot
be as narrow as a pursed one."""
ROUND_STRAIGHTENS = 0.4
"""Share of the line of the lips' bow that rounding takes away."""

_SHARED = (
    # Beside the mouth.
    *(57, 287, 186, 410, 43, 273, 212, 432, 216, 436, 202, 422, 214, 434, 92, 322, 106, 335),
    # Cheeks.
    *(205, 425, 50, 280, 36, 266, 207, 427, 187, 411, 147, 376, 123, 352, 192, 416, 213, 433),
    *(138, 367, 135, 364, 210, 430, 118, 347, 101, 330, 117, 346, 215, 435, 169, 394, 170, 395),
    # Chin.
    *(18, 83, 313, 182, 406, 200, 201, 421, 199, 208, 428, 175, 171, 396, 194, 418, 204, 424),
    # Nose and forehead.
    *topology.NOSE_WINGS,
    *topology.NOSE_BRIDGE,
    *(1, 48, 278, 129, 358, 151, 9, 108, 337, 69, 299, 104, 333, 71, 301),
    # Eyes and brows.
    *topology.RIGHT_EYE_UPPER,
    *topology.RIGHT_EYE_LOWER,
    *topology.LEFT_EYE_UPPER,
    *topology.LEFT_EYE_LOWER,
    *topology.RIGHT_BROW_UPPER,
    *topology.RIGHT_BROW_LOWER,
    *topology.LEFT_BROW_UPPER,
    *topology.LEFT_BROW_LOWER,
    *topology.FACE_OVAL,
)
_BESIDE_UPPER_LIP = (167, 393, 164, 165, 391)
_CORNERS = (61, 291)
_EDGE = np.sin(np.linspace(-1.0, 1.0, 19) * np.pi / 2 * 0.96)
"""Places across the mouth, -1 to 1, at which the lips' inner edges are held."""
_FREE_ROW = 0.55
"""Thickness coordinate of the middle row of lip points: 0 at the inner edge, 1 at the outer."""


def opening_profile(across: np.ndarray, roundness: float = 0.0) -> np.ndarray:
    """Gap of the lips over the gap in the middle, at a position across the mouth (-1 to 1).

    ``roundness`` 0 is a lens with pointed corners, as of lips just parted; 1 nearly an ellipse.
    """
    arch = np.clip(1.0 - np.abs(across / COMMISSURE) ** (2.1 + 0.3 * roundness), 0.0, 1.0)
    return arch ** (0.86 - 0.38 * roundness)


class ExpressionFields:
    """The blend shapes of one person."""

    def __init__(
        self, landmarks: np.ndarray, frame: FaceFrame, lips: LipLines, bite: np.ndarray
    ) -> None:
        """Define the displacements at the mesh points.

        Args:
            landmarks: (478, 3), pixels.
            frame: of this face.
            lips: inner edges of the lips in the photo.
            bite: heights of the upper teeth's edge over ``lips.x``, units.
        """
        self._frame = frame
        self._lips = lips
        self._bite = bite
        self._points = frame.to_frame(landmarks)
        middle = np.array(0.0)
        self._thickness = {
            -1: float(lips.upper_at(middle) - self._points[0, 1]),
            0: 0.0,
            1: float(self._points[17, 1] - lips.lower_at(middle)),
        }
        chin = self._points[topology.CHIN, 1] - self._points[topology.NOSE_BASE, 1]
        self._chin_share = CHIN_SHARE * float(np.clip(chin / LONG_CHIN, 0.7, 1.0))
        width = frame.half_width_right + frame.half_width_left
        self._gape = float(np.clip(width / GAPES, LEAST_GAPE, 1.0))
        self._depth = landmarks[:, 2].astype(np.float64) / frame.unit
        self._centre = (self._points[10] + self._points[152]) / 2
        # Nothing moves around the face, beginning close by where the jaw does not reach.
        still = np.array(topology.FACE_OVAL)
        still = still[self._jaw_share(list(topology.FACE_OVAL)) < 0.2]
        oval = self._points[list(topology.FACE_OVAL)]
        self._far = np.concatenate(
            [
                self._centre + (self._points[still] - self._centre) * 1.18,
                self._centre + (oval[::2] - self._centre) * 1.5,
                self._centre + (oval[::2] - self._centre) * 1.9,
            ]
        )
        upper_rows = (
            (topology.LIPS_MIDDLE_UPPER, _FREE_ROW),
            (topology.LIPS_OUTER_UPPER, 1.0),
        )
        lower_rows = (
            (topology.LIPS_MIDDLE_LOWER, _FREE_ROW),
            (topology.LIPS_OUTER_LOWER, 1.0),
        )
        self._upper = self._layer(upper_rows, -1, _BESIDE_UPPER_LIP)
        self._lower = self._layer(lower_rows, 1, ())

    def upper(self, at: np.ndarray) -> np.ndarray:
        """Fields that follow the upper lip at frame positions (m, 2): float32 (shapes, 2, m)."""
        return self._evaluate(self._upper, at)

    def lower(self, at: np.ndarray) -> np.ndarray:
        """Fields that follow the lower lip and the jaw; as :meth:`upper`."""
        return self._evaluate(self._lower, at)

    def whole(self, at: np.ndarray) -> np.ndarray:
        """One field for the whole face; inside the mouth's range it is a compromise."""
        below = smoothstep(-0.12, 0.22, at[:, 1] - self._lips.closed_at(at[:, 0]))
        below = below.astype(np.float32)
        fields = np.zeros((len(BlendShape), 2, len(at)), np.float32)
        for layer, share in ((self._upper, 1 - below), (self._lower, below)):
            counts = share > 0
            fields[..., counts] += self._evaluate(layer, at[counts]) * share[counts]
        return fields

    def _layer(
        self,
        rows: tuple[tuple[tuple[int, ...], float], ...],
        side: int,
        extra: tuple[int, ...],
    ) -> tuple[ThinPlateSpline, np.ndarray]:
        skin = [
            index
            for index in dict.fromkeys(_SHARED + extra)
            # What lies beyond the other lip would tear at this one's side.
            if side * self._points[index, 1] >= 0 or not self._inside(index)
        ]
        moves = dict(zip(skin, self._skin(skin), strict=True))
        for row, thickness in rows:
            for index in row:
                moves[index] = self._lip(self._points[index, 0], thickness, side)
        for index in _CORNERS:
            moves[index] = self._lip(self._points[index, 0], 0.5, 0)
        # The inner edge is where the photo has it, more finely than a mesh knows.
        line = self._lips.upper_at if side < 0 else self._lips.lower_at
        edge_x = self._half_width(_EDGE) * _EDGE
        edge = np.stack([edge_x, line(edge_x)], -1)
        edge_moves = [self._lip(x, 0.0, side) for x in edge_x]
        points = np.concatenate([self._points[list(moves)], edge, self._far])
        far = np.zeros((len(self._far), len(BlendShape), 2))
        values = np.concatenate([np.stack([*moves.values(), *edge_moves]), far])
        spline = ThinPlateSpline(points, smoothing=2e-4)
        return spline, spline.solve(values.reshape(len(points), -1))

    def _inside(self, index: int) -> bool:
        """Whether a point lies straight above or below the mouth."""
        return bool(abs(self._frame.across(self._points[index, 0])) < 0.9) and (
            -1.2 < self._points[index, 1] < 1.0
        )

    def _evaluate(self, layer: tuple[ThinPlateSpline, np.ndarray], at: np.ndarray) -> np.ndarray:
        spline, solution = layer
        # Splines run wild outside their points: fade out between the two outer rings.
        oval = self._points[list(topology.FACE_OVAL)] - self._centre
        angles = np.arctan2(oval[:, 1], oval[:, 0])
        order = np.argsort(angles)
        offset = at - self._centre
        radius = np.interp(
            np.arctan2(offset[:, 1], offset[:, 0]),
            angles[order],
            np.hypot(oval[:, 0], oval[:, 1])[order],
            period=2 * np.pi,
        )
        fade = 1 - smoothstep(1.35, 1.85, np.hypot(offset[:, 0], offset[:, 1]) / radius)
        moves = fade > 0
        values = np.zeros((len(at), solution.shape[1]), np.float32)
        values[moves] = spline(solution, at[moves]) * fade[moves, None].astype(np.float32)
        return values.reshape(len(at), len(BlendShape), 2).transpose(1, 2, 0)

    def _lip(self, x: float, thickness: float, side: int) -> np.ndarray:
        """Displacements (shapes, 2) of a lip point at ``x``, 0 to 1 from its inner edge to the
        outer; ``side`` -1 upper lip, 1 lower, 0 corner."""
        across = float(np.clip(self._frame.across(np.array(x)), -1, 1))
        profile = 0.0 if side == 0 else float(opening_profile(np.array(across)))
        place = np.array(x)
        move = np.zeros((len(BlendShape), 2))
        edge = self._lips.upper_at(place) if side < 0 else self._lips.lower_at(place)
        if side == 0:
            edge = (self._lips.upper_at(place) + self._lips.lower_at(place)) / 2
        move[BlendShape.CLOSE, 1] = (self._lips.closed_at(place) - edge) * (1 - 0.15 * thickness)
        sink = CORNER_DROP * (1 - profile)
        outward = side * thickness * profile
        own = self._thickness[side]
        reach = -UPPER_SHARE if side < 0 else (1 - UPPER_SHARE)
        # An even share of what there is: thin lips never vanish.
        move[BlendShape.OPEN, 1] = sink + reach * profile - LIP_THINS * own * outward
        # The corners come in more than the lips beside them: the outline turns round them.
        move[BlendShape.OPEN, 0] = -0.10 * across * abs(across) ** 2
        move[BlendShape.JAW, 1] = 0.1 * JAW_DROP * abs(across)
        if side > 0:
            move[BlendShape.JAW, 1] += 0.12 * JAW_DROP * thickness * profile
        half = float(self._half_width(x))
        move[BlendShape.SPREAD] = 0.19 * half * across, -0.012 * abs(across) - 0.018 * outward
        # A smile's bow straightens when the lips come forward.
        bow = float(self._lips.closed_at(np.array(0.0)) - self._lips.closed_at(place))
        move[BlendShape.ROUND] = -ROUND_NARROWS * half * across, 0.15 * own * outward
        move[BlendShape.ROUND, 1] += ROUND_STRAIGHTENS * bow
        move[BlendShape.ROUND_OPEN, 0] = ROUND_EASES * half * across
        move[BlendShape.PRESS] = 0.012 * across, -0.034 * outward
        move[BlendShape.TUCK, 1] = (
            -TUCK_RAISES * profile if side < 0 else self._to_teeth(x, profile)
        )
        move[BlendShape.TUCK, 1] -= 0.3 * own * max(outward, 0.0)
        move[BlendShape.SMILE] = 0.055 * across, -0.075 * across * across
        move[BlendShape.FROWN] = -0.01 * across, 0.05 * across * across
        for shape, roundness in ((BlendShape.WIDE, 0.65), (BlendShape.ROUND_OPEN, 0.8)):
            rounder = 0.0 if side == 0 else float(opening_profile(np.array(across), roundness))
            move[shape, 1] = (reach - CORNER_DROP) * (rounder - profile)
        # Stretched lips are thinner, pouting ones are not.
        move[BlendShape.WIDE, 1] -= LIP_THINS_WIDE * own * outward
        move[BlendShape.ROUND_OPEN, 1] -= ROUND_THINS * own * outward
        move[BlendShape.WIDE, 0] = -0.05 * across
        move[_OPENINGS] *= self._gape
        return move

    def _to_teeth(self, x: float, profile: float) -> float:
        """How far the lower lip's edge at ``x`` moves for the tips of the upper teeth to rest on
        it, when TUCK_APERTURE parts the lips."""
        closed = float(self._lips.closed_at(np.array(x)))
        gap = TUCK_APERTURE * self._gape
        opened = closed + gap * (CORNER_DROP * (1 - profile) + (1 - UPPER_SHARE) * profile)
        upper = closed - (UPPER_SHARE * gap + TUCK_RAISES) * profile
        tips = float(np.interp(x, self._lips.x, self._bite)) - TUCK_OVERLAP
        # Teeth longer than that are covered further, not shown by a lower lip.
        return min(max(tips, upper + 0.3 * TUCK_OVERLAP) - opened, 0.0) * profile**0.5

    def _skin(self, indices: list[int]) -> np.ndarray:
        """Displacements (points, shapes, 2) of points of the skin."""
        x, y = self._points[indices].T
        move = np.zeros((len(BlendShape), 2, len(indices)))
        side = np.sign(x)
        corner_x = side * self._half_width(x)
        corner_y = self._lips.closed_at(corner_x)
        distance = np.hypot(x - corner_x, y - corner_y)
        hinge = self._jaw_share(indices)
        near = np.exp(-0.5 * (distance / 0.20) ** 2)
        wide = np.exp(-0.5 * (distance / 0.34) ** 2)
        above = self._above_lip(x, y)
        below = self._below_lip(x, y)
        opened = self._chin_share * hinge
        opened += below * (0.66 - self._chin_share)
        opened -= above * 0.7 * UPPER_SHARE
        opened = opened * (1 - near) + near * CORNER_DROP
        move[BlendShape.OPEN] = -0.10 * side * near, opened
        move[BlendShape.CLOSE, 1] = -0.5 * self._lips.gap * hinge
        move[BlendShape.CLOSE, 1] += self._lips.gap * (0.25 * above - 0.1 * below)
        move[BlendShape.JAW, 1] = JAW_DROP * hinge * (1 - 0.62 * below) * (1 - 0.8 * near)
        lid = smoothstep(-0.75, -0.55, y)
        move[BlendShape.SPREAD] = 0.19 * np.abs(corner_x) * side * near, -0.012 * near
        bow = float(self._lips.closed_at(np.array(0.0))) - corner_y
        round_x = np.abs(corner_x) * side * near
        move[BlendShape.ROUND] = -ROUND_NARROWS * round_x, ROUND_STRAIGHTENS * bow * near
        move[BlendShape.ROUND_OPEN, 0] = ROUND_EASES * round_x
        move[BlendShape.WIDE, 0] = -0.05 * side * near
        move[BlendShape.PRESS] = 0.012 * side * near, -0.012 * below
        move[BlendShape.TUCK, 1] = -0.03 * below - 0.012 * above
        move[BlendShape.SMILE] = 0.055 * side * wide * lid, -0.07 * wide * lid
        move[BlendShape.FROWN, 1] = 0.05 * near
        move[BlendShape.BROW_UP], move[BlendShape.BROW_DOWN] = self._brow(indices)
        move[_OPENINGS] *= self._gape
        return move.transpose(2, 0, 1)

    def _half_width(self, x: np.ndarray | float) -> np.ndarray:
        """From the middle of the mouth to the corner on the side of ``x``, in units."""
        return np.where(
            np.asarray(x) > 0, self._frame.half_width_left, self._frame.half_width_right
        )

    def _jaw_share(self, indices: list[int]) -> np.ndarray:
        """How far points follow the chin: a lever about the ears, below the line to them."""
        x, y = self._points[indices].T
        ears = [topology.EAR_RIGHT, topology.EAR_LEFT]
        # A turned head has one ear nearer than the other: measure from the line between them.
        hinge_x, hinge_z = self._points[ears, 0], self._depth[ears]
        chin = np.interp(self._points[topology.CHIN, 0], hinge_x, hinge_z)
        chin -= self._depth[topology.CHIN]
        here = np.interp(x, hinge_x, hinge_z) - self._depth[indices]
        lever = np.clip(here / max(chin, 0.3) - 0.06, 0.0, 0.94) / 0.94
        half = self._half_width(x)
        ear_x = np.abs(np.where(x > 0, hinge_x[1], hinge_x[0]))
        out = np.clip((np.abs(x) - half) / np.maximum(ear_x - half, 0.1), 0.0, 1.0)
        line = -0.30 * out
        # The chin is one piece of bone: its sides come down with its tip.
        lever = lever * (1.35 - 0.35 * lever)
        return np.asarray(lever * smoothstep(line - 0.25, line + 0.40, y))

    def _above_lip(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """1 at the upper lip's outer edge, 0 at the nose, between the corners only."""
        edge = self._points[0, 1]
        nose = self._points[topology.NOSE_BASE, 1]
        share = np.where(y < edge, smoothstep(nose, edge, y), 0.0)
        return share * opening_profile(np.clip(self._frame.across(x), -1, 1))

    def _below_lip(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """1 at the lower lip's outer edge, 0 halfway to the chin's tip, between the corners."""
        edge = self._points[17, 1]
        chin = self._points[topology.CHIN, 1]
        share = 1 - smoothstep(edge, edge + 0.6 * (chin - edge), y)
        share *= smoothstep(edge - 0.15, edge, y)
        return share * opening_profile(np.clip(self._frame.across(x), -1, 1))

    def _brow(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (2, points) for a raised and for a lowered brow."""
        x, y = self._points[indices].T
        uppers = topology.RIGHT_BROW_UPPER + topology.LEFT_BROW_UPPER
        brows = topology.RIGHT_BROW_LOWER + topology.LEFT_BROW_LOWER + uppers
        inner = np.exp(-((x / 0.35) ** 2))
        zero = np.zeros_like(x)
        up = np.stack([zero, -0.075 + 0.02 * inner])
        down = np.stack([-0.02 * np.sign(x) * inner, zero + 0.05])
        # The forehead goes along, the less the higher.
        line = float(self._points[list(uppers), 1].mean())
        near = np.where(
            (y < line) & ~np.isin(indices, topology.FACE_OVAL), np.exp(-(line - y) / 0.35), 0.0
        )
        is_brow = np.isin(indices, brows)
        return (
            np.where(is_brow, up, np.stack([zero, -0.05 * near])),
            np.where(is_brow, down, np.stack([zero, 0.03 * near])),
        )
