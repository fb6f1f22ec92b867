"""What every Daily call needs of ``daily-python`` before it begins.

``Daily.init`` is called once per process, here: a second call ends the process, and so does a
client before the first. A program that also calls it elsewhere has to do without these rooms, for
the SDK offers no way to find out. ``Daily.deinit`` is never called; it aborts while any track is
alive, and leaving without is clean.
"""

from __future__ import annotations

import importlib
import re
import threading
import weakref
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from models.engine import FPS, Canvas
from worker.rooms.port import RoomError

NO_SUBSCRIPTIONS = {
    "base": {
        "camera": "unsubscribed",
        "screenVideo": "unsubscribed",
        "microphone": "unsubscribed",
    }
}
"""Settings of a participant that takes nothing in."""

_initialised: weakref.WeakSet[Any] = weakref.WeakSet()
_init_lock = threading.Lock()


def load_sdk() -> Any:
    """The module ``daily``. Raises ``RoomError`` where it is not installed."""
    try:
        return importlib.import_module("daily")
    except ImportError as error:
        raise RoomError(
            "Daily rooms need the package daily-python; install avatar-server[daily]"
        ) from error


def initialise(sdk: Any) -> None:
    """``Daily.init``, the first time only, whichever thread asks."""
    with _init_lock:
        if sdk not in _initialised:
            sdk.Daily.init()
            _initialised.add(sdk)


def publishing_settings(canvas: Canvas) -> dict[str, Any]:
    """One VP8 layer at full size and steady bitrate: 2.5 Mbit/s, up to 640 x 640 pixels 1.2.

    The SDK counts layers upwards from ``low``; the only one is that, unscaled.
    """
    bitrate = 1_200_000 if canvas.width * canvas.height <= 640 * 640 else 2_500_000
    layer = {"maxBitrate": bitrate, "maxFramerate": FPS, "scaleResolutionDownBy": 1}
    return {
        "camera": {
            "isPublishing": True,
            "sendSettings": {
                "maxQuality": "high",
                "preferredCodec": "VP8",
                "allowAdaptiveLayers": False,
                "encodings": {"low": layer},
            },
        },
        "microphone": {"isPublishing": True, "sendSettings": {"channelConfig": "mono"}},
    }


def split_url(url: str, token: str | None) -> tuple[str, str]:
    """A room's address without its query, and the token, which the query may carry as ``t``.

    What remains may be logged: the SDK prints addresses it cannot read.

    Raises:
        RoomError: not an address like ``https://your-domain.daily.co/room``; the text does not
            repeat it.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    readable = host is not None and re.fullmatch(r"[A-Za-z0-9.-]+", host) is not None
    named = re.fullmatch(r"/[^\s/]+/?", parts.path) is not None
    if parts.scheme != "https" or not readable or not named or parts.username is not None:
        raise RoomError(
            "the address of a Daily room looks like https://your-domain.daily.co/room-name"
        )
    secret = token or (parse_qs(parts.query).get("t") or [""])[0]
    return urlunsplit(("https", parts.netloc, parts.path, "", "")), secret


def input_settings(video_track: str, audio_track: str) -> dict[str, Any]:
    """Camera and microphone from our own tracks, by their ids."""
    return {
        "camera": {"isEnabled": True, "settings": {"customTrack": {"id": video_track}}},
        "microphone": {"isEnabled": True, "settings": {"customTrack": {"id": audio_track}}},
    }
