"""What the routes, the gateway and the supervisor work with: one bundle, made once per process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from api.avatars.port import MediaStore, PortraitMaker
from api.dispatch.port import Dispatcher
from api.plans import Plans
from api.settings import ApiSettings
from api.store.port import Store

if TYPE_CHECKING:
    from api.avatars.service import Avatars
    from api.http.ratelimit import RateLimits
    from api.metrics import ApiMetrics
    from api.secret import Secret
    from api.sessions.livekit_rooms import LiveKitRooms
    from api.sessions.sessions import Sessions
    from api.sessions.supervisor import Supervisor


def utc_now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


@dataclass
class Services:
    """Everything a request may need. Tests put doubles in; nothing is looked up elsewhere."""

    settings: ApiSettings
    secret: Secret
    store: Store
    media: MediaStore
    portraits: PortraitMaker
    dispatcher: Dispatcher
    plans: Plans
    metrics: ApiMetrics
    rates: RateLimits
    livekit: LiveKitRooms | None
    """None: no LiveKit server of our own, no ``proxy`` rooms."""
    avatars: Avatars
    sessions: Sessions
    supervisor: Supervisor
    now: Callable[[], datetime] = utc_now
