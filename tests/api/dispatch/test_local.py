"""Resident workers: real ones, with both their servers, in this process."""

import asyncio
import json
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr

import api.dispatch.local
import api.dispatch.worker_client
from api.dispatch.local import LocalDispatcher
from api.dispatch.port import Capacity, NoWorker, OrderRefused, RoomToJoin
from api.settings import LocalSettings
from common.canvas_settings import CanvasSettings
from tests.api.dispatch.orders import TOKEN, order, stored
from tests.fakes.engine import FlapEngine
from tests.fakes.resident import SECRET, Running, body, photo

TINY = {"canvas": CanvasSettings(scale=0.1)}


class SlowToPrepare(FlapEngine):
    """Prepares when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = 0
        self.preparing = threading.Event()
        self.go_on = threading.Event()

    def prepare(self, portrait, canvas):
        self.preparing.set()
        assert self.go_on.wait(10)
        self.prepared += 1
        return super().prepare(portrait, canvas)


@asynccontextmanager
async def worker(*, start=True, **settings):
    async with Running(**{**TINY, **settings}) as running:
        if start:
            await running.worker.start()
        yield running


@asynccontextmanager
async def dispatcher(*workers, look_s=0.05, **settings):
    """``workers``: running ones, or addresses."""
    addresses = [each if isinstance(each, str) else each.worker.http_url for each in workers]
    facts = {"secret": SecretStr(SECRET), "warm_wait_s": 0.3, "timeout_s": 3, **settings}
    dispatcher = LocalDispatcher(LocalSettings(workers=addresses, **facts), look_s=look_s)
    await dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()


@pytest.fixture
def impatient(monkeypatch):
    """Workers are given up after a moment."""
    monkeypatch.setattr(api.dispatch.local, "END_TIMEOUT_S", 0.2)
    monkeypatch.setattr(api.dispatch.worker_client, "STATUS_TIMEOUT_S", 0.3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def report(dispatcher, session):
    return (await dispatcher.poll([session]))[session.id]


async def until(condition, what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


async def test_a_session_from_placing_to_its_end():
    async with worker() as one, dispatcher(one) as local:
        placement = await local.place(order())
        assert placement.worker == one.worker.http_url
        assert placement.ws_uri == one.worker.ws_uri
        assert placement.watch_uri == f"{one.worker.http_url}/whep/sess_1"
        session = stored(placement)

        async def ready():
            return (await report(local, session)).ready

        await until(ready, "ready")
        now = await report(local, session)
        assert (now.state, now.instance) == ("running", one.worker.instance)
        assert (now.ws_uri, now.watch_uri) == (placement.ws_uri, placement.watch_uri)
        # The token opens its speech socket, the metadata and the expiry came along.
        client = await one.enter("sess_1", TOKEN)
        established = json.loads(await client.recv())
        assert established["type"] == "connection.established"
        summary = one.worker.get("sess_1")
        assert summary.platform == "whep"
        assert summary.expires_at - datetime.now(UTC) > timedelta(minutes=59)

        await local.end(session, "minutes_exhausted")
        over = await report(local, session)
        assert (over.state, over.reason) == ("ended", "minutes_exhausted")
        assert abs((over.ended_at - datetime.now(UTC)).total_seconds()) < 5
        await local.end(session, "client_request")  # it is gone already
        assert (await report(local, session)).reason == "minutes_exhausted"


async def test_a_session_is_never_run_twice():
    async with worker() as one, dispatcher(one) as local:
        first = await local.place(order())
        again = await local.place(order())
        assert again == first
        assert len(one.worker.sessions()) == 1
        await local.end(stored(first), "client_request")
        after = await local.place(order())
        assert one.worker.sessions() == []
        assert (await report(local, stored(after))).state == "ended"


async def test_a_burst_spreads_over_the_workers_and_stops_at_what_they_hold():
    async with (
        worker(max_sessions=3) as one,
        worker(max_sessions=3) as two,
        dispatcher(one, two, look_s=60) as local,
    ):
        await asyncio.gather(*(local.place(order(f"sess_{n}")) for n in range(4)))
        assert len(one.worker.sessions()) == len(two.worker.sessions()) == 2
        results = await asyncio.gather(
            *(local.place(order(f"more_{n}")) for n in range(6)), return_exceptions=True
        )
        assert sum(isinstance(each, NoWorker) for each in results) == 4
        assert len(one.worker.sessions()) == len(two.worker.sessions()) == 3
        assert await local.capacity() == Capacity(2, 6, 6, ("flap, 128x96",))


async def test_the_larger_worker_takes_more():
    async with (
        worker(max_sessions=1) as small,
        worker(max_sessions=4) as large,
        dispatcher(small, large) as local,
    ):
        for n in range(4):
            await local.place(order(f"sess_{n}"))
        assert (len(small.worker.sessions()), len(large.worker.sessions())) == (1, 3)


async def test_a_slot_that_was_just_freed_is_found_without_waiting_for_the_next_look():
    async with worker(max_sessions=1) as one, dispatcher(one, look_s=60) as local:
        first = await local.place(order("sess_1"))
        with pytest.raises(NoWorker):
            await local.place(order("sess_2"))
        await local.end(stored(first), "client_request")
        assert (await local.place(order("sess_2"))).worker == one.worker.http_url


async def test_a_worker_that_refuses_is_passed_over():
    """What is known of it is old: it has filled up, or it drains."""
    async with (
        worker(max_sessions=1) as one,
        worker(max_sessions=1) as two,
        dispatcher(one, two, look_s=60) as local,
    ):
        await local.capacity()
        await one.http.post("/sessions", json=body("sess_of_somebody_else"))
        assert (await local.place(order("sess_1"))).worker == two.worker.http_url
        with pytest.raises(NoWorker):
            await local.place(order("sess_2"))
    async with worker() as one, worker() as two, dispatcher(one, two, look_s=60) as local:
        await local.poll([])
        await local.place(order("sess_0"))
        await two.worker.drain(0)
        await local.place(order("sess_1"))
        assert len(one.worker.sessions()) == 2


async def test_what_the_worker_says_against_an_order_is_told():
    async with worker() as one, dispatcher(one) as local:
        with pytest.raises(OrderRefused) as refused:
            await local.place(order(portrait=b"no photo at all"))
        assert refused.value.code == "UNSUPPORTED_IMAGE_TYPE"
        assert refused.value.message
        assert refused.value.suggestion
        with pytest.raises(OrderRefused) as refused:
            await local.place(
                order(room=RoomToJoin("livekit", "ftp://somewhere", "token-of-a-room"))
            )
        assert refused.value.code == "INVALID_ROOM_URL"
        assert (await local.place(order())).worker == one.worker.http_url


async def test_workers_that_are_starting_are_waited_for_but_not_for_ever():
    async with worker(start=False) as one, dispatcher(one, warm_wait_s=5) as local:
        placing = asyncio.create_task(local.place(order()))
        await asyncio.sleep(0.3)
        assert not placing.done()
        await one.worker.start()
        assert (await placing).worker == one.worker.http_url
    async with worker(start=False) as one, dispatcher(one, warm_wait_s=0.2) as local:
        with pytest.raises(NoWorker):
            await local.place(order())


async def test_no_worker_answers():
    async with dispatcher(f"http://127.0.0.1:{free_port()}", warm_wait_s=30) as local:
        with pytest.raises(NoWorker):
            await asyncio.wait_for(local.place(order()), 5)
        assert (await local.capacity()).workers == 0


async def test_a_dead_worker_is_skipped_silent_and_found_again():
    ports = {"http_port": free_port(), "ws_port": free_port()}
    async with worker() as two:
        address = f"http://127.0.0.1:{ports['http_port']}"
        async with dispatcher(address, two) as local:
            async with worker(**ports) as one:

                async def found():
                    return (await local.capacity()).slots == 4

                await until(found, "both workers")
                placement = await local.place(order("sess_1"))
                assert placement.worker == address
                session = stored(placement)
                first_life = one.worker.instance
                assert (await report(local, session)).state == "running"
            # It died mid-session, with what it knew.
            assert (await report(local, session)).state == "silent"
            assert (await local.place(order("sess_2"))).worker == two.worker.http_url
            await asyncio.wait_for(local.end(session, "server_error"), 5)
            async with worker(**ports) as one:
                await until(found, "the worker again")
                lost = await report(local, session)
                assert (lost.state, lost.instance) == ("lost", one.worker.instance)
                assert one.worker.instance != first_life
                assert (await local.place(order("sess_3"))).worker == address


async def test_the_ends_of_a_new_process_are_told_from_its_first_on():
    ports = {"http_port": free_port(), "ws_port": free_port()}
    async with dispatcher(f"http://127.0.0.1:{ports['http_port']}", look_s=60) as local:
        async with worker(**ports):
            sessions = []
            for n in range(2):
                sessions.append(stored(await local.place(order(f"old_{n}")), f"old_{n}"))
                await local.end(sessions[-1], "expired")
            reports = await local.poll(sessions)
            assert {each.reason for each in reports.values()} == {"expired"}
        async with worker(**ports):
            placement = await local.place(order("new"))
            await local.end(stored(placement, "new"), "room_empty")
            reports = await local.poll([*sessions, stored(placement, "new")])
            assert reports["new"].reason == "room_empty"
            assert {reports["old_0"].state, reports["old_1"].state} == {"lost"}


async def test_many_sessions_are_one_question_to_each_worker():
    async with (
        worker(max_sessions=8) as one,
        worker(max_sessions=8) as two,
        dispatcher(one, two, look_s=60) as local,
    ):
        sessions = [stored(await local.place(order(f"sess_{n}")), f"sess_{n}") for n in range(8)]
        asked = {one.worker: 0, two.worker: 0}
        for each in asked:
            each.status = _counted(each, asked)
        reports = await local.poll(sessions)
        assert {each.state for each in reports.values()} == {"running"}
        assert list(asked.values()) == [1, 1]
        await asyncio.gather(*(local.poll(sessions) for _ in range(20)))
        assert max(asked.values()) <= 3, "calls that overlap share an answer"


def _counted(worker, asked):
    real = type(worker).status

    def status(after=0):
        asked[worker] += 1
        return real(worker, after)

    return status


async def test_a_session_nobody_knows_is_lost_and_a_foreign_handle_is_silent():
    async with worker() as one, dispatcher(one) as local:
        placement = await local.place(order())
        unknown = stored(placement, "sess_9")
        elsewhere = stored(placement, "sess_1", worker="spawned-of-another-process")
        assert (await report(local, unknown)).state == "lost"
        assert (await report(local, elsewhere)).state == "silent"
        await local.end(elsewhere, "client_request")
        assert len(one.worker.sessions()) == 1


async def test_a_worker_no_longer_listed_keeps_its_sessions():
    async with worker() as one, worker() as two:
        async with dispatcher(one) as before:
            session = stored(await before.place(order()))
        async with dispatcher(two) as after:
            assert (await report(after, session)).state == "running"
            await after.end(session, "expired")
            assert (await report(after, session)).reason == "expired"


async def test_a_worker_that_hangs_over_an_order():
    """It is still at it when we lose patience: the session runs there, or nowhere."""
    engine = SlowToPrepare()
    async with (
        worker(load_engine=lambda: engine) as one,
        worker() as two,
        dispatcher(one, two, timeout_s=0.4) as local,
    ):
        placement = await local.place(order())
        assert placement.worker == one.worker.http_url, "it has taken the order"
        assert (await report(local, stored(placement))).state == "starting"
        engine.go_on.set()

        async def running():
            return (await report(local, stored(placement))).state == "running"

        await until(running, "the session")
        assert two.worker.sessions() == []


class Mute:
    """Before a worker: takes every request to it, and may pass none or no answer on."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.mode = "pass"

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._tasks = set()
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there, into = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pipe(reader, into, answers=False))
                group.create_task(self._pipe(there, writer, answers=True))
        except* (ConnectionError, EOFError):
            pass
        finally:
            into.close()
            writer.close()

    async def _pipe(self, source, target, answers):
        while data := await source.read(65536):
            if self.mode == ("swallow answers" if answers else "swallow requests"):
                continue
            if answers and self.mode == "break at answers":
                self.mode = "pass"
                raise ConnectionError
            target.write(data)
            await target.drain()
        raise EOFError


