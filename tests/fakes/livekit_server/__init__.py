"""A LiveKit server in this process, real enough for the real client library.

Speaks the signalling protocol over a WebSocket and media over aiortc. Not covered: simulcast, VP9,
AV1, bandwidth estimation; media is decoded and compressed again on its way through.
"""

from tests.fakes.livekit_server.faults import Faults
from tests.fakes.livekit_server.server import LiveKitServer, running_livekit

__all__ = ["Faults", "LiveKitServer", "running_livekit"]
