"""The six networks together: built small for tests, or at full size from the released files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from models.ditto.networks.appearance import AppearanceExtractor
from models.ditto.networks.decoder import Decoder
from models.ditto.networks.lmdm import MotionDenoiser
from models.ditto.networks.motion_extractor import MotionExtractor
from models.ditto.networks.stitch import StitchNetwork
from models.ditto.networks.warp import WarpNetwork
from models.ditto.weights.reader import load_weights


@dataclass(frozen=True)
class DittoSizes:
    """Widths and depths. The defaults are those of the released weights.

    What flows between the networks and through the pipeline (21 key points, motions of 265 values,
    conditions of 1103, windows of 80 frames) is the same at every size.
    """

    image: int = 256
    """Side of the picture that appearance and motion look at. A rendered face is twice that."""

    width: int = 64
    """First width of appearance; its last is four times that, and the feature map's too."""
    channels: int = 32
    depth: int = 16
    resblocks: int = 6

    motion_depths: tuple[int, ...] = (3, 3, 9, 3)
    motion_widths: tuple[int, ...] = (96, 192, 384, 768)

    hourglass_down: tuple[int, ...] = (64, 128, 256, 512, 1024)
    hourglass_up: tuple[int, ...] = (512, 256, 128, 64, 32)
    compressed: int = 4
    mask_kernel: int = 7

    decoder_width: int = 512
    decoder_blocks: int = 6
    decoder_hidden: int = 128
    decoder_up: tuple[int, int] = (256, 64)

    stitch_widths: tuple[int, ...] = (128, 128, 64)

    denoiser_width: int = 512
    denoiser_heads: int = 8
    denoiser_feedforward: int = 1024
    denoiser_layers: int = 8
    denoiser_encoder_layers: int = 2

    @property
    def picture(self) -> int:
        """Side of the rendered face in pixels."""
        return 2 * self.image

    @classmethod
    def official(cls) -> DittoSizes:
        """Of the released weights."""
        return cls()

    @classmethod
    def tiny(cls) -> DittoSizes:
        """The same interfaces in some milliseconds a frame on a CPU; renders 128×128."""
        return cls(
            image=64,
            width=4,
            channels=4,
            depth=2,
            resblocks=1,
            motion_depths=(1, 1, 1, 1),
            motion_widths=(8, 8, 16, 16),
            hourglass_down=(4, 4),
            hourglass_up=(4, 4),
            compressed=1,
            mask_kernel=1,
            decoder_width=16,
            decoder_blocks=1,
            decoder_hidden=8,
            decoder_up=(8, 8),
            stitch_widths=(16,),
            denoiser_width=32,
            denoiser_heads=2,
            denoiser_feedforward=32,
            denoiser_layers=1,
            denoiser_encoder_layers=1,
        )


@dataclass(frozen=True)
class DittoNetworks:
    """The networks, in eval mode and without gradients. Weights are shared by all sessions."""

    appearance: AppearanceExtractor
    motion: MotionExtractor
    warp: WarpNetwork
    decoder: Decoder
    stitch: StitchNetwork
    lmdm: MotionDenoiser
    sizes: DittoSizes = field(default_factory=DittoSizes)

    @classmethod
    def build(
        cls, sizes: DittoSizes | None = None, device: str | torch.device = "cpu"
    ) -> DittoNetworks:
        """Fresh networks of random weights, drawn from torch's global generator, float32.

        With the official sizes they are as fast and as large as trained ones, and paint noise.
        """
        s = sizes or DittoSizes.official()
        with torch.device(device):
            networks = cls(
                appearance=AppearanceExtractor(s.width, s.channels, s.depth, s.resblocks),
                motion=MotionExtractor(s.motion_depths, s.motion_widths),
                warp=WarpNetwork(
                    s.channels,
                    s.depth,
                    features=4 * s.width,
                    compressed=s.compressed,
                    encoder=s.hourglass_down,
                    decoder=s.hourglass_up,
                    mask_kernel=s.mask_kernel,
                ),
                decoder=Decoder(
                    4 * s.width, s.decoder_width, s.decoder_blocks, s.decoder_hidden, s.decoder_up
                ),
                stitch=StitchNetwork(s.stitch_widths),
                lmdm=MotionDenoiser(
                    width=s.denoiser_width,
                    heads=s.denoiser_heads,
                    feedforward=s.denoiser_feedforward,
                    layers=s.denoiser_layers,
                    encoder_layers=s.denoiser_encoder_layers,
                ),
                sizes=s,
            )
        for _, network in networks:
            network.eval().requires_grad_(False)
        return networks

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        sizes: DittoSizes | None = None,
    ) -> DittoNetworks:
        """The released weights, float32, spectral norm folded.

        Args:
            folder: holds the ``.pth`` files that ``models.ditto.weights.reader.FILES`` names.
            device: where to put them.
            sizes: of the networks in the files; the official ones unless told otherwise.

        Raises:
            WeightsError: a file is missing or is not what it should be.
        """
        networks = cls.build(sizes, device)
        for name, network in networks:
            load_weights(network, name, folder)
        networks.decoder.fold_spectral_norm()
        return networks

    def channels_last(self) -> None:
        """Lay the weights of the convolutions out as tensor cores read them. Inputs follow: what a
        convolution gets in this layout it gives back in this layout."""
        for _, network in self:
            for weight in network.parameters():
                if weight.dim() == 4:
                    weight.data = weight.data.to(memory_format=torch.channels_last)
                elif weight.dim() == 5:
                    weight.data = weight.data.to(memory_format=torch.channels_last_3d)

    def __iter__(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and network, by the names that ``models.ditto.weights.reader.FILES`` uses."""
        yield "appearance", self.appearance
        yield "motion", self.motion
        yield "warp", self.warp
        yield "decoder", self.decoder
        yield "stitch", self.stitch
        yield "lmdm", self.lmdm
