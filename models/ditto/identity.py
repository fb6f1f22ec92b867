"""Everything of a person that depends on the photo alone, computed once.

The released pipeline finds its crop with landmarks of its own: 203 points that reach from the brows
down to the chin and from ear to ear. We have MediaPipe's mesh of 478 points and take from it the
points of the same parts. What counts is only the box around them, so that the points that bound it
decide: brows, jaw line and ears. The forehead is left out, as the 203 points have none; with it the
square would be a fifth larger than what the networks were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import torch

from models.ditto.motion import eyes
from models.ditto.motion.key_points import Source
from models.ditto.motion.motion_windows import Condition, emotion, motion_row
from models.ditto.networks.ditto_networks import DittoNetworks
from models.ditto.networks.motion_extractor import Motion
from models.ditto.render.crop import STAGE_B, Crop, crop_square, network_picture
from models.ditto.render.paste_back import Placement
from models.engine import Canvas
from models.face import FramedPortrait, topology

NEUTRAL = 4
"""The emotion of ``motion_windows.emotion`` that a person performs in unless told otherwise."""

BOX_POINTS = tuple(
    dict.fromkeys(
        topology.JAW_LINE
        + topology.RIGHT_BROW_UPPER
        + topology.LEFT_BROW_UPPER
        + topology.RIGHT_EYE_UPPER
        + topology.RIGHT_EYE_LOWER
        + topology.LEFT_EYE_UPPER
        + topology.LEFT_EYE_LOWER
        + topology.NOSE_BRIDGE
        + topology.NOSE_WINGS
        + topology.LIPS_OUTER_UPPER
        + topology.LIPS_OUTER_LOWER
    )
)
"""Points of the mesh that the square must hold: brows, eyes, nose, lips, and the jaw from ear to
ear."""
# As of the 203 points: corners of each eye and middle of its lids; corners of the mouth.
_EYES = ((33, 159, 133, 145), (263, 386, 362, 374))
_MOUTH = (topology.MOUTH_CORNER_RIGHT, topology.MOUTH_CORNER_LEFT)


@dataclass(frozen=True)
class DittoIdentity:
    """A prepared avatar. What the renderer reads lies on the engine's device; what motion is worked
    out from, a few kilobytes, on the host."""

    canvas: Canvas
    volume: torch.Tensor
    """What the person looks like: (channels, depth, height, width), on the device."""
    points: torch.Tensor
    """Key points of the photo: float32 (21, 3), on the device."""
    placement: Placement
    """Where the rendered face goes, on the device."""
    source: Source
    """The photo's pose and expression, on the host."""
    reference: torch.Tensor
    """The same as a row of motion: float32 (265,), on the host."""
    condition: Condition
    """What the motion model is told besides the speech, on the host."""

    @property
    def nbytes(self) -> int:
        """Memory of the identity in bytes. At 640x480 with the released networks: 8.4 MB for the
        volume in float32, half of that in 16 bits, and 4.1 MB for the picture."""
        return _count(self)

    @property
    def device(self) -> torch.device:
        """Where it is rendered."""
        return self.volume.device


def _count(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Motion):
        return sum(map(_count, value))
    if is_dataclass(value):
        return sum(_count(getattr(value, field.name)) for field in fields(value))
    return 0


def face_crop(mesh: np.ndarray) -> Crop:
    """The square of a face that is rendered and pasted back.

    Args:
        mesh: float32 (478, 3), pixels.
    """
    points = np.asarray(mesh[:, :2], np.float32)
    eye_line = np.stack([points[list(eye)].mean(0) for eye in _EYES]).mean(0)
    axis = np.stack([eye_line, points[list(_MOUTH)].mean(0)])
    return crop_square(points[list(BOX_POINTS)], STAGE_B, axis)


def in_crop(mesh: np.ndarray, crop: Crop) -> np.ndarray:
    """A mesh as seen in the crop, its side 1: float32 (1, 478, 3). Depth is scaled alike, as if the
    mesh had been found in the crop."""
    zoom = float(np.hypot(*crop.to_crop[:2, 0]))
    flat = mesh[:, :2] @ crop.to_crop[:2, :2].T + crop.to_crop[:2, 2]
    placed = np.concatenate([flat, mesh[:, 2:] * zoom], 1) / crop.side
    return placed[None].astype(np.float32)


@torch.inference_mode()
def build_identity(
    framed: FramedPortrait,
    networks: DittoNetworks,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DittoIdentity:
    """Prepare the person of a framed portrait.

    Args:
        framed: picture and mesh at the canvas's size, even sides.
        networks: on ``device``; appearance and motion extractor run, once.
        device: where it will be rendered.
        dtype: of the volume.

    Raises:
        ValueError: the face was not found with the mesh of 478 points.
    """
    mesh = framed.landmarks
    if mesh.shape != (topology.LANDMARKS, 3):
        raise ValueError(f"the ditto engine needs a mesh of 478 points, not {mesh.shape}")
    height, width = framed.rgb.shape[:2]
    crop = face_crop(mesh)
    picture = network_picture(crop.cut(framed.rgb), networks.sizes.image)
    image = torch.from_numpy(picture).to(device)
    volume = networks.appearance(image)[0].to(dtype)
    motion = Motion(*(part.float().cpu() for part in networks.motion(image)))
    source = Source.of(motion)
    seen = in_crop(mesh, crop)
    return DittoIdentity(
        canvas=Canvas(width, height),
        volume=volume,
        points=source.points[0].to(device),
        placement=Placement.of(framed.rgb, crop.to_picture, device),
        source=source,
        reference=motion_row(motion)[0],
        condition=Condition(
            emotion=emotion(NEUTRAL)[None],
            eye_open=torch.from_numpy(eyes.openness(seen).astype(np.float32)),
            eye_ball=torch.from_numpy(eyes.gaze(seen).astype(np.float32)),
            canonical=motion.kp[0],
        ),
    )
