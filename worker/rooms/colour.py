"""How the colours of our pictures are meant."""

from __future__ import annotations

from av.video.codeccontext import VideoCodecContext

MPEG_RANGE = 1
"""Luma from 16 to 235, chroma from 16 to 240."""

SMPTE_170M = 6
"""Number of BT.601 (525 lines) as matrix, primaries and transfer curve in ITU-T H.273. The enum
of PyAV has the number that its scaler uses instead."""


def tag_bt601(context: VideoCodecContext) -> None:
    """Say that pictures are limited-range BT.601. Untagged, players guess BT.709 for large
    pictures and show wrong skin."""
    context.color_range = MPEG_RANGE
    context.colorspace = SMPTE_170M
    context.color_primaries = SMPTE_170M
    context.color_trc = SMPTE_170M
