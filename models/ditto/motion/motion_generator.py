"""Speech to motion, for many sessions at once: the heavy networks behind the actors.

A session needs one call of the speech network and one window of the diffusion model for every 200
ms of speech. Alone, each would cost nearly as much time as a batch of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.ditto.audio.hubert import SpeechEncoder
from models.ditto.audio.speech_windows import WINDOW, features, silence_windows
from models.ditto.motion.motion_windows import CHANNELS, ROWS
from models.ditto.networks.diffusion import DdimSampler, SessionNoise

if TYPE_CHECKING:
    from models.ditto.motion.actor import DittoActor

WindowSampler = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``sample(x, start, condition, noise) -> motion``: x (B, 80, 265), start (B, 265), condition
(B, 80, 1103), noise (B, steps - 1, 80, 265), all float32 on the device; motion like x."""


class MotionGenerator:
    """Encodes speech and generates motion for many actors. Keeps no state of a session: its actor
    does. Not thread-safe, as the actors are not.

    Args:
        encoder: of speech.
        sample: the diffusion model with its sampler.
        sampler: whose steps ``sample`` takes.
        device: where ``sample`` runs.
        overlap: rows that windows of motion share: 75 gives a window every 5 frames, 70 every 10.
        eager: see ``MotionWindows``.
        clip: smallest and largest value of each channel of motion, (265,) each.
        batch: sessions that go through the networks together.
        encoder_batches: batch sizes that the encoder is called with, ascending; None: any. A GPU
            library prepares itself again for each new size.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        sample: WindowSampler,
        sampler: DdimSampler,
        device: str | torch.device = "cpu",
        *,
        overlap: int = 75,
        eager: bool = True,
        clip: tuple[torch.Tensor, torch.Tensor] | None = None,
        batch: int = 16,
        encoder_batches: Sequence[int] | None = None,
    ) -> None:
        self.overlap = overlap
        self.step = ROWS - overlap
        """Frames from one window of motion to the next."""
        self.eager = eager
        self.clip = clip
        self.batch = batch
        self._encoder = encoder
        self._sample = sample
        self._sampler = sampler
        self._device = torch.device(device)
        self._encoder_batches = tuple(encoder_batches or ())
        for size in self._encoder_batches:
            encoder(np.zeros((size, WINDOW), np.float32))
        rows = self._features(silence_windows(overlap))
        self.silence = rows.flatten(0, 1)[:overlap].clone()
        """What the encoder makes of silence: (overlap, 1024), on the host."""

    def noise(self, seed: int) -> SessionNoise:
        """The random numbers of a session, 0.8 MB, on the device."""
        return self._sampler.noise(CHANNELS, seed)

    @torch.inference_mode()
    def generate(self, actors: Sequence[DittoActor]) -> None:
        """One window of motion further for each of the actors that heard enough for it."""
        for first in range(0, len(actors), self.batch):
            self._generate_batch(actors[first : first + self.batch])

    def _generate_batch(self, actors: Sequence[DittoActor]) -> None:
        taken = [actor.speech_windows() for actor in actors]
        flat = [window.samples for windows in taken for window in windows]
        rows = self._features(np.stack(flat)) if flat else torch.empty(0, 5, 1024)
        at, asked = 0, []
        for actor, windows in zip(actors, taken, strict=True):
            own = [rows[at + i, : window.frames] for i, window in enumerate(windows)]
            at += len(windows)
            request = actor.attend(own)
            if request is not None:
                asked.append((actor, request))
        if not asked:
            return
        start = torch.stack([request.start for _, request in asked]).to(self._device)
        condition = torch.stack([request.condition for _, request in asked]).to(self._device)
        x = torch.stack([actor.noise.start() for actor, _ in asked])
        noise = torch.stack([actor.noise.fixed for actor, _ in asked])
        # The one wait for the device: 85 KB a session come to the host, for 200 ms of motion.
        motion = self._sample(x, start, condition, noise).cpu()
        for (actor, _), rows_of_motion in zip(asked, motion, strict=True):
            actor.accept(rows_of_motion)

    def _features(self, windows: np.ndarray) -> torch.Tensor:
        """Features of the presents of windows: (n, 6480) to (n, 5, 1024), on the host."""
        largest = self._encoder_batches[-1] if self._encoder_batches else len(windows)
        parts = []
        for first in range(0, len(windows), largest):
            part = windows[first : first + largest]
            size = next((s for s in self._encoder_batches if s >= len(part)), len(part))
            padded = np.zeros((size, WINDOW), np.float32)
            padded[: len(part)] = part
            parts.append(self._encoder(padded)[: len(part)])
        return features(torch.from_numpy(np.concatenate(parts)))