async def test_an_answer_that_is_lost_with_its_connection_does_not_lose_the_session():
    async with (
        worker() as one,
        worker() as two,
        Mute(one.port).running() as between,
        dispatcher(between.address, two, look_s=60) as local,
    ):
        await local.poll([])
        await asyncio.sleep(0.1)
        between.mode = "break at answers"
        placement = await local.place(order())
        assert placement.worker == between.address
        assert len(one.worker.sessions()) == 1
        assert two.worker.sessions() == []


async def test_a_worker_that_took_the_order_and_fell_mute_is_told_when_it_is_back(impatient):
    async with (
        worker() as one,
        worker() as two,
        Mute(one.port).running() as between,
        dispatcher(between.address, two, timeout_s=0.3) as local,
    ):

        async def found():
            return (await local.capacity()).workers == 2

        await until(found, "both workers")
        between.mode = "swallow answers"
        placement = await local.place(order())
        assert placement.worker == two.worker.http_url
        assert len(one.worker.sessions()) == 1, "it runs there, unknown to us"
        between.mode = "pass"

        async def ended():
            return not one.worker.sessions()

        await until(ended, "the end of the session nobody wants")
        assert (await report(local, stored(placement))).state == "running"


async def test_an_end_that_did_not_get_through_is_told_later(impatient):
    async with (
        worker() as one,
        Mute(one.port).running() as between,
        dispatcher(between.address) as local,
    ):
        session = stored(await local.place(order()))
        between.mode = "swallow requests"
        assert (await report(local, session)).state == "silent"
        await asyncio.wait_for(local.end(session, "minutes_exhausted"), 3)
        assert len(one.worker.sessions()) == 1
        between.mode = "pass"

        async def ended():
            return (await report(local, session)).reason == "minutes_exhausted"

        await until(ended, "the end")


