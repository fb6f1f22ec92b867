"""One participant: its signalling socket, its two peer connections, its data channels."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

from aiohttp import WSMsgType, web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from livekit.protocol import models, rtc

from tests.fakes.livekit_server import descriptions
from tests.fakes.livekit_server.room import LiveRoom, Published
from tests.fakes.livekit_server.tokens import Grants

_numbers = itertools.count(1)

ANSWER_TIMEOUT_S = 10.0


class Peer:
    """``run`` is its life; everything else is called meanwhile, on the same event loop."""

    def __init__(
        self, room: LiveRoom, socket: web.WebSocketResponse, grants: Grants, query
    ) -> None:
        self.room = room
        self.identity = grants.identity
        self.auto_subscribe = query.get("auto_subscribe", "1") == "1"
        self.info = models.ParticipantInfo(
            sid=f"PA_{next(_numbers)}",
            identity=grants.identity,
            name=grants.name,
            kind=grants.kind,
            metadata=grants.metadata,
            attributes=dict(grants.attributes),
            state=models.ParticipantInfo.ACTIVE,
            joined_at=int(time.time()),
            client_protocol=int(query.get("client_protocol", "0")),
            permission=models.ParticipantPermission(
                can_publish=True,
                can_subscribe=True,
                can_publish_data=True,
                can_update_metadata=True,
            ),
        )
        self._socket = socket
        config = RTCConfiguration(iceServers=[])
        self._publisher = RTCPeerConnection(config)
        self._subscriber = RTCPeerConnection(config)
        self._publisher.on("track", self._note_track)
        self._publisher.on("datachannel", self._note_channel)
        self._offer = ""
        self._arrived: dict[str, str] = {}  # mid to track id
        self._announced: dict[str, models.TrackInfo] = {}  # by the client's own id
        self._channels: dict[str, object] = {}
        self._unsent: dict[str, list[bytes]] = {}
        self._incoming: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._early: dict[int, list] = {0: [], 1: []}
        self._subscribing = asyncio.Lock()
        self._answer: asyncio.Future[str] | None = None
        self._senders: dict[str, object] = {}
        self._closed = False

    # Signalling

    async def run(self) -> bool:
        """Join, then answer requests until the socket is gone. True: the client said goodbye."""
        self.room.spawn(self._route_packets())
        join = rtc.JoinResponse(
            room=self.room.info,
            participant=self.info,
            other_participants=[other.info for other in self.room.others(self)],
            server_version="1.9.0",
            subscriber_primary=False,
            ping_timeout=15,
            ping_interval=5,
            server_info=models.ServerInfo(version="1.9.0", protocol=16, node_id="ND_1"),
            enabled_publish_codecs=[
                models.Codec(mime=mime) for mime in ("video/VP8", "video/H264", "audio/opus")
            ],
        )
        await self.send(rtc.SignalResponse(join=join))
        await self.room.tell_update(self)
        if self.auto_subscribe:
            for published in list(self.room.tracks.values()):
                self.room.spawn(self.subscribe(published))
        return await self._listen()

    async def resume(self, socket: web.WebSocketResponse) -> bool:
        """Go on with a new socket; the peer connections stay."""
        self._socket = socket
        await self.send(rtc.SignalResponse(reconnect=rtc.ReconnectResponse()))
        return await self._listen()

    async def _listen(self) -> bool:
        socket = self._socket
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                request = rtc.SignalRequest.FromString(message.data)
                if request.WhichOneof("message") == "leave":
                    return True
                await self._handle(request)
        return self._closed

    async def send(self, response: rtc.SignalResponse) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            if not self._socket.closed:
                await self._socket.send_bytes(response.SerializeToString())

    async def throw_out(self, reason: int) -> None:
        """Tell the client that it is no longer welcome."""
        leave = rtc.LeaveRequest(reason=reason, action=rtc.LeaveRequest.DISCONNECT)
        await self.send(rtc.SignalResponse(leave=leave))

    def kill_socket(self) -> None:
        """The signalling connection breaks without a word."""
        transport = self._socket._req.transport
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._incoming.put_nowait(("", b""))
        if self._answer is not None and not self._answer.done():
            self._answer.cancel()
        await self._publisher.close()
        await self._subscriber.close()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(self._socket.close(), 1)

    async def _handle(self, request: rtc.SignalRequest) -> None:
        kind = request.WhichOneof("message")
        now_ms = int(time.time() * 1000)
        if kind == "ping_req" and not self.room.faults.no_pongs:
            pong = rtc.Pong(last_ping_timestamp=request.ping_req.timestamp, timestamp=now_ms)
            await self.send(rtc.SignalResponse(pong_resp=pong))
        elif kind == "ping" and not self.room.faults.no_pongs:
            await self.send(rtc.SignalResponse(pong=now_ms))
        elif kind == "offer":
            await self._answer_offer(request.offer)
        elif kind == "answer" and self._answer is not None and not self._answer.done():
            self._answer.set_result(request.answer.sdp)
        elif kind == "trickle":
            await self._add_candidate(request.trickle)
        elif kind == "add_track":
            await self._announce(request.add_track)
        elif kind == "subscription":
            await self._change_subscription(request.subscription)
        elif kind == "update_metadata":
            await self._update_metadata(request.update_metadata)
        elif kind == "mute":
            for track in self.info.tracks:
                if track.sid == request.mute.sid:
                    track.muted = request.mute.muted
            await self.room.tell_update(self)

    async def _update_metadata(self, update: rtc.UpdateParticipantMetadata) -> None:
        self.apply(update.name, update.metadata, update.attributes)
        answer = rtc.RequestResponse(request_id=update.request_id)
        await self.send(rtc.SignalResponse(request_response=answer))
        await self.room.tell_update(self)

    def apply(self, name: str, metadata: str, attributes) -> None:
        """Take over what is set; an attribute set to nothing is removed."""
        self.info.name = name or self.info.name
        self.info.metadata = metadata or self.info.metadata
        for key, value in attributes.items():
            if value:
                self.info.attributes[key] = value
            else:
                self.info.attributes.pop(key, None)

    # Publishing

    async def _announce(self, request: rtc.AddTrackRequest) -> None:
        video = request.type == models.TrackType.VIDEO
        info = models.TrackInfo(
            sid=f"TR_{'V' if video else 'A'}{next(_numbers)}",
            type=request.type,
            name=request.name,
            source=request.source,
            width=request.width,
            height=request.height,
            muted=request.muted,
            stream=request.stream,
            disable_dtx=request.disable_dtx,
            mime_type="video/VP8" if video else "audio/opus",
            layers=request.layers,
        )
        self._announced[request.cid] = info
        self.info.tracks.append(info)
        self.info.is_publisher = True
        published = rtc.TrackPublishedResponse(cid=request.cid, track=info)
        await self.send(rtc.SignalResponse(track_published=published))
        await self.room.tell_update(self)

    async def _answer_offer(self, offer: rtc.SessionDescription) -> None:
        self._offer = offer.sdp
        await self._publisher.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        await self._add_early(0, self._publisher)
        await self._publisher.setLocalDescription(await self._publisher.createAnswer())
        answer = rtc.SessionDescription(
            type="answer", sdp=self._publisher.localDescription.sdp, id=offer.id
        )
        await self.send(rtc.SignalResponse(answer=answer))
        for mid in [m for m in self._arrived if not descriptions.is_sending(offer.sdp, m)]:
            await self._withdraw(self._arrived.pop(mid))

    async def _withdraw(self, sid: str) -> None:
        await self.room.unpublish(sid)
        kept = [track for track in self.info.tracks if track.sid != sid]
        del self.info.tracks[:]
        self.info.tracks.extend(kept)
        await self.room.tell_update(self)

    def _note_track(self, track: MediaStreamTrack) -> None:
        transceiver = next(
            one for one in self._publisher.getTransceivers() if one.receiver.track is track
        )
        cid = descriptions.client_track_id(self._offer, transceiver.mid)
        info = self._announced.get(cid or "")
        if info is not None:
            self._arrived[transceiver.mid] = info.sid
            self.room.spawn(self.room.publish(info.sid, self, track))

    async def _add_candidate(self, trickle: rtc.TrickleRequest) -> None:
        found = descriptions.candidate(trickle.candidateInit)
        if found is None:
            return
        peer = self._subscriber if trickle.target else self._publisher
        if peer.remoteDescription is None:
            self._early[trickle.target].append(found)
        else:
            with contextlib.suppress(Exception):
                await peer.addIceCandidate(found)

    async def _add_early(self, target: int, peer: RTCPeerConnection) -> None:
        while self._early[target]:
            with contextlib.suppress(Exception):
                await peer.addIceCandidate(self._early[target].pop(0))

    # Subscribing

    async def subscribe(self, published: Published) -> None:
        """Forward a track to this peer, with one offer of its own."""
        if self.room.faults.never_subscribe or published.owner is self:
            return
        async with self._subscribing:
            if self._closed or published.sid in self._senders:
                return
            # A section of its own: in one that carried another track before, the client would
            # not notice the new one.
            sender = self._subscriber.addTransceiver(
                self.room.relay.subscribe(published.track), direction="sendonly"
            ).sender
            sender._stream_id = f"{published.owner.info.sid}|{published.sid}"
            sender._track_id = published.sid
            self._senders[published.sid] = sender
            await self._subscriber.setLocalDescription(await self._subscriber.createOffer())
            self._answer = asyncio.get_running_loop().create_future()
            offer = rtc.SessionDescription(type="offer", sdp=self._subscriber.localDescription.sdp)
            await self.send(rtc.SignalResponse(offer=offer))
            try:
                sdp = await asyncio.wait_for(self._answer, ANSWER_TIMEOUT_S)
            except (TimeoutError, asyncio.CancelledError):
                if self._closed:
                    return
                raise
            await self._subscriber.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            await self._add_early(1, self._subscriber)
        if not self.room.faults.never_tell_subscribed:
            told = rtc.TrackSubscribed(track_sid=published.sid)
            await published.owner.send(rtc.SignalResponse(track_subscribed=told))

    def drop_subscription(self, sid: str) -> None:
        """Stop forwarding; the section stays in the description, silent."""
        sender = self._senders.pop(sid, None)
        if sender is not None:
            sender.replaceTrack(None)

    async def _change_subscription(self, request: rtc.UpdateSubscription) -> None:
        for sid in request.track_sids:
            published = self.room.tracks.get(sid)
            if not request.subscribe:
                self.drop_subscription(sid)
            elif published is not None:
                self.room.spawn(self.subscribe(published))

    # Data

    def send_packet(self, label: str, packet: models.DataPacket) -> None:
        """Send on the channel of that label, as soon as it is open."""
        data = packet.SerializeToString()
        channel = self._channels.get(label)
        if channel is None or channel.readyState != "open":
            self._unsent.setdefault(label, []).append(data)
        else:
            channel.send(data)

    def _note_channel(self, channel) -> None:
        self._channels[channel.label] = channel
        label = channel.label
        channel.on("message", lambda data: self._incoming.put_nowait((label, data)))
        for data in self._unsent.pop(label, []):
            channel.send(data)

    async def _route_packets(self) -> None:
        """One after the other, so that their order is kept."""
        while not self._closed:
            label, data = await self._incoming.get()
            if label and isinstance(data, bytes) and label in ("_reliable", "_lossy"):
                await self.room.route(self, label, models.DataPacket.FromString(data))
