"""The photoreal engine: batches of many live sessions on one GPU, and the same on a CPU, slowly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.ditto.audio.hubert import FEATURES, WINDOW_ROWS, OnnxHubert, SpeechEncoder
from models.ditto.files import SPEECH_ENCODER, read_sizes, require_files
from models.ditto.identity import DittoIdentity, build_identity
from models.ditto.motion.actor import DittoActor, DittoPose
from models.ditto.motion.key_points import POINTS
from models.ditto.motion.motion_generator import MotionGenerator
from models.ditto.motion.motion_windows import CHANNELS, EMOTIONS
from models.ditto.networks.compiled import (
    BATCHES,
    fixed_batches,
    painter,
    rendering_dtype,
    window_sampler,
)
from models.ditto.networks.diffusion import ROWS, DdimSampler
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.render.renderer import Renderer
from models.ditto.weights.config import CONFIG_JSON, read_config
from models.engine import Canvas
from models.face import FaceAnalyzer, default_analyzer, frame_portrait, inspect_portrait

CONDITION = FEATURES + EMOTIONS + 2 + 6 + 3 * POINTS
"""Width of what the motion model is told of a frame: 1103."""
GPU_BATCH = 16
"""Faces, and windows of motion, that are worked on together on a GPU."""


class DittoEngine:
    """Implements ``models.engine.MotionBatchEngine``. Used by one thread at a time, but for
    ``prepare``, which may run beside.

    Weights are shared by all sessions. A session keeps about 2 MB: on the host the features of two
    windows of speech and what it performed in the last 10 s (1.2 MB), on the device its noise
    (0.8 MB). An identity keeps 8.4 MB on a GPU at 640x480, 12.6 on a CPU, shared by its sessions.
    """

    name = "ditto"

    def __init__(
        self,
        networks: DittoNetworks,
        encoder: SpeechEncoder,
        device: str | torch.device = "cpu",
        analyzer: FaceAnalyzer | None = None,
        liveliness: float = 1.0,
        *,
        overlap: int = 75,
        steps: int = 10,
        clip: tuple[torch.Tensor, torch.Tensor] | None = None,
        compile: bool = True,
    ) -> None:
        """An engine of networks at hand; :meth:`load` takes the released ones.

        Args:
            networks: on ``device``. Those that render are prepared for it in place: no file can be
                loaded into them any more.
            encoder: of speech.
            device: a torch device.
            analyzer: finds the face; default: MediaPipe's. It must answer with its mesh.
            liveliness: how much head and eyes move by themselves: 0 still, 1 natural, 1.5 restless.
            overlap: rows that windows of motion share, 75 or 70. With 70 speech begins 200 ms
                later, for half of the diffusion model's work.
            steps: of the diffusion sampler.
            clip: smallest and largest value of each channel of motion, (265,) each.
            compile: on a GPU, let torch write kernels of its own, which takes minutes; without it
                graphs of the common ones are recorded.
        """
        self.device = torch.device(device)
        cuda = self.device.type == "cuda"
        self.preferred_batch = GPU_BATCH if cuda else 1
        self.motion_batch = GPU_BATCH if cuda else 4
        self.liveliness = liveliness
        self.lookahead_s = (80 - overlap - 1) * 0.04 + 0.085
        self._networks = networks
        self._analyzer = analyzer or default_analyzer()
        self._volume_dtype = rendering_dtype(self.device)
        sampler = DdimSampler(steps, self.device)
        render = painter(networks)

        def paint(
            volume: torch.Tensor, source: torch.Tensor, driving: torch.Tensor
        ) -> torch.Tensor:
            return render(volume, source, networks.stitch(source, driving))

        sizes = tuple(size for size in BATCHES if size <= GPU_BATCH)
        paint_batch = fixed_batches(paint, self.device, sizes, compile)
        sample_batch = fixed_batches(
            window_sampler(networks.lmdm, sampler), self.device, sizes, compile
        )
        sample_batch.warm(*_nothing_heard(steps))
        paint_batch.warm(*_nothing_seen(networks.sizes, self._volume_dtype))
        self._generator = MotionGenerator(
            encoder,
            sample_batch,
            sampler,
            self.device,
            overlap=overlap,
            clip=clip,
            batch=self.motion_batch,
            encoder_batches=sizes if cuda else None,
        )
        self._renderer = Renderer(paint_batch, self.device, self.preferred_batch)

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        device: str | torch.device = "cpu",
        analyzer: FaceAnalyzer | None = None,
        liveliness: float = 1.0,
        *,
        compile: bool = True,
    ) -> DittoEngine:
        """The released networks.

        Args:
            folder: of their files; default: ``models.ditto.files.model_folder()``.
            device: a torch device, for all of them.
            analyzer: finds the face; default: MediaPipe's.
            liveliness: how much head and eyes move by themselves.
            compile: see the class.

        Raises:
            WeightsError: a file is missing or is not what it should be; names it and what fetches
                it.
            HubertError: the speech network cannot be run.
            models.assets.AssetError: a file of the face models cannot be had.
        """
        place = require_files(folder)
        analyzer = analyzer or default_analyzer()
        networks = DittoNetworks.load(place, device, read_sizes(place))
        encoder = OnnxHubert(place / SPEECH_ENCODER, str(device))
        limits = read_config(place).clip if (place / CONFIG_JSON).is_file() else None
        clip = (torch.from_numpy(limits[0]), torch.from_numpy(limits[1])) if limits else None
        return cls(networks, encoder, device, analyzer, liveliness, clip=clip, compile=compile)

    @classmethod
    def random(
        cls,
        device: str | torch.device = "cpu",
        sizes: DittoSizes | None = None,
        analyzer: FaceAnalyzer | None = None,
    ) -> DittoEngine:
        """Networks of random weights and an encoder that only repeats what is loud: as fast as the
        real ones but for the speech network, and of no use to look at."""
        return cls(DittoNetworks.build(sizes, device), loudness_encoder, device, analyzer)

    @property
    def memory_per_session_mb(self) -> float:
        """Memory of a session on the device in 10^6 bytes, beside the weights and its identity."""
        return (
            sum(
                tensor.numel() * tensor.element_size()
                for tensor in (self._generator.noise(0).fixed,)
            )
            / 1e6
        )

    def prepare(self, portrait: np.ndarray, canvas: Canvas) -> DittoIdentity:
        """Check, find and frame the face of ``portrait`` (uint8 RGB, (height, width, 3)).

        Raises:
            models.face.PortraitError: the photo cannot be used; says why and what to send.
        """
        face = inspect_portrait(portrait, self._analyzer).face
        framed = frame_portrait(portrait, face, canvas)
        return build_identity(framed, self._networks, self.device, self._volume_dtype)

    def actor(self, identity: DittoIdentity, seed: int = 0) -> DittoActor:
        """The actor of one session. The same seed gives the same idle motion."""
        return DittoActor(identity, self._generator, seed, self.liveliness)

    def generate_motion(self, actors: Sequence[DittoActor]) -> None:
        """One window of motion further for each of ``actors``, in batches."""
        self._generator.generate(actors)

    def render(self, poses: Sequence[DittoPose]) -> list[np.ndarray]:
        """One tightly packed I420 picture per pose: uint8, shape ``canvas.i420_shape``."""
        return self._renderer.render(poses)


def _nothing_heard(steps: int) -> tuple[torch.Tensor, ...]:
    """What the sampler is called with: one window of nothing."""
    return (
        torch.zeros(1, ROWS, CHANNELS),
        torch.zeros(1, CHANNELS),
        torch.zeros(1, ROWS, CONDITION),
        torch.zeros(1, steps - 1, ROWS, CHANNELS),
    )


def _nothing_seen(sizes: DittoSizes, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What the painter is called with: one face that is not there."""
    side = sizes.image // 4
    points = torch.zeros(1, POINTS, 3)
    return torch.zeros(1, sizes.channels, sizes.depth, side, side, dtype=dtype), points, points


def loudness_encoder(windows: np.ndarray) -> np.ndarray:
    """A ``SpeechEncoder`` that hears only how loud it is: float32 (n, 6480) to (n, 20, 1024)."""
    rows = np.lib.stride_tricks.sliding_window_view(windows, 400, 1)[:, ::320][:, :WINDOW_ROWS]
    level = np.sqrt(np.square(rows).mean(-1))
    return np.repeat(level[:, :, None], FEATURES, 2).astype(np.float32)