async def test_a_session_whose_placing_was_never_noted_is_ended_wherever_it_is():
    """As when the process died between the worker's answer and noting it."""
    async with worker() as one, worker() as two, dispatcher(one, two) as local:
        session = stored(await local.place(order()))
        await asyncio.wait_for(local.end(replace(session, worker=None), "join_failed"), 1)

        async def ended():
            return not one.worker.sessions() and not two.worker.sessions()

        await until(ended, "the end of the session nobody noted")
        assert (await report(local, session)).reason == "join_failed"


async def test_a_wrong_secret_is_said_without_telling_it():
    wrong = "another-secret-of-16"
    async with worker() as one:
        with structlog.testing.capture_logs() as logs:
            async with dispatcher(one, secret=SecretStr(wrong)) as local:
                with pytest.raises(NoWorker):
                    await local.place(order())
                assert (await local.capacity()).workers == 0
    assert any("AVATAR_API_LOCAL__SECRET" in str(line) for line in logs)
    for secret in (wrong, TOKEN, SECRET):
        assert secret not in str(logs)


async def test_a_portrait_is_prepared_ahead_once():
    engine = SlowToPrepare()
    engine.go_on.set()
    async with worker(load_engine=lambda: engine) as one, dispatcher(one) as local:
        await local.poll([])

        async def found():
            return (await local.capacity()).workers == 1

        await until(found, "the worker")
        await local.warm(photo(), "1:1")
        await local.place(order())
        assert engine.prepared == 1


async def test_a_portrait_is_prepared_for_one_aspect_ratio_after_the_other():
    engine = SlowToPrepare()
    engine.go_on.set()
    async with worker(load_engine=lambda: engine) as one, dispatcher(one) as local:
        await local.poll([])

        async def found():
            return (await local.capacity()).workers == 1

        await until(found, "the worker")
        await local.warm(photo(), "4:3")
        await local.warm(photo(), "1:1")
        assert engine.prepared == 2


async def test_nothing_is_left_running():
    async with worker() as one:
        inside = asyncio.all_tasks()
        async with dispatcher(one) as local:
            await local.place(order())
            await local.warm(photo(7), "1:1")
        left = [task for task in asyncio.all_tasks() - inside if "/api/dispatch/" in repr(task)]
        assert left == []
