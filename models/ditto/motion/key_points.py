"""Rows of motion to key points: the person's own pose and expression, moved by what is performed.

Motion is relative: what a frame differs from the session's first row is added to what the photo
shows. Of the expression only the lips follow freely. The 21 key points are implicit: nobody named
them when they were trained, and what each moves was found by trying.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

from models.ditto.motion.motion_windows import EXPRESSION, PITCH, ROLL, SHIFT, YAW

if TYPE_CHECKING:
    from models.ditto.networks.motion_extractor import Motion

POINTS = 21
LIPS = (6, 12, 14, 17, 19, 20)
"""Key points that move the lips."""
EYES = (11, 13, 15, 16, 18)
"""Key points that move lids and eyeballs."""
BROWS_AND_CHEEKS = tuple(k for k in range(POINTS) if k not in LIPS and k not in EYES)
"""All the others. Uncertain: people who edit faces with these key points move 1 and 2 to raise the
brows, and 3 and 7 in a smile; of 0, 4, 5, 8, 9 and 10 we know no more than that the released
pipeline holds them still. Some may move the head's outline, so drive them gently."""

Angle = float | torch.Tensor
"""A number for all frames, or one per frame, (n,)."""


def degrees(logits: torch.Tensor) -> torch.Tensor:
    """Angle that 66 bins of 3 degrees expect: (..., 66) logits to (...) degrees, -97.5 to 97.5."""
    bins = torch.arange(66, dtype=logits.dtype, device=logits.device)
    return logits.softmax(-1) @ bins * 3 - 97.5


def rotation(angles: torch.Tensor) -> torch.Tensor:
    """Rotation of row vectors: (..., 3) pitch, yaw, roll in degrees to (..., 3, 3).

    The transpose of Rz(roll) Ry(yaw) Rx(pitch), all right-handed.
    """
    (cx, cy, cz), (sx, sy, sz) = (
        part.unbind(-1) for part in (torch.deg2rad(angles).cos(), torch.deg2rad(angles).sin())
    )
    columns = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(column, -1) for column in columns], -1)


@dataclass(frozen=True)
class Face:
    """Poses and expressions of n frames, all of float32 on one device."""

    expression: torch.Tensor
    """(n, 63)"""
    angles: torch.Tensor
    """(n, 3): pitch, yaw, roll in degrees."""
    shift: torch.Tensor
    """(n, 3)"""


@dataclass(frozen=True)
class Source:
    """What the photo shows, converted once per identity."""

    motion: Motion
    """As the motion extractor saw it, n = 1."""
    face: Face
    """The same as pose and expression, n = 1."""

    @classmethod
    def of(cls, motion: Motion) -> Source:
        """Of a photo's motion."""
        angles = degrees(torch.stack([motion.pitch, motion.yaw, motion.roll], 1))
        return cls(motion, Face(motion.exp, angles, motion.t))

    @property
    def points(self) -> torch.Tensor:
        """Key points of the photo: (1, 21, 3)."""
        return self.place(self.face)

    def place(self, face: Face) -> torch.Tensor:
        """Key points of frames of this person: (n, 21, 3), before stitching."""
        kp = self.motion.kp.unflatten(-1, (POINTS, 3))
        turned = kp @ rotation(face.angles) + face.expression.unflatten(-1, (POINTS, 3))
        placed = self.motion.scale[..., None] * turned
        return torch.cat([placed[..., :2] + face.shift[:, None, :2], placed[..., 2:]], -1)


@dataclass(frozen=True)
class Retargeting:
    """How performed motion is carried over to a person. The defaults are the released ones."""

    gain: float = 1.0
    """Of expression and angles: the scale of the face the performance was made for over the
    scale of this one."""
    head_gain: float = 1.0
    """How far the head turns and shifts with the performance: 0 not at all. 1 is as released."""
    brow_gain: float = 0.0
    """How far brows and cheeks follow: 0, as released, keeps them as in the photo."""
    relative: bool = True
    """Without it the performed motion is taken as it is."""

    def __post_init__(self) -> None:
        if not 0 <= self.brow_gain <= 1:
            raise ValueError(f"brow_gain must lie between 0 and 1, not {self.brow_gain}")
        if self.head_gain < 0:
            raise ValueError(f"head_gain must not be negative, not {self.head_gain}")


