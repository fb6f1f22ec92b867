"""RoomService: the server's administration interface (Twirp, protobuf bodies)."""

from __future__ import annotations

import json

from aiohttp import web
from livekit.protocol import models
from livekit.protocol import room as api

from tests.fakes.livekit_server.room import LiveRoom
from tests.fakes.livekit_server.tokens import BadToken


class TwirpError(Exception):
    """Answered as JSON with a 4xx status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class RoomService:
    """The calls our software and its tests use."""

    def __init__(self, server) -> None:
        self._server = server

    async def handle(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        try:
            grants = self._server.grants(request)
            if not grants.admin:
                raise TwirpError(403, "permission_denied", "the token grants no administration")
            call = getattr(self, f"_{method}", None)
            kind = getattr(api, f"{method}Request", None) or api.RoomParticipantIdentity
            if call is None:
                raise TwirpError(404, "bad_route", f"no method {method}")
            answer = await call(kind.FromString(await request.read()))
        except BadToken as error:
            return _error(401, "unauthenticated", str(error))
        except TwirpError as error:
            return _error(error.status, error.code, str(error))
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    def _room(self, name: str) -> LiveRoom:
        room = self._server.rooms.get(name)
        if room is None:
            raise TwirpError(404, "not_found", "requested room does not exist")
        return room

    def _peer(self, name: str, identity: str):
        peer = self._room(name).peers.get(identity)
        if peer is None:
            raise TwirpError(404, "not_found", "participant does not exist")
        return peer

    async def _CreateRoom(self, request) -> models.Room:
        return self._server.room(request.name).info

    async def _DeleteRoom(self, request) -> api.DeleteRoomResponse:
        self._room(request.room)
        await self._server.delete_room(request.room)
        return api.DeleteRoomResponse()

    async def _ListRooms(self, request) -> api.ListRoomsResponse:
        rooms = self._server.rooms
        names = set(request.names) or set(rooms)
        return api.ListRoomsResponse(rooms=[r.info for n, r in rooms.items() if n in names])

    async def _ListParticipants(self, request) -> api.ListParticipantsResponse:
        peers = self._room(request.room).peers.values()
        return api.ListParticipantsResponse(participants=[peer.info for peer in peers])

    async def _GetParticipant(self, request) -> models.ParticipantInfo:
        return self._peer(request.room, request.identity).info

    async def _RemoveParticipant(self, request) -> api.RemoveParticipantResponse:
        self._peer(request.room, request.identity)
        await self._server.remove(request.room, request.identity)
        return api.RemoveParticipantResponse()

    async def _UpdateParticipant(self, request) -> models.ParticipantInfo:
        peer = self._peer(request.room, request.identity)
        peer.apply(request.name, request.metadata, request.attributes)
        await peer.room.tell_update(peer)
        return peer.info

    async def _SendData(self, request) -> api.SendDataResponse:
        user = models.UserPacket(payload=request.data, topic=request.topic)
        packet = models.DataPacket(
            kind=request.kind, user=user, destination_identities=request.destination_identities
        )
        lossy = request.kind == models.DataPacket.LOSSY
        await self._room(request.room).route(None, "_lossy" if lossy else "_reliable", packet)
        return api.SendDataResponse()


def _error(status: int, code: str, message: str) -> web.Response:
    text = json.dumps({"code": code, "msg": message})
    return web.Response(status=status, text=text, content_type="application/json")
