"""The rendered face back into the photo, its rim faded out; on the device, straight to I420.

A photo stands still, so where its face lies is known once: a :class:`Placement` holds that, and
:func:`paste` touches only the pixels the face can reach. Frames of different persons go together.
:func:`composite` is the same on arrays, for one picture: the one to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional

from models.i420 import OFFSET, RGB_TO_YUV, rgb_to_i420

SIDE = 512
"""Pixels of a rendered face."""
_CORE = int(SIDE * 0.9)
_MARGIN = (SIDE - _CORE) // 2


def soft_mask() -> np.ndarray:
    """How much of the rendered face counts: float32 (512, 512), 1 inside, falling to 0 at the rim.

    Straight along the sides, round at the corners.
    """
    ramp = np.linspace(1, 0, _MARGIN)  # from the core outwards
    away = np.concatenate([1 - ramp[::-1], np.zeros(_CORE), 1 - ramp])
    return np.clip(1 - np.hypot(away[:, None], away[None]), 0, 1).astype(np.float32)


def warped(picture: np.ndarray, to_picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A crop laid where it belongs, float32, zero around it: (height, width) or (..., channels)."""
    import cv2  # here only: rendering does without, and so runs where there is torch and no more

    return cv2.warpAffine(
        picture, np.asarray(to_picture)[:2], (width, height), flags=cv2.INTER_LINEAR
    )


def composite(face: np.ndarray, picture: np.ndarray, to_picture: np.ndarray) -> np.ndarray:
    """A rendered face in its picture.

    Args:
        face: float32 (512, 512, 3), 0 to 255.
        picture: uint8 (height, width, 3).
        to_picture: from face to picture, (3, 3) or (2, 3).

    Returns:
        uint8, shape of ``picture``.
    """
    height, width = picture.shape[:2]
    mask = warped(soft_mask(), to_picture, width, height)[..., None]
    mixed = mask * warped(face, to_picture, width, height) + (1 - mask) * picture
    return np.clip(mixed, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """Where one person's face goes in their picture. On the engine's device."""

    picture: torch.Tensor
    """The photo: float32 (3, height, width), 0 to 255."""
    still: torch.Tensor
    """The photo as I420: uint8 (height * 3 / 2, width)."""
    to_face: torch.Tensor
    """From pixels of the picture to pixels of the face: float32 (2, 3)."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom of what the face can reach: even numbers inside the picture."""

    @classmethod
    def of(
        cls, picture: np.ndarray, to_picture: np.ndarray, device: str | torch.device = "cpu"
    ) -> Placement:
        """Place a face in a picture.

        Args:
            picture: uint8 RGB, (height, width, 3), sides even.
            to_picture: from face to picture, (3, 3), as ``Crop.to_picture``.
            device: where frames are pasted.

        Raises:
            ValueError: a side is odd, or the face lies outside the picture.
        """
        height, width = picture.shape[:2]
        still = rgb_to_i420(picture)
        matrix = np.asarray(to_picture, np.float64)
        corners = np.array([[0, 0, 1], [SIDE - 1, 0, 1], [0, SIDE - 1, 1], [SIDE - 1] * 2 + [1]])
        reach = corners @ matrix[:2].T
        # The mask is zero on the rim itself, so nothing beyond it can show.
        low = np.maximum(np.floor(reach.min(0)), 0).astype(int) // 2 * 2
        high = np.minimum(np.ceil(reach.max(0)) + 2, (width, height)).astype(int) // 2 * 2
        if (low >= high).any():
            raise ValueError("the face lies outside its picture")
        inverse = np.linalg.inv(np.vstack([matrix[:2], [0, 0, 1]]))
        return cls(
            picture=torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32)).to(device),
            still=torch.from_numpy(still).to(device),
            to_face=torch.from_numpy(inverse[:2].astype(np.float32)).to(device),
            box=(int(low[0]), int(low[1]), int(high[0]), int(high[1])),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.picture.shape[1:]
        return height, width