def retarget(
    source: Source,
    rows: torch.Tensor,
    zero: torch.Tensor,
    how: Retargeting = Retargeting(),
    *,
    eyes: torch.Tensor | None = None,
    delta: tuple[Angle | None, Angle | None, Angle | None] = (None, None, None),
    alpha: tuple[Angle | None, Angle | None, Angle | None] = (None, None, None),
    mouth: torch.Tensor | None = None,
    vad: torch.Tensor | None = None,
) -> Face:
    """What frames of a person look like that perform rows of motion.

    Args:
        source: the person.
        rows: motion, (n, 265).
        zero: the motion that means "as in the photo", (265,).
        how: gains.
        eyes: what the eye points' expression differs from the photo's, (n, 63); without it they
            follow the performance.
        delta: degrees added to pitch, yaw and roll.
        alpha: factors of pitch, yaw and roll, after ``delta``. Where there is no delta, of the
            logits, as released: a smaller factor then means an angle closer to the middle.
        mouth: how far the lips follow, (n,), 0 (the photo's lips) to 1.
        vad: how far the whole expression follows, (n,); 1 and more is all the way.
    """
    still, performed, photo = zero[None], rows, source.motion

    def carried(of: slice, own: torch.Tensor, gain: float) -> torch.Tensor:
        if not how.relative:
            return performed[:, of] * gain
        return own + (performed[:, of] - still[:, of]) * gain

    driven = carried(EXPRESSION, photo.exp, how.gain)
    shift = carried(SHIFT, photo.t, 1.0)
    angles = []
    for i, (of, own) in enumerate(((PITCH, photo.pitch), (YAW, photo.yaw), (ROLL, photo.roll))):
        logits = carried(of, own, how.gain)
        add, factor = delta[i], alpha[i]
        if add is None and factor is not None:
            logits = logits * _per_frame(factor, logits)
        angle = degrees(logits)
        if add is not None:
            angle = angle + add
            angle = angle if factor is None else angle * factor
        angles.append(angle)
    turned = torch.stack(angles, -1)
    if how.head_gain != 1:
        turned = source.face.angles + (turned - source.face.angles) * how.head_gain
        shift = photo.t + (shift - photo.t) * how.head_gain

    # How far each of the 63 values follows: a (n, 63) mask, made of numbers only, no branches.
    follow = _weights(driven, LIPS, 1.0 if mouth is None else mouth)
    follow = follow + _weights(driven, BROWS_AND_CHEEKS, how.brow_gain)
    if eyes is None:
        follow = follow + _weights(driven, EYES, 1.0)
    expression = torch.lerp(photo.exp.expand_as(driven), driven, follow)
    if eyes is not None:
        expression = expression + eyes * _weights(driven, EYES, 1.0)
    if vad is not None:
        share = vad.clamp(max=1)[:, None].to(expression)
        expression = expression * share + photo.exp * (1 - share)
    return Face(expression, turned, shift)


def _per_frame(value: Angle, like: torch.Tensor) -> Angle:
    return value[:, None].to(like) if isinstance(value, torch.Tensor) else value


def _weights(
    like: torch.Tensor, points: tuple[int, ...], weight: float | torch.Tensor
) -> torch.Tensor:
    """(n or 1, 63): ``weight`` (a number, or one per frame) at the values of ``points``."""
    mask = _mask(points, like.dtype, like.device)
    return mask * (weight[:, None].to(like) if isinstance(weight, torch.Tensor) else weight)


@cache
def _mask(points: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(1, 63): 1 at the values of ``points``. Kept, so that it is copied to a device once."""
    mask = torch.zeros(POINTS, 3)
    mask[list(points)] = 1
    return mask.reshape(1, -1).to(device, dtype)


def fade(face: Face, target: torch.Tensor, share: torch.Tensor) -> Face:
    """The expression on its way from ``target``, (1, 63) (share 0), to the face's own (1): (n,)."""
    part = share[:, None].to(face.expression)
    return replace(face, expression=face.expression * part + target * (1 - part))


_GAZE_STEP = {"x": 0.26, "y": 0.28}
"""Degrees the eyes turn back for a degree of the head, so that they stay on the viewer."""


def hold_gaze(face: Face, source: Source) -> Face:
    """The eyes turned against the head, so that they keep looking where they look in the photo."""
    turn = face.angles - source.face.angles
    return look(face, _GAZE_STEP["x"] * turn[:, 1], _GAZE_STEP["y"] * turn[:, 0])


def look(face: Face, x: torch.Tensor, y: torch.Tensor) -> Face:
    """The eyes turned by degrees (n,): ``x`` as the yaw, ``y`` as the pitch of a head counts.

    The eye on the side looked away from travels further.
    """
    wide, narrow = x * 0.001, x * 0.0007
    right = x > 0
    zero = torch.zeros_like(x)
    moved = {
        33: torch.where(right, narrow, wide),
        45: torch.where(right, wide, narrow),
        34: y * -0.001,
        46: y * -0.001,
    }
    change = torch.stack([moved.get(i, zero) for i in range(3 * POINTS)], -1)
    return replace(face, expression=face.expression + change)


FadeTarget = Literal["source", "first"]


def released_points(
    source: Source,
    rows: torch.Tensor,
    zero: torch.Tensor | None,
    how: Retargeting = Retargeting(),
    *,
    fade_to: FadeTarget = "source",
    fade_share: torch.Tensor | None = None,
    eyes: torch.Tensor | None = None,
    delta: tuple[Angle | None, Angle | None, Angle | None] = (None, None, None),
    alpha: tuple[Angle | None, Angle | None, Angle | None] = (None, None, None),
    vad: torch.Tensor | None = None,
) -> tuple[Face, torch.Tensor]:
    """All steps in the released pipeline's order: the faces and their points before stitching.

    Args:
        source: the person.
        rows: motion, (n, 265).
        zero: the motion that means "as in the photo", (265,); None: the first of ``rows``.
        how: gains.
        fade_to: where a fade begins: the photo's expression, or the first row's.
        fade_share: how far the expression is its own, (n,); None: no fade.
        eyes: see :func:`retarget`, as are the others.
        delta: of the angles.
        alpha: of the angles.
        vad: of the expression.

    Returns:
        the faces, and their key points, (n, 21, 3).
    """
    zero = rows[0] if zero is None else zero
    face = retarget(source, rows, zero, how, eyes=eyes, delta=delta, alpha=alpha, vad=vad)
    if fade_share is not None:
        target = source.face.expression if fade_to == "source" else face.expression[:1]
        face = fade(face, target, fade_share)
    face = hold_gaze(face, source)
    return face, source.place(face)
