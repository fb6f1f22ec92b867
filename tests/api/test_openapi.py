"""The OpenAPI document tells the truth: generated requests, right and wrong ones, never end in a
500 nor in an answer the document does not have."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis
import hypothesis.errors
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.app import create_app
from api.auth import Caller
from api.avatars.folder import FolderMedia
from api.container.assembly import assemble
from api.http.listen import bind
from api.plans import load_plans
from api.secret import Secret
from api.server import http_server
from api.sessions.body import CreateBody
from api.settings import ApiSettings
from api.store.migrate import migrate
from api.store.sql import open_store
from tests.api.conftest import SAMPLE, SECRET, QuickPortraits, add_avatar
from tests.fakes.dispatcher import FakeDispatcher

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
    unsupported_method,
    allow_header_conformance,
]


class Running:
    """The control plane on a port of its own, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.url = ""
        self.key = ""
        self.sessions: list[str] = []

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        settings = ApiSettings(
            data_dir=self._folder, port=0, secret=SECRET, rate_limit_per_minute=0
        )
        listener = bind(settings)
        port = listener.getsockname()[1]
        settings = settings.model_copy(update={"port": port})
        await migrate(settings.database)
        secret = Secret(SECRET)
        store = await open_store(settings.database, secret.key("room tokens"))
        services = assemble(
            settings,
            secret,
            store,
            FolderMedia(self._folder / "media"),
            QuickPortraits(),
            FakeDispatcher(),
            load_plans(None, "enterprise"),
        )
        account = await store.create_account("tester", "enterprise", services.now())
        api_key, self.key = await store.create_key(account.id, "k", services.now())
        await add_avatar(services, SAMPLE, None)
        await add_avatar(services, "avat_mine", account.id)
        caller = Caller(account, api_key, services.plans.get(account.plan_key))
        for start in (True, True, False):
            body = CreateBody(avatar=SAMPLE, start=start)
            created = await services.sessions.create(caller, body)
            self.sessions.append(created.session.id)
        services.supervisor.start()
        async with http_server(create_app(services), settings, listener):
            self.url = f"http://127.0.0.1:{port}"
            self._ready.set()
            await self._stop.wait()
        await services.supervisor.aclose()
        await services.sessions.aclose()
        await services.avatars.aclose()
        await services.rates.aclose()
        await store.aclose()
        listener.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("openapi")) as found:
        yield found


DOCUMENT: dict[str, Any] = create_app(cast(Any, None)).openapi()
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]


@schemathesis.serializer("application/sdp", "text/plain")
def as_text(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def made_real(case: Any, running: Running, number: int) -> None:
    """Every other case is about things that exist: else all that is tested is "not found"."""
    if number % 2:
        return
    for name, real in (("session_id", running.sessions[number % 3]), ("avatar_id", SAMPLE)):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = real
    body = case.body
    if isinstance(body, dict):
        for name in ("avatar", "avatar_id"):
            if isinstance(body.get(name), str):
                body[name] = SAMPLE
        if isinstance(body.get("room"), dict) and number % 4:
            body["room"] = {"platform": "local"}


_SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def try_out(running: Running, operation: Any, mode: GenerationMode, cases: int) -> None:
    """Send ``cases`` requests, the same ones in every run."""
    numbers = itertools.count()

    @hypothesis.seed(20260314)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=_SLOW,
        phases=(hypothesis.Phase.generate,),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        made_real(case, running, next(numbers))
        case.call_and_validate(
            base_url=running.url, headers={"x-api-key": running.key}, checks=CHECKS
        )

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):
        # Where a request has no parts there is no wrong one either.
        run()


modes = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)


@modes
@operations
def test_generated_requests(running: Running, operation: Any, mode: GenerationMode) -> None:
    try_out(running, operation, mode, 6)


@pytest.mark.slow
@modes
@operations
def test_two_thousand_generated_requests(
    running: Running, operation: Any, mode: GenerationMode
) -> None:
    # 34 of the 38 have anything to vary.
    try_out(running, operation, mode, 62)


class TestDocument:
    def test_every_keyed_route_says_so(self) -> None:
        schemes = DOCUMENT["components"]["securitySchemes"]
        assert schemes["ApiKey"] == {"type": "apiKey", "in": "header", "name": "x-api-key"}
        for path, operations in DOCUMENT["paths"].items():
            for method, operation in operations.items():
                keyed = path.startswith("/v1/")
                assert bool(operation.get("security")) is keyed, f"{method} {path}"
                assert ("401" in operation["responses"]) is keyed, f"{method} {path}"
                assert "422" not in operation["responses"], f"{method} {path}"
                if keyed:
                    assert "429" in operation["responses"], f"{method} {path}"

    def test_the_three_forms_of_errors(self) -> None:
        create = DOCUMENT["paths"]["/v1/sessions"]["post"]["responses"]
        assert {"200", "400", "401", "403", "404", "409", "413", "429", "503"} <= set(create)
        two = create["429"]["content"]["application/json"]["schema"]["anyOf"]
        assert {each["$ref"].rsplit("/")[-1] for each in two} == {
            "ErrorAnswer",
            "RateLimitedAnswer",
        }
        unauthorized = DOCUMENT["components"]["schemas"]["UnauthorizedAnswer"]
        assert unauthorized["properties"]["error"]["type"] == "string"
        assert unauthorized["required"] == ["error"]

    def test_what_is_never_null(self) -> None:
        schemas = DOCUMENT["components"]["schemas"]
        for name in ("CreatedSession", "SessionView"):
            for field in ("metadata", "aspect_ratio", "duration", "room"):
                shape = schemas[name]["properties"].get(field, {})
                assert "null" not in str(shape), f"{name}.{field}"
