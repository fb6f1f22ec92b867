"""The dispatcher that the settings ask for."""

from __future__ import annotations

from api.dispatch.local import LocalDispatcher
from api.dispatch.port import Dispatcher
from api.dispatch.runpod import RunPodDispatcher
from api.dispatch.spawn import SpawnedWorker
from api.settings import PREFIX, ApiSettings, SettingsError


def open_dispatcher(settings: ApiSettings) -> Dispatcher:
    """The dispatcher, not started yet.

    Raises:
        SettingsError: something it needs is not set.
    """
    if settings.dispatcher == "runpod":
        return RunPodDispatcher(settings.runpod)
    return _local(settings)


def _local(settings: ApiSettings) -> Dispatcher:
    local = settings.local
    for address in local.workers:
        if not address.startswith(("http://", "https://")) or len(address) > 512:
            raise SettingsError(
                f"{PREFIX}LOCAL__WORKERS: {address!r} is no address; write"
                ' ["http://127.0.0.1:8080"]'
            )
    spawn = local.spawn if local.spawn is not None else not local.workers
    if not spawn and not local.workers:
        raise SettingsError(
            f"{PREFIX}LOCAL__SPAWN is false and {PREFIX}LOCAL__WORKERS is empty: there would be no"
            " worker. Set one of them."
        )
    spawned = SpawnedWorker(settings.log, drain_s=settings.lifecycle.drain_s) if spawn else None
    return LocalDispatcher(local, look_s=settings.lifecycle.look_s, spawned=spawned)
