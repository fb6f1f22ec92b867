"""What a participant really sends to the LiveKit server: packets with the times they arrive.

A subscriber's clock will not do to compare picture and sound: its jitter buffers, and those of the
server in this process, delay sound more than pictures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np

from tests.fakes.livekit_server.peer import Peer

LOUD = 1000
"""Mean amplitude above which 20 ms count as loud."""

CHANGE_BYTES = 1500
"""A picture all of one grey takes less unless it differs from the one before."""


@dataclass(frozen=True)
class Arrival:
    kind: str
    at: float
    """By ``time.monotonic``."""
    timestamp: int
    payload: bytes


class Wire:
    """Listens to all that ``peer`` publishes from now on."""

    def __init__(self, peer: Peer) -> None:
        self._arrivals: list[Arrival] = []
        for receiver in peer._publisher.getReceivers():
            if receiver.track is not None:
                self._tap(receiver)

    def sound(self) -> list[tuple[float, bool]]:
        """For each audio packet its time and whether it is loud."""
        decoder = av.CodecContext.create("opus", "r")
        found = []
        for arrival in self._arrivals:
            if arrival.kind == "audio" and arrival.payload:
                frames = decoder.decode(av.Packet(arrival.payload))
                level = max((float(np.abs(f.to_ndarray()).mean()) for f in frames), default=0.0)
                loud = level > (LOUD / 32768 if frames and "flt" in frames[0].format.name else LOUD)
                found.append((arrival.at, loud))
        return found

    def onsets(self, after_quiet_s: float = 0.0) -> list[float]:
        """When sound became loud, of those with ``after_quiet_s`` of quiet before them: a machine
        that cannot keep up tears holes into a sound, and the sound goes on behind each."""
        found, quiet_since = [], None
        for (at_before, before), (at, now) in pairwise(self.sound()):
            if quiet_since is None and not before:
                quiet_since = at_before
            if now:
                if quiet_since is not None and at - quiet_since >= after_quiet_s:
                    found.append(at)
                quiet_since = None
        return found

    def changes(self, after_still_s: float = 0.0) -> list[float]:
        """When pictures changed, of the changes after ``after_still_s`` without one."""
        sizes: dict[int, int] = {}
        since: dict[int, float] = {}
        for arrival in self._arrivals:
            if arrival.kind == "video":
                since.setdefault(arrival.timestamp, arrival.at)
                sizes[arrival.timestamp] = sizes.get(arrival.timestamp, 0) + len(arrival.payload)
        found = [since[timestamp] for timestamp, size in sizes.items() if size > CHANGE_BYTES]
        pairs = zip([-np.inf, *found], found, strict=False)
        return [at for before, at in pairs if at - before >= after_still_s]

    def _tap(self, receiver) -> None:
        handle, kind = receiver._handle_rtp_packet, receiver.track.kind

        async def note(packet, arrival_time_ms: int) -> None:
            arrival = Arrival(kind, time.monotonic(), packet.timestamp, bytes(packet.payload))
            self._arrivals.append(arrival)
            await handle(packet, arrival_time_ms)

        receiver._handle_rtp_packet = note
