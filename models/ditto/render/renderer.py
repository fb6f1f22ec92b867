"""Poses of many sessions and identities to pictures: one batch, from key points to I420."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.ditto.motion.actor import DittoPose
from models.ditto.render.paste_back import Paster
from models.engine import Canvas

Painter = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``paint(volume, kp_source, kp_driving) -> faces``: stitching, warp and decoder; volume
(B, C, D, h, w), key points float32 (B, 21, 3), not stitched; faces (B, 3, side, side), 0 to 1."""


class Renderer:
    """Renders on one device. Thread-safe: it holds constants only.

    Args:
        paint: the networks.
        device: theirs.
        batch: poses that go through them together.
    """

    def __init__(self, paint: Painter, device: str | torch.device = "cpu", batch: int = 16) -> None:
        self._paint = paint
        self._device = torch.device(device)
        self._batch = batch
        self._paster = Paster(device)

    def render(self, poses: Sequence[DittoPose]) -> list[np.ndarray]:
        """One tightly packed I420 picture per pose: uint8, shape ``canvas.i420_shape``. Poses may
        be of any sessions, identities and sizes of picture."""
        pictures: list[np.ndarray | None] = [None] * len(poses)
        sizes: dict[Canvas, list[int]] = {}
        for i, pose in enumerate(poses):
            sizes.setdefault(pose.identity.canvas, []).append(i)
        # Faces are painted together whatever picture they go into, pasted by size of picture.
        for first in range(0, len(poses), self._batch):
            chunk = range(first, min(first + self._batch, len(poses)))
            faces = self.faces([poses[i] for i in chunk])
            waiting = []
            for places in sizes.values():
                mine = [i for i in places if i in chunk]
                if mine:
                    own = faces if len(mine) == len(chunk) else faces[[i - first for i in mine]]
                    placements = [poses[i].identity.placement for i in mine]
                    waiting.append((mine, self._paster.paste(own, placements)))
            # Copies wait until everything has been launched.
            for mine, pasted in waiting:
                for i, picture in zip(mine, pasted.cpu().numpy(), strict=True):
                    pictures[i] = picture
        return [picture for picture in pictures if picture is not None]

    @torch.inference_mode()
    def faces(self, poses: Sequence[DittoPose]) -> torch.Tensor:
        """The faces alone: (B, 3, side, side), 0 to 1, on the device."""
        driving = torch.stack([pose.points for pose in poses])
        if self._device.type == "cuda":
            driving = driving.pin_memory()  # the copy then waits for nothing
        return self._paint(
            torch.stack([pose.identity.volume for pose in poses]),
            torch.stack([pose.identity.points for pose in poses]),
            driving.to(self._device, non_blocking=True),
        )
