"""How the parts of the control plane are put together. Opens nothing, starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from api.avatars.port import MediaStore, PortraitMaker
from api.avatars.service import Avatars
from api.container.services import Services, utc_now
from api.dispatch.port import Dispatcher
from api.http.ratelimit import RateLimits
from api.metrics import ApiMetrics
from api.plans import Plans
from api.secret import Secret
from api.sessions.sessions import Sessions
from api.sessions.supervisor import Supervisor
from api.settings import ApiSettings
from api.store.port import Store

if TYPE_CHECKING:
    from api.sessions.livekit_rooms import LiveKitRooms


def assemble(
    settings: ApiSettings,
    secret: Secret,
    store: Store,
    media: MediaStore,
    portraits: PortraitMaker,
    dispatcher: Dispatcher,
    plans: Plans,
    livekit: LiveKitRooms | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Services:
    """The services of one process, over parts that others opened and will close.

    Raises:
        SettingsError: the Redis URL cannot be used.
    """
    metrics = ApiMetrics()
    avatars = Avatars(settings, secret, store, media, portraits, dispatcher, now)
    sessions = Sessions(settings, secret, store, dispatcher, plans, metrics, livekit, avatars, now)
    lifecycle = settings.lifecycle
    if settings.dispatcher == "runpod":
        lifecycle = lifecycle.model_copy(update={"heartbeat_s": settings.runpod.heartbeat_s})
    supervisor = Supervisor(lifecycle, store, dispatcher, plans, metrics, sessions, now)
    return Services(
        settings=settings,
        secret=secret,
        store=store,
        media=media,
        portraits=portraits,
        dispatcher=dispatcher,
        plans=plans,
        metrics=metrics,
        rates=RateLimits(settings, metrics),
        livekit=livekit,
        avatars=avatars,
        sessions=sessions,
        supervisor=supervisor,
        now=now,
    )
