"""The worker: one engine, a few render threads, many sessions."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from models.engine import Canvas, Engine, Identity
from models.face.photo import load_photo
from protocol.events import EndReason
from worker.clock import Clock, SystemClock
from worker.diagnostics.capacity import Capacity
from worker.interfaces import (
    AuthError,
    Busy,
    DailyRoom,
    Draining,
    FileRoom,
    LiveKitRoom,
    NoCapacity,
    SessionCancelled,
    SessionCreated,
    SessionExists,
    SessionRequest,
    SessionSummary,
    SpeechTarget,
    WarmingUp,
    WorkerState,
    WorkerStatus,
)
from worker.metrics import Metrics
from worker.pipeline.render_pool import RenderPool
from worker.process.memory import hand_back, tidy_up
from worker.rooms.file import room as file
from worker.rooms.port import PlatformNotInstalled, Room
from worker.rooms.whep import room as whep
from worker.session import Session
from worker.session_registry import EndedSessions, Entry, token_digest
from worker.settings import WorkerSettings

logger = structlog.get_logger(__name__)

KEPT_IDENTITIES = 16
"""Prepared avatars kept in memory."""

TIDY_AFTER_S = 1.0
"""Time from a session's end to when its memory is looked for: the caller that ended it has the
answer by then and has let go of the session."""


class Worker:
    """Owns the engine and the sessions. ``start`` it, use it on one event loop, ``aclose`` it."""

    def __init__(
        self,
        settings: WorkerSettings,
        load_engine: Callable[[], Engine],
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``load_engine`` runs in a thread of its own and returns a warm engine."""
        self.settings = settings
        """With the scale of the canvases that was chosen, once the worker is ready."""
        self.metrics = metrics or Metrics()
        self.instance = secrets.token_hex(8)
        self.ws_uri = settings.public_ws_url or f"ws://{settings.host}:{settings.ws_port}/v1/ws"
        self.http_url = settings.public_url or f"http://{settings.host}:{settings.http_port}"
        self._load_engine = load_engine
        self._clock = clock or SystemClock()
        self._engine: Engine | None = None
        self._renders: RenderPool | None = None
        self._capacity = settings.max_sessions or 1
        self._draining = False
        self._entries: dict[str, Entry] = {}
        self._joining: set[str] = set()
        self._cancelled: set[str] = set()
        """Of those joining: ended before they began."""
        self._ended = EndedSessions()
        self._identities: OrderedDict[tuple[bytes, Canvas], Identity] = OrderedDict()
        self._preparing = asyncio.Lock()
        self._watchers: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.Task[None] | None = None

    async def start(self, measure: Callable[[Engine], Capacity] | None = None) -> None:
        """Load the engine and get ready. ``measure`` answers how many sessions it holds and of
        what scale, as far as the settings leave that open."""
        self._engine = await asyncio.to_thread(self._load_engine)
        settings = self.settings
        open_question = settings.max_sessions is None or settings.canvas.scale == "auto"
        if measure is not None and open_question:
            found = await asyncio.to_thread(measure, self._engine)
            await asyncio.to_thread(hand_back)
            self.settings = settings.at_scale(found.scale)
            self._capacity = settings.max_sessions or found.sessions
        self._renders = RenderPool(self._engine, self._clock.now_ns, self.settings.threads)
        self._renders.start()
        self._tell_metrics()
        logger.info(
            "worker ready", engine=self._engine.name, size=self._size, capacity=self._capacity
        )

    @property
    def _size(self) -> str:
        canvas = self.settings.canvas.canvas("4:3")
        return f"{canvas.width}x{canvas.height}"

    @property
    def capacity(self) -> int:
        """Sessions this worker holds at a time."""
        return self._capacity

    def state(self) -> WorkerState:
        """Whether a new session can be taken, and why not."""
        if self._draining:
            return "draining"
        if self._renders is None:
            return "warming"
        return "full" if len(self._entries) + len(self._joining) >= self._capacity else "ready"

    async def create(self, request: SessionRequest) -> SessionCreated:
        """Start a session; see ``worker.interfaces.WorkerPort.create``."""
        if self._draining:
            raise Draining
        if self._renders is None or self._engine is None:
            raise WarmingUp
        known = (self._entries, self._joining, self._ended)
        if any(request.session_id in ids for ids in known):
            raise SessionExists(request.session_id)
        if self.state() == "full":
            raise NoCapacity
        # The slot is taken before the first await, so that parallel calls cannot overbook.
        self._joining.add(request.session_id)
        try:
            identity = await self._prepare(self._engine, request.portrait, request.canvas)
            if self._draining:
                raise Draining
            if request.session_id in self._cancelled:
                raise SessionCancelled
            entry = self._open(self._engine, self._renders, request, identity)
        finally:
            self._joining.discard(request.session_id)
            self._cancelled.discard(request.session_id)
        watch_url = f"{self.http_url}/watch/{request.session_id}" if entry.watch_uri else None
        return SessionCreated(
            request.session_id, self.ws_uri, watch_url, request.expires_at, entry.watch_uri
        )

    def authenticate(self, session_id: str, token: str) -> SpeechTarget:
        """See ``worker.interfaces.Directory.authenticate``."""
        entry = self._entries.get(session_id)
        digest = entry.token if entry else self._ended.token(session_id) or bytes(32)
        right = hmac.compare_digest(digest, token_digest(token))
        if not right:
            raise AuthError("credentials")
        if entry is None or entry.session.end_reason is not None:
            raise AuthError("ended")
        return entry.session

    def session(self, session_id: str) -> Session | None:
        """The running session with this id."""
        entry = self._entries.get(session_id)
        return entry.session if entry else None

    def whep_room(self, session_id: str) -> whep.WhepRoom | None:
        """The room of a session that is watched by WHEP."""
        session = self.session(session_id)
        room = session.room if session else None
        return room if isinstance(room, whep.WhepRoom) else None

    def get(self, session_id: str) -> SessionSummary | None:
        """The running session with this id."""
        entry = self._entries.get(session_id)
        return entry.summary() if entry else None

    def sessions(self) -> Sequence[SessionSummary]:
        """All running sessions, oldest first."""
        return [entry.summary() for entry in self._entries.values()]

    async def end(self, session_id: str, reason: EndReason) -> bool:
        """End a session, also one about to begin. False: none with this id is running."""
        entry = self._entries.get(session_id)
        if entry is None:
            if session_id not in self._joining:
                return False
            self._cancelled.add(session_id)
            return True
        await entry.session.end(reason)
        return True

    async def prepare(self, portrait: bytes, canvas: Canvas) -> None:
        """Have the identity at hand; see ``worker.interfaces.WorkerPort.prepare``."""
        match self.state():
            case "draining":
                raise Draining
            case "full":  # nobody could come, and those who are here need the processor
                raise NoCapacity
        if self._engine is None or self._renders is None:
            raise WarmingUp
        if self._preparing.locked():
            raise Busy
        await self._prepare(self._engine, portrait, canvas)

    def status(self, ended_after: int = 0) -> WorkerStatus:
        """See ``worker.interfaces.WorkerPort.status``."""
        return WorkerStatus(
            self.instance,
            self.state(),
            self._capacity,
            len(self._entries) + len(self._joining),
            self._engine.name if self._engine else None,
            self._size if self._renders is not None else None,
            self.ws_uri,
            sorted(self._joining),
            self.sessions(),
            self._ended.after(ended_after),
        )

    async def drain(self, timeout_s: float | None = None) -> None:
        """Take no new session, let the running ones go on for a while, then end them."""
        if timeout_s is None:
            timeout_s = self.settings.drain_timeout_s
        if not self._draining:
            self._draining = True
            self._tell_metrics()
            deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
            for entry in list(self._entries.values()):
                entry.session.drain(deadline)
        closed = [
            asyncio.ensure_future(entry.session.closed.wait()) for entry in self._entries.values()
        ]
        if closed:
            _, late = await asyncio.wait(closed, timeout=timeout_s)
            for task in late:
                task.cancel()
        ending = [entry.session.end("server_shutdown") for entry in self._entries.values()]
        await asyncio.gather(*ending)

    async def aclose(self) -> None:
        """End every session at once and stop the render threads."""
        await self.drain(0)
        if self._watchers:
            await asyncio.wait(self._watchers)
        if self._tidying is not None:
            self._tidying.cancel()
        if self._renders is not None:
            await asyncio.to_thread(self._renders.stop)
        self._identities.clear()

    async def _prepare(self, engine: Engine, photo: bytes, canvas: Canvas) -> Identity:
        key = (hashlib.sha256(photo).digest(), canvas)
        # One at a time: preparing is heavy, and running sessions need the processor more.
        async with self._preparing:
            identity = self._identities.get(key)
            if identity is None:
                identity = await asyncio.to_thread(_prepared, engine, photo, canvas)
                self._identities[key] = identity
                while len(self._identities) > KEPT_IDENTITIES:
                    self._identities.popitem(last=False)
            self._identities.move_to_end(key)
            return identity

    def _open(
        self, engine: Engine, renders: RenderPool, request: SessionRequest, identity: Identity
    ) -> Entry:
        seed = int.from_bytes(hashlib.sha256(request.session_id.encode()).digest()[:4], "big")
        session = Session(
            session_id=request.session_id,
            canvas=request.canvas,
            actor=engine.actor(identity, seed),
            room=self._room(request),
            renders=renders,
            clock=self._clock,
            metrics=self.metrics,
            expiration=request.expires_at,
            backlog_s=self.settings.backlog_s,
            start_lookahead_s=engine.lookahead_s,
            lifecycle=self.settings.lifecycle,
        )
        watched = isinstance(session.room, whep.WhepRoom)
        watch_uri = f"{self.http_url}/whep/{request.session_id}" if watched else None
        entry = Entry(session, request, watch_uri)
        self._entries[request.session_id] = entry
        self._tell_metrics()
        if isinstance(request.room, LiveKitRoom):
            _hear_agent(session, self.metrics)
        session.start()
        watcher = asyncio.create_task(self._forget(request.session_id, entry))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return entry

    def _room(self, request: SessionRequest) -> Room:
        spec = request.room
        if isinstance(spec, LiveKitRoom):
            return _livekit(spec, request.canvas, self._clock)
        if isinstance(spec, DailyRoom):
            return _daily(spec, request, self._clock)
        if isinstance(spec, FileRoom):
            return file.FileRoom(
                spec.path,
                request.canvas,
                realtime=spec.paced,
                clock=self._clock,
                starts_on_speech=spec.starts_on_speech,
            )
        return whep.WhepRoom(request.session_id, request.canvas, self._clock)

    async def _forget(self, session_id: str, entry: Entry) -> None:
        await entry.session.closed.wait()
        del self._entries[session_id]
        self._ended.add(entry)
        self._tell_metrics()
        if self._tidying is not None:
            self._tidying.cancel()
        self._tidying = asyncio.create_task(self._tidy(), name="tidy up")

    async def _tidy(self) -> None:
        await asyncio.sleep(TIDY_AFTER_S)
        await asyncio.to_thread(tidy_up)

    def _tell_metrics(self) -> None:
        self.metrics.set_sessions(len(self._entries))
        self.metrics.set_ready(self.state() == "ready")


