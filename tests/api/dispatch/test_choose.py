"""Which dispatcher the settings ask for."""

import pytest

from api.dispatch.choose import open_dispatcher
from api.dispatch.local import LocalDispatcher
from api.dispatch.runpod import RunPodDispatcher
from api.settings import ApiSettings, SettingsError

ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("local", "spawns"),
    [
        ({}, True),
        ({"workers": [ADDRESS]}, False),
        ({"workers": [ADDRESS], "spawn": True}, True),
        ({"spawn": True}, True),
    ],
)
async def test_a_worker_is_spawned_where_none_is_named_or_it_is_asked_for(local, spawns):
    chosen = open_dispatcher(ApiSettings(local=local))
    assert isinstance(chosen, LocalDispatcher)
    assert (chosen._spawned is not None) is spawns
    assert "local" in chosen.platforms
    await chosen.aclose()


@pytest.mark.parametrize(
    ("local", "named"),
    [
        ({"spawn": False}, "AVATAR_API_LOCAL__WORKERS"),
        ({"workers": ["127.0.0.1:8080"]}, "AVATAR_API_LOCAL__WORKERS"),
    ],
)
def test_nobody_to_run_sessions(local, named):
    with pytest.raises(SettingsError, match=named):
        open_dispatcher(ApiSettings(local=local))


async def test_runpod():
    chosen = open_dispatcher(
        ApiSettings(dispatcher="runpod", runpod={"endpoint_id": "abc123", "api_key": "key"})
    )
    assert isinstance(chosen, RunPodDispatcher)
    assert chosen.platforms == {"livekit", "daily", "proxy"}
    await chosen.aclose()
