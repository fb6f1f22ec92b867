"""One room: who is in it, and what goes from whom to whom."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiortc import MediaStreamTrack
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from livekit.protocol import models, rtc

from tests.fakes.livekit_server.faults import Faults

if TYPE_CHECKING:
    from tests.fakes.livekit_server.peer import Peer


@dataclass
class Published:
    """A track that arrives here and may be forwarded."""

    sid: str
    owner: Peer
    track: MediaStreamTrack
    drain: MediaBlackhole = field(default_factory=MediaBlackhole)


class LiveRoom:
    """Belongs to one event loop."""

    def __init__(self, name: str, faults: Faults) -> None:
        self.info = models.Room(sid=f"RM_{name}", name=name, creation_time=int(time.time()))
        self.faults = faults
        self.peers: dict[str, Peer] = {}
        self.relay = MediaRelay()
        self.tracks: dict[str, Published] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def others(self, peer: Peer) -> list[Peer]:
        return [other for other in self.peers.values() if other is not peer]

    async def enter(self, peer: Peer) -> None:
        """Take a peer in; an older one of the same identity is thrown out."""
        twin = self.peers.get(peer.identity)
        if twin is not None:
            await twin.throw_out(models.DisconnectReason.DUPLICATE_IDENTITY)
            await self.leave(twin)
        self.peers[peer.identity] = peer
        self.info.num_participants = len(self.peers)

    async def leave(self, peer: Peer) -> None:
        """Forget a peer and tell the others. Does nothing the second time."""
        if self.peers.get(peer.identity) is not peer:
            return
        del self.peers[peer.identity]
        self.info.num_participants = len(self.peers)
        for sid in [sid for sid, one in self.tracks.items() if one.owner is peer]:
            await self.unpublish(sid)
        peer.info.state = models.ParticipantInfo.DISCONNECTED
        await self.tell_update(peer)
        await peer.close()

    async def tell_update(self, peer: Peer) -> None:
        """Tell everybody else what has become of a peer; itself too, while it is in."""
        update = rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=[peer.info]))
        for other in list(self.peers.values()):
            await other.send(update)

    async def publish(self, sid: str, owner: Peer, track: MediaStreamTrack) -> None:
        """A track's media arrives. Somebody must take it, or it would pile up."""
        published = Published(sid, owner, track)
        self.tracks[sid] = published
        published.drain.addTrack(self.relay.subscribe(track, buffered=False))
        await published.drain.start()
        for other in self.others(owner):
            if other.auto_subscribe:
                self.spawn(other.subscribe(published))

    async def unpublish(self, sid: str) -> None:
        published = self.tracks.pop(sid, None)
        if published is None:
            return
        await published.drain.stop()
        for peer in self.peers.values():
            peer.drop_subscription(sid)

    async def route(self, sender: Peer | None, label: str, packet: models.DataPacket) -> None:
        """Forward a data packet to those it names, or to everybody else."""
        faults = self.faults
        if faults.lose_trailers and packet.HasField("stream_trailer"):
            return
        if faults.drop_packet is not None and faults.drop_packet(packet):
            return
        if faults.packet_delay_s is not None and (wait_s := faults.packet_delay_s(packet)) > 0:
            await asyncio.sleep(wait_s)
        named = set(packet.destination_identities)
        if sender is not None:
            packet.participant_identity = sender.identity
            packet.participant_sid = sender.info.sid
            if packet.HasField("user"):
                packet.user.participant_identity = sender.identity
                packet.user.participant_sid = sender.info.sid
        for peer in list(self.peers.values()):
            if peer is not sender and (not named or peer.identity in named):
                peer.send_packet(label, packet)

    def spawn(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def delete(self, reason: int) -> None:
        for peer in list(self.peers.values()):
            await peer.throw_out(reason)
            await self.leave(peer)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