class Paster:
    """Pastes batches of rendered faces on one device. Thread-safe: it only holds constants."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._mask = torch.from_numpy(soft_mask()).to(device)[None, None]
        self._to_yuv = torch.from_numpy(RGB_TO_YUV).to(device)
        self._offset = torch.from_numpy(OFFSET).to(device)[None, :, None, None]

    @torch.inference_mode()
    def paste(self, faces: torch.Tensor, placements: Sequence[Placement]) -> torch.Tensor:
        """Pictures with their faces, as I420.

        Args:
            faces: as the decoder renders them, (n, 3, 512, 512), 0 to 1, any float type.
            placements: one per face; the pictures are of one size, the faces anywhere in them.

        Returns:
            uint8 (n, height * 3 / 2, width) on the device.

        Raises:
            ValueError: another number of placements, or pictures of several sizes.
        """
        sizes = {p.size for p in placements}
        if len(placements) != len(faces) or len(sizes) != 1:
            raise ValueError(
                f"{len(faces)} faces need as many placements in pictures of one size, "
                f"not {len(placements)} of sizes {sorted(sizes)}"
            )
        height, width = sizes.pop()
        lefts, tops, box_w, box_h = _common_boxes(placements, width, height)
        device = self._mask.device
        x = torch.stack([torch.arange(v, v + box_w, device=device) for v in lefts])
        y = torch.stack([torch.arange(v, v + box_h, device=device) for v in tops])
        behind = torch.stack(
            [
                p.picture[:, top : top + box_h, left : left + box_w]
                for p, left, top in zip(placements, lefts, tops, strict=True)
            ]
        )
        mixed = self._mixed(faces, torch.stack([p.to_face for p in placements]), x, y, behind)

        yuv = torch.einsum("kc,nchw->nkhw", self._to_yuv, mixed) + self._offset
        luma = _to_bytes(yuv[:, 0])
        chroma = _to_bytes(functional.avg_pool2d(yuv[:, 1:], 2))
        out = torch.stack([p.still for p in placements])
        n = torch.arange(len(placements), device=device)[:, None, None]
        planes = out.flatten(1)
        area = height * width
        planes[:, :area].unflatten(1, (height, width))[n, y[:, :, None], x[:, None]] = luma
        halves = planes[:, area:].unflatten(1, (2, height // 2, width // 2))
        half_y, half_x = y[:, ::2, None] // 2, x[:, None, ::2] // 2
        for plane in (0, 1):
            halves[:, plane][n, half_y, half_x] = chroma[:, plane]
        return out

    def _mixed(
        self,
        faces: torch.Tensor,
        to_face: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        behind: torch.Tensor,
    ) -> torch.Tensor:
        """Faces over what is behind them, whole levels of 0 to 255: float32 (n, 3, h, w).

        ``x`` (n, w) and ``y`` (n, h) say which pixels of the pictures ``behind`` are.
        """
        # Sampling places want float32 whatever the renderer computes in: bf16 knows no pixel 257.
        across, down = x[:, None, :].float(), y[:, :, None].float()
        a = to_face[:, :, :, None, None]
        places = [a[:, row, 0] * across + a[:, row, 1] * down + a[:, row, 2] for row in (0, 1)]
        grid = torch.stack(places, -1) * (2 / (SIDE - 1)) - 1
        face = _sampled(faces.float(), grid)
        mask = _sampled(self._mask.expand(len(faces), -1, -1, -1), grid)
        mixed = mask * (face * 255) + (1 - mask) * behind
        return mixed.clamp(0, 255).floor()


def _sampled(picture: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return functional.grid_sample(picture, grid, padding_mode="zeros", align_corners=True)


def _to_bytes(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _common_boxes(
    placements: Sequence[Placement], width: int, height: int
) -> tuple[list[int], list[int], int, int]:
    """Boxes of one size for all: lefts, tops, width, height. A smaller one grows where there is
    room, for outside the face what is pasted is the picture itself."""
    box_w = max(p.box[2] - p.box[0] for p in placements)
    box_h = max(p.box[3] - p.box[1] for p in placements)
    lefts = [min(p.box[0], width - box_w) for p in placements]
    tops = [min(p.box[1], height - box_h) for p in placements]
    return lefts, tops, box_w, box_h
