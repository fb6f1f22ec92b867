"""Reading session descriptions."""

from __future__ import annotations

import json

from aiortc import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp


def candidate(text: str) -> RTCIceCandidate | None:
    """The candidate in a ``trickle`` message, or None when there is none to add."""
    try:
        told = json.loads(text)
        line = str(told["candidate"]).removeprefix("candidate:")
        if not line:
            return None
        found = candidate_from_sdp(line)
    except (ValueError, KeyError, IndexError, AssertionError):
        return None
    found.sdpMid = told.get("sdpMid")
    found.sdpMLineIndex = told.get("sdpMLineIndex")
    return found


def sections(sdp: str) -> dict[str, list[str]]:
    """The lines of each media section by its ``mid``."""
    found: dict[str, list[str]] = {}
    for section in sdp.replace("\r", "").split("\nm=")[1:]:
        lines = section.split("\n")
        mid = next((line[6:] for line in lines if line.startswith("a=mid:")), None)
        if mid is not None:
            found[mid] = lines
    return found


def client_track_id(sdp: str, mid: str) -> str | None:
    """The sender's own id of the track in section ``mid``: ``a=msid:<stream> <track>``."""
    for line in sections(sdp).get(mid, []):
        if line.startswith("a=msid:"):
            return line.split()[-1]
    return None


def is_sending(sdp: str, mid: str) -> bool:
    """Whether the side that made this offer sends in section ``mid``."""
    lines = sections(sdp).get(mid, [])
    return "a=sendonly" in lines or "a=sendrecv" in lines
