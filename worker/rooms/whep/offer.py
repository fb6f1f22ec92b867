"""What a viewer asks for: an SDP offer, looked at before anything acts on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.rooms.whep.encoder import VideoCodec

MAX_OFFER_BYTES = 64 * 1024
"""Browsers offer 5 to 10 KB."""


class BadOffer(ValueError):
    """The body is no SDP offer; the text says what is wrong with it."""


class UnusableOffer(ValueError):
    """A proper SDP offer, but for something this room does not send."""


@dataclass(frozen=True)
class Offer:
    """An SDP offer and what of it can be served."""

    sdp: str
    video: VideoCodec | None
    audio: bool


def parse_offer(sdp: str) -> Offer:
    """Find out what is asked for. VP8 is preferred: every browser decodes it cheaply.

    Raises:
        BadOffer: not SDP, or too long.
        UnusableOffer: more than one video and one audio section, data channels, or no codec of
            ours among those offered.
    """
    if len(sdp) > MAX_OFFER_BYTES:
        raise BadOffer(f"the SDP offer is longer than {MAX_OFFER_BYTES} bytes")
    if not sdp.startswith("v=0"):
        raise BadOffer("the body is not an SDP offer; it must start with v=0")
    sections = re.split(r"^m=", sdp, flags=re.MULTILINE)[1:]
    if not sections:
        raise BadOffer("the SDP offer has no media section")
    kinds = [section.split(None, 1)[0] if section.strip() else "" for section in sections]
    if any(kind not in ("audio", "video") for kind in kinds) or len(set(kinds)) < len(kinds):
        raise UnusableOffer("offer at most one video and one audio section, and nothing else")
    video: VideoCodec | None = None
    audio = False
    for kind, section in zip(kinds, sections, strict=True):
        if re.search(r"^a=(sendonly|inactive)\s*$", section, re.MULTILINE):
            raise UnusableOffer(f"the {kind} section must be recvonly: this room only sends")
        if kind == "audio":
            audio = _offers(section, "opus/48000")
            if not audio:
                raise UnusableOffer("the audio section offers no Opus")
        elif _offers(section, "VP8/90000"):
            video = "VP8"
        elif _offers(section, "H264/90000"):
            video = "H264"
        else:
            raise UnusableOffer("the video section offers neither VP8 nor H.264")
    return Offer(_without_hidden_addresses(sdp), video, audio)


def _without_hidden_addresses(sdp: str) -> str:
    """Leave out candidates under ``.local`` names, by which browsers hide their addresses.

    Asking the local network for them (multicast DNS) costs a socket and up to a second and gains
    nothing: the browser calls us first, and its address is seen then. What is left may be empty,
    so the list is not declared complete either.
    """
    hidden = re.compile(r"^a=candidate:\S+ \d+ \S+ \d+ \S+\.local .*\r?\n?", re.MULTILINE)
    shown, removed = hidden.subn("", sdp)
    if removed:
        shown = re.sub(r"^a=end-of-candidates\s*?\r?\n?", "", shown, flags=re.MULTILINE)
    return shown


def _offers(section: str, codec: str) -> bool:
    return re.search(rf"^a=rtpmap:\d+ {codec}", section, re.MULTILINE | re.IGNORECASE) is not None
