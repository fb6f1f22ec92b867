"""The server: HTTP routes, rooms, and the hooks tests pull."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from livekit.protocol import models

from tests.fakes.livekit_server import tokens
from tests.fakes.livekit_server.faults import Faults
from tests.fakes.livekit_server.peer import Peer
from tests.fakes.livekit_server.room import LiveRoom
from tests.fakes.livekit_server.service import RoomService


class LiveKitServer:
    """Belongs to the event loop it was started on. ``url`` is known once it runs."""

    def __init__(
        self, key: str = "devkey", secret: str = "a secret of at least 32 characters"
    ) -> None:
        self.key = key
        self.secret = secret
        self.url = ""
        self.faults = Faults()
        self.rooms: dict[str, LiveRoom] = {}
        self.joins = 0
        """Joins that were let in, rejoins included."""
        self.resumes_refused = 0
        self.resumes = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/rtc", self._join)
        app.router.add_get("/rtc/validate", self._validate)
        app.router.add_post("/twirp/livekit.RoomService/{method}", RoomService(self).handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"ws://{host}:{port}"

    async def stop(self) -> None:
        for room in list(self.rooms.values()):
            await room.delete(models.DisconnectReason.SERVER_SHUTDOWN)
        self.rooms.clear()
        if self._runner is not None:
            await self._runner.cleanup()

    def token(
        self,
        identity: str,
        room: str,
        *,
        kind: str = "standard",
        attributes: Mapping[str, str] | None = None,
        lifetime_s: float = 3600.0,
    ) -> str:
        """A token that admits ``identity`` to ``room``."""
        return tokens.mint(
            self.key,
            self.secret,
            identity,
            room,
            kind=kind,
            attributes=attributes,
            lifetime_s=lifetime_s,
        )

    def room(self, name: str) -> LiveRoom:
        """The room of that name; it comes into being when first asked for."""
        if name not in self.rooms:
            self.rooms[name] = LiveRoom(name, self.faults)
        return self.rooms[name]

    def peer(self, room: str, identity: str) -> Peer | None:
        found = self.rooms.get(room)
        return found.peers.get(identity) if found else None

    # What goes wrong

    def kill_socket(self, room: str, identity: str) -> None:
        """Break a participant's signalling connection."""
        self.room(room).peers[identity].kill_socket()

    async def remove(self, room: str, identity: str) -> None:
        """Throw a participant out."""
        peer = self.room(room).peers[identity]
        await peer.throw_out(models.DisconnectReason.PARTICIPANT_REMOVED)
        await peer.room.leave(peer)

    async def delete_room(self, name: str) -> None:
        await self.rooms.pop(name).delete(models.DisconnectReason.ROOM_DELETED)

    # HTTP

    def grants(self, request: web.Request) -> tokens.Grants:
        """Who asks. Raises ``BadToken``."""
        if self.faults.refuse_token is not None:
            raise tokens.BadToken(self.faults.refuse_token)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = bearer or request.query.get("access_token", "")
        return tokens.verify(token, self.key, self.secret)

    async def _validate(self, request: web.Request) -> web.Response:
        try:
            self.grants(request)
        except tokens.BadToken as error:
            return web.Response(status=401, text=str(error))
        return web.Response(text="success")

    async def _join(self, request: web.Request) -> web.StreamResponse:
        if self.faults.refuse_joins:
            return web.Response(status=503, text="unavailable")
        if request.query.get("reconnect") == "1":
            return await self._resume(request)
        try:
            grants = self.grants(request)
        except tokens.BadToken as error:
            return web.Response(status=401, text=str(error))
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        if self.faults.join_delay_s:
            await asyncio.sleep(self.faults.join_delay_s)
        room = self.room(grants.room)
        peer = Peer(room, socket, grants, request.query)
        await room.enter(peer)
        self.joins += 1
        await self._attend(peer, peer.run())
        return socket

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        sid = request.query.get("sid")
        everybody = [peer for room in self.rooms.values() for peer in room.peers.values()]
        peer = next((peer for peer in everybody if peer.info.sid == sid), None)
        if peer is None or not self.faults.allow_resume:
            # The client joins again then, which takes less time than restarting ICE.
            self.resumes_refused += 1
            return web.Response(status=404, text="no such participant")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self.resumes += 1
        await self._attend(peer, peer.resume(socket))
        return socket

    async def _attend(self, peer: Peer, life: Coroutine[Any, Any, bool]) -> None:
        said_goodbye = True
        try:
            said_goodbye = await life
        finally:
            if said_goodbye or not self.faults.allow_resume:
                await peer.room.leave(peer)


@asynccontextmanager
async def running_livekit() -> AsyncIterator[LiveKitServer]:
    """A server on a free port of this machine, for as long as the context lasts."""
    server = LiveKitServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
