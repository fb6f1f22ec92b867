"""A speech gateway on a real port, over a real store, in front of whatever workers a test has."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api.app import create_app
from api.avatars.folder import FolderMedia
from api.avatars.port import PortraitMaker
from api.container.assembly import assemble
from api.container.services import Services, utc_now
from api.dispatch.port import Order
from api.gateway.gateway import gateway_of
from api.gateway.socket import SERVER_OPTIONS
from api.plans import load_plans
from api.records import EndReason, NewSession, Plan, RoomOrder, Session
from api.secret import Secret, token_digest
from api.settings import ApiSettings
from api.store.migrate import migrate
from api.store.sql import SqlStore, open_store
from tests.fakes.dispatcher import FakeDispatcher, FakeRun
from tests.fakes.resident import Running, body

PATIENCE_S = 20.0
SECRET = "a secret of the tests, of 32 characters or more"
PLAN = Plan("test", "Test", 100, None, None, None, True)


class SpeechPath:
    """``services`` behind uvicorn, and the calls a test needs."""

    def __init__(self, services: Services, account_id: str) -> None:
        self.services = services
        self.account_id = account_id
        self.app = create_app(services)
        self.gateway = gateway_of(self.app)
        config = uvicorn.Config(
            self.app, port=0, log_config=None, timeout_graceful_shutdown=3, **SERVER_OPTIONS
        )
        self.server = uvicorn.Server(config)

    @property
    def store(self) -> Any:
        return self.services.store

    @property
    def dispatcher(self) -> FakeDispatcher:
        return cast(FakeDispatcher, self.services.dispatcher)

    def end_on_worker(self, session: Session, reason: EndReason) -> None:
        """It is over; nobody knows until the worker is looked at."""
        run = self.dispatcher.runs[session.id]
        run.state, run.reason = "ended", reason

    async def finish(self, session: Session, reason: EndReason) -> None:
        await self.services.sessions.finish(session, reason, utc_now())

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    def token(self, session_id: str) -> str:
        return self.services.secret.session_token(session_id)

    async def new_session(
        self, start: bool = True, age_s: float = 0.0, plan: Plan = PLAN
    ) -> Session:
        """A session of the store that no worker has yet."""
        session_id = "sess_" + secrets.token_hex(6)
        new = NewSession(
            id=session_id,
            account_id=self.account_id,
            avatar_id="PUBLIC/Avatars/anna",
            aspect_ratio="1:1",
            room=RoomOrder("local"),
            metadata={},
            token_digest=token_digest(self.token(session_id)),
            start=start,
            fingerprint=session_id,
        )
        now = utc_now() - timedelta(seconds=age_s)
        stored = await self.store.create_session(new, plan, now)
        session: Session = stored.session
        return session

    async def place(self, session: Session, worker: Running) -> None:
        """Have a real worker run it, as the dispatcher does."""
        answer = await worker.http.post("/sessions", json=body(session.id, self.token(session.id)))
        assert answer.status_code == 200, answer.text
        await self.place_at(session, worker.worker.ws_uri, answer.json()["watch_uri"])

    async def place_at(self, session: Session, ws_uri: str, watch_uri: str | None = None) -> None:
        """Note a worker's address."""
        run = FakeRun(cast(Order, None))
        run.ready = True
        self.dispatcher.runs[session.id] = run
        await self.store.place_session(session.id, "w", "i-1", ws_uri, watch_uri, utc_now())

    def dial(self, path: str = "/v1/ws", **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, proxy=None, **options)

    async def enter(
        self, client: ClientConnection, session: Session, **opt_ins: Any
    ) -> dict[str, Any]:
        """Say ``session.init``; the answer."""
        token = self.token(session.id)
        await say(client, "session.init", session_id=session.id, session_token=token, **opt_ins)
        return await hear(client)

    async def now(self, session: Session) -> Session:
        """The session as the store has it."""
        found: Session = await self.store.session(session.id)
        return found

    async def until_ended(self, session: Session) -> Session:
        await until(lambda: self._ended(session))
        return await self.now(session)

    async def _ended(self, session: Session) -> bool:
        return (await self.now(session)).status == "ended"


def speech_services(store: SqlStore, folder: Path) -> Services:
    """Services with workers in memory; where those are, tests tell the store."""
    settings = ApiSettings(data_dir=folder)
    plans = load_plans(None, "enterprise")
    media = FolderMedia(folder / "media")
    portraits = cast("PortraitMaker", None)  # no photos here
    return assemble(settings, Secret(SECRET), store, media, portraits, FakeDispatcher(), plans)


@asynccontextmanager
async def listening(path: SpeechPath) -> AsyncIterator[SpeechPath]:
    """The gateway, on its port while the context lasts."""
    task = asyncio.create_task(path.server.serve())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not path.server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield path
    finally:
        path.server.should_exit = True
        await task


@asynccontextmanager
async def store_of(folder: Path) -> AsyncIterator[SqlStore]:
    """A new SQLite store."""
    url = f"sqlite:///{folder / 'test.db'}"
    await migrate(url)
    store = await open_store(url, Secret(SECRET).key("seal"))
    try:
        yield store
    finally:
        await store.aclose()


async def say(client: ClientConnection, kind: str, **fields: Any) -> None:
    await client.send(json.dumps({"type": kind, **fields}))


async def hear(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        message: dict[str, Any] = json.loads(await client.recv())
        return message


async def hear_type(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of this kind; others are passed over."""
    while (message := await hear(client))["type"] != kind:
        pass
    return message


async def closed(client: ClientConnection) -> tuple[int | None, str]:
    """Code and reason of the close; (None, "") without a close frame."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)