def _livekit(spec: LiveKitRoom, canvas: Canvas, clock: Clock) -> Room:
    # Optional packages are loaded where they are needed, not by every worker.
    try:
        from worker.rooms.livekit import room as livekit
    except ImportError as error:
        raise _missing("livekit", error) from None
    return livekit.LiveKitRoom(spec.url, spec.token, canvas, clock=clock)


def _hear_agent(session: Session, metrics: Metrics) -> None:
    from worker.ingest.livekit_agent.agent_stream import hear_agent
    from worker.rooms.livekit import room as livekit

    assert isinstance(session.room, livekit.LiveKitRoom)
    hear_agent(session.room, session, metrics)


def _daily(spec: DailyRoom, request: SessionRequest, clock: Clock) -> Room:
    try:
        import daily as sdk

        from worker.rooms.daily import room as daily
    except ImportError as error:
        raise _missing("daily", error) from None
    return daily.DailyRoom(
        spec.url,
        spec.token,
        request.canvas,
        spec.user_name,
        clock,
        session_id=request.session_id,
        sdk=sdk,
    )


def _missing(platform: str, error: ImportError) -> PlatformNotInstalled:
    logger.warning("platform not installed", platform=platform, error=str(error))
    return PlatformNotInstalled(platform)


def _prepared(engine: Engine, photo: bytes, canvas: Canvas) -> Identity:
    identity = engine.prepare(load_photo(photo), canvas)
    hand_back()
    return identity
