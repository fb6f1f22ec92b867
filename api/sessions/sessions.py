"""The life of a session, from being asked for to being over: who may have one, who runs it, and who
is told when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from ulid import ULID

from api.auth import Caller
from api.avatars.service import Avatars
from api.dispatch.port import Dispatcher
from api.http.errors import ApiError, api_error
from api.metrics import ApiMetrics
from api.plans import Plans
from api.records import (
    Account,
    Avatar,
    EndReason,
    NewSession,
    QuotaSnapshot,
    Session,
    SessionStatus,
)
from api.secret import Secret, token_digest
from api.sessions.body import CreateBody, RoomRules
from api.sessions.placement import Placements
from api.sessions.watch_links import WatchLinks
from api.settings import ApiSettings
from api.store.port import (
    ConcurrencyReached,
    IdempotencyConflict,
    NoMinutes,
    SessionMissing,
    SessionOver,
    Store,
    Stored,
)

if TYPE_CHECKING:
    from api.sessions.livekit_rooms import LiveKitRooms

logger = structlog.get_logger(__name__)

TELL_S = 2.0
"""Nobody waits longer for a worker to be told that a session is over."""
IMAGE_S = 30.0
"""Time for an image given in place of an avatar id."""
FIRST_PLACED_S = 50.0
"""A repeated request waits so long for the first one, here or in another process, to find a
worker."""
_POLL_S = 0.05
CLOSE_S = 5.0

TRY_AGAIN = "try_again"
"""Stands for a speech address as long as there is none."""


class Poll(Protocol):
    """``Supervisor.poll``."""

    def __call__(self, sessions: Sequence[Session]) -> Awaitable[None]:
        """Ask the workers how these fare, and act on it."""
        ...


@dataclass(frozen=True)
class Created:
    """What a create came to."""

    session: Session
    token: str = field(repr=False)
    ws_uri: str
    room: dict[str, str] | None = field(repr=False)
    """What the answer says of the room; None: nothing."""
    quota: QuotaSnapshot


class Sessions:
    """Creates, starts and ends sessions. Safe to use from many tasks and processes."""

    def __init__(
        self,
        settings: ApiSettings,
        secret: Secret,
        store: Store,
        dispatcher: Dispatcher,
        plans: Plans,
        metrics: ApiMetrics,
        livekit: LiveKitRooms | None,
        avatars: Avatars,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._store = store
        self._dispatcher = dispatcher
        self._plans = plans
        self._metrics = metrics
        self._livekit = livekit
        self._avatars = avatars
        self._now = now
        self._links = WatchLinks(secret, settings)
        self._placements = Placements(
            settings, secret, store, dispatcher, metrics, livekit, avatars, now, self._tell
        )
        self._background: set[asyncio.Task[Any]] = set()
        self.poll: Poll | None = None
        """How to find out about sessions that have ended on their worker just now."""
        self.draining = False
        """The process is going: no new sessions."""

    async def aclose(self) -> None:
        """Wait a moment for placements and farewells under way, then undo what is unfinished."""
        self.draining = True
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @property
    def room_rules(self) -> RoomRules:
        """What rooms this installation can serve."""
        return RoomRules(self._dispatcher.platforms, self._livekit is not None)

    # Creating

    async def create(
        self, caller: Caller, body: CreateBody, idempotency_key: str | None = None
    ) -> Created:
        """A session for the caller, with a worker unless it is to be started later. A repeated
        request returns the first one's session.

        The caller may go away meanwhile: the session is then either there and has its worker, or
        was never there.

        Raises:
            ApiError: why there is none.
        """
        self._refuse_when_draining()
        new = NewSession(
            id=f"sess_{ULID()}",
            account_id=caller.account.id,
            avatar_id="",
            aspect_ratio=body.aspect_ratio,
            room=body.room,
            metadata=body.metadata,
            token_digest=b"",
            start=body.start,
            fingerprint=body.fingerprint,
            idempotency_key=idempotency_key,
            request_digest=body.digest,
            max_minutes=body.max_minutes,
        )
        new = replace(new, token_digest=token_digest(self._secret.session_token(new.id)))
        avatar: Avatar | None
        if body.avatar_form == "id":
            try:
                avatar = await self._avatars.resolve(caller.account, body.avatar)
            except ApiError:
                # What comes before the avatar has the first word.
                repeated = await self._repeated(new)
                if repeated is None:
                    await self._admit(caller)
                    raise
                return await self._created(caller, await self._settled(repeated))
        else:
            repeated = await self._repeated(new)
            if repeated is not None:
                return await self._created(caller, await self._settled(repeated))
            avatar = await self._avatar_of_image(caller, body)
        new = replace(new, avatar_id=avatar.id)
        stored = await self._stored(caller, new, avatar)
        return await self._created(caller, stored.session, stored.quota)

    async def _stored(self, caller: Caller, new: NewSession, avatar: Avatar) -> Stored:
        """Reserve and place, whatever becomes of the one who asked."""
        return await asyncio.shield(self._spawn(self._store_and_place(caller, new, avatar)))

    async def _store_and_place(self, caller: Caller, new: NewSession, avatar: Avatar) -> Stored:
        stored = await self._reserve(caller, new)
        session = stored.session
        if not stored.new:
            return replace(stored, session=await self._settled(session))
        if new.start:
            session = await self._placements.place(
                session, new.room, avatar, self._store.discard_session
            )
        self._metrics.session_created(session.platform)
        logger.info("session created", session_id=session.id, platform=session.platform)
        return replace(stored, session=session)

    async def _reserve(self, caller: Caller, new: NewSession) -> Stored:
        for last in (False, True):
            try:
                return await self._store.create_session(new, caller.plan, self._now())
            except IdempotencyConflict:
                raise api_error("IDEMPOTENCY_CONFLICT") from None
            except NoMinutes:
                raise self._no_minutes() from None
            except ConcurrencyReached as error:
                if last:
                    raise self._concurrency_reached(error.current, error.maximum) from None
                await self._poll_again(caller)
        raise AssertionError

    async def _repeated(self, new: NewSession) -> Session | None:
        try:
            return await self._store.repeated_session(
                new.account_id,
                new.fingerprint,
                new.idempotency_key,
                new.request_digest,
                self._now(),
            )
        except IdempotencyConflict:
            raise api_error("IDEMPOTENCY_CONFLICT") from None

    async def _admit(self, caller: Caller) -> None:
        """Refuse what cannot be had anyway, before work is done for it."""
        for last in (False, True):
            usage = await self._store.usage(caller.account, caller.plan, self._now())
            if usage.total_remaining == 0:
                raise self._no_minutes()
            running = len(usage.active)
            if running < caller.plan.concurrency:
                return
            if last:
                raise self._concurrency_reached(running, caller.plan.concurrency)
            await self._poll_again(caller)

    async def _poll_again(self, caller: Caller) -> None:
        """A session that has just ended on its worker does not block a new one."""
        if self.poll is None:
            return
        running, _ = await self._store.sessions_of(caller.account.id, "started", 500, 0)
        await self.poll(running)

    async def _avatar_of_image(self, caller: Caller, body: CreateBody) -> Avatar:
        if not caller.plan.images_in_sessions:
            raise api_error("IMAGE_INPUT_NOT_ALLOWED")
        await self._admit(caller)
        make = self._avatars.from_url if body.avatar_form == "url" else self._avatars.from_base64
        try:
            async with asyncio.timeout(IMAGE_S):
                return await make(caller.account, caller.plan, body.avatar)
        except TimeoutError:
            raise api_error("IMAGE_CHECK_UNAVAILABLE") from None

    async def _settled(self, session: Session) -> Session:
        """The session of a first request, once it has its worker."""
        until = time.monotonic() + FIRST_PLACED_S
        while session.status == "started" and session.worker is None and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
            found = await self._store.session(session.id)
            if found is None:
                raise api_error("NO_CAPACITY")
            session = found
        return session

    async def _created(
        self, caller: Caller, session: Session, quota: QuotaSnapshot | None = None
    ) -> Created:
        if quota is None:
            quota = (await self._store.usage(caller.account, caller.plan, self._now())).quota
        token = self._secret.session_token(session.id)
        gateway = self._settings.ws_uri == "gateway"
        # The gateway takes speech before the worker is there.
        ws_uri = self._settings.gateway_url if gateway else self.ws_uri(session)
        return Created(session, token, ws_uri, self._room_view(session), quota)

    def _room_view(self, session: Session) -> dict[str, str] | None:
        if session.platform == "local":
            return self._links.urls(session.id, session.expires_at, self._now())
        if session.platform == "proxy" and self._livekit is not None:
            room = self._livekit.open(session.id, session.expires_at, self._now())
            return {"roomURL": room.url, "participantToken": room.client_token}
        return None

    # Starting

    async def start(self, caller: Caller, session_id: str) -> Session:
        """Start a session that was only created; one that is started already stays as it is.

        Raises:
            ApiError: SESSION_NOT_FOUND, SESSION_ENDED, or as ``create``.
        """
        session = await self.get(caller.account, session_id)
        if session.status == "ended":
            raise api_error("SESSION_ENDED")
        if session.status == "started":
            return session
        self._refuse_when_draining()
        return await asyncio.shield(self._spawn(self._start(caller, session)))

    async def _start(self, caller: Caller, session: Session) -> Session:
        avatar = await self._store.avatar(session.avatar_id)
        if avatar is None:
            raise api_error("AVATAR_NOT_FOUND")
        room = await self._store.room_of(session.id)
        for last in (False, True):
            try:
                session, begun = await self._store.start_session(
                    session.id, caller.account.id, caller.plan, self._now()
                )
                break
            except SessionMissing:
                raise api_error("SESSION_NOT_FOUND") from None
            except SessionOver:
                raise api_error("SESSION_ENDED") from None
            except NoMinutes:
                raise self._no_minutes() from None
            except ConcurrencyReached as error:
                if last:
                    raise self._concurrency_reached(error.current, error.maximum) from None
                await self._poll_again(caller)
        if not begun or room is None:
            return session
        return await self._placements.place(session, room, avatar, self._store.unstart_session)

    def ws_uri(self, session: Session) -> str:
        """The speech address clients are told, ``try_again`` while no worker can be reached."""
        if session.ws_uri is None:
            return TRY_AGAIN
        return self._settings.gateway_url if self._settings.ws_uri == "gateway" else session.ws_uri

    # Looking

    async def get(self, account: Account, session_id: str) -> Session:
        """The account's session.

        Raises:
            ApiError: SESSION_NOT_FOUND, another account's too.
        """
        session = await self._store.session_of(account.id, session_id)
        if session is None:
            raise api_error("SESSION_NOT_FOUND")
        return session

    async def page(
        self, account: Account, status: SessionStatus | None, limit: int, offset: int
    ) -> tuple[Sequence[Session], int]:
        """A page of the account's sessions, newest first, and how many there are in all."""
        return await self._store.sessions_of(account.id, status, limit, offset)

    # Ending

    async def end(self, account: Account, session_id: str) -> Session:
        """End a session; one that has ended already stays as it is.

        Raises:
            ApiError: SESSION_NOT_FOUND or SESSION_NOT_STARTED.
        """
        session = await self.get(account, session_id)
        if session.status == "created":
            raise api_error("SESSION_NOT_STARTED")
        if session.status == "ended":
            return session
        ended = await asyncio.shield(
            self._spawn(self.finish(session, "client_request", self._now(), account=account))
        )
        return ended or await self.get(account, session_id)

    async def finish(
        self,
        session: Session,
        reason: EndReason,
        at: datetime,
        *,
        account: Account | None = None,
        tell: bool = True,
    ) -> Session | None:
        """The session is over since ``at``: its worker is told (unless it said so itself), it is
        recorded and billed, its own room is closed. None: it was over before. Its ``account`` is
        looked up where the caller does not have it.

        The worker is told first: should this process die in between, the worker's word is still
        there for the next poll. The other way round nobody would ever tell it.
        """
        if tell and session.status == "started":
            await self._tell(session, reason)
        if account is None:
            account = await self._store.account(session.account_id)
        plan = self._plans.get(account.plan_key if account is not None else "")
        ended = await self._store.end_session(session.id, reason, plan, at)
        if ended is None:
            return None
        self._metrics.session_ended(reason)
        logger.info(
            "session ended",
            session_id=ended.id,
            reason=reason,
            seconds=ended.duration_s(at),
            minutes=ended.bill.minutes_used if ended.bill is not None else 0,
        )
        if ended.platform == "proxy" and self._livekit is not None:
            self._spawn(self._livekit.close(ended.id))
        return ended

    async def _tell(self, session: Session, reason: EndReason) -> None:
        """Tell the worker; a slow one hears it later."""
        task = self._spawn(self._dispatcher.end(session, reason))
        done, _ = await asyncio.wait({task}, timeout=TELL_S)
        if done and not task.cancelled() and (error := task.exception()) is not None:
            logger.error("worker not told", session_id=session.id, exc_info=error)

    # Refusing

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise api_error("DRAINING")

    def _no_minutes(self) -> ApiError:
        return api_error(
            "INSUFFICIENT_MINUTES",
            status=self._settings.insufficient_minutes_status,
            details={"minutes": {"total_remaining": 0}},
        )

    def _concurrency_reached(self, current: int, maximum: int) -> ApiError:
        figures = {
            "current": current,
            "max": maximum,
            "available": max(0, maximum - current),
        }
        return api_error(
            "CONCURRENCY_LIMIT_REACHED",
            status=self._settings.concurrency_status,
            details={"concurrency": figures},
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that lives on when its caller goes, and is waited for at the end."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
