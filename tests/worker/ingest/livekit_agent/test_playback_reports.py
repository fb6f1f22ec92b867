"""How reports reach an agent that answers badly, late or not at all."""

import asyncio
import json
from types import SimpleNamespace

import pytest

rtc = pytest.importorskip("livekit.rtc")

from worker.ingest.livekit_agent import playback_reports  # noqa: E402
from worker.ingest.livekit_agent.agent_stream_core import PlaybackFinished, PlaybackStarted  # noqa: E402
from worker.ingest.livekit_agent.playback_reports import PlaybackReports  # noqa: E402
from worker.metrics import Metrics  # noqa: E402

Code = rtc.RpcError.ErrorCode
STARTED, FINISHED = "lk.playback_started", "lk.playback_finished"


class Agent:
    """A room with one agent in it. ``answers`` are taken one a call: an error, a time to take in
    seconds, or nothing."""

    def __init__(self, *answers: rtc.RpcError | float) -> None:
        self.remote_participants = {"agent": object()}
        self.local_participant = SimpleNamespace(perform_rpc=self._perform)
        self.calls: list[tuple[str, str]] = []
        self._answers = list(answers)

    async def _perform(self, *, destination_identity, method, payload, **limits) -> str:
        assert destination_identity == "agent"
        assert set(limits) == {"response_timeout", "max_round_trip_latency"}
        self.calls.append((method, payload))
        answer = self._answers.pop(0) if self._answers else 0.0
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer)
        return "ok"


def failure(code: int) -> rtc.RpcError:
    return rtc.RpcError(code, "no")


async def deliver(agent: Agent, *reports) -> Metrics:
    metrics = Metrics()
    delivery = PlaybackReports(agent, metrics)
    for report in reports:
        delivery.send(report)
    await delivery.aclose(5.0)
    return metrics


def failures(metrics: Metrics, method: str) -> float:
    name, labels = "avatar_rpc_failures_total", {"method": method}
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_reports_go_out_in_order_with_no_key_too_many():
    agent = Agent()
    await deliver(
        agent,
        PlaybackStarted("agent"),
        PlaybackFinished("agent", 1.84, True),
        PlaybackFinished("agent", 0.0, True),
    )
    assert [method for method, _ in agent.calls] == [STARTED, FINISHED, FINISHED]
    assert agent.calls[0][1] == ""
    assert json.loads(agent.calls[1][1]) == {"playback_position": 1.84, "interrupted": True}


async def test_an_agent_that_does_not_ask_for_the_start_is_no_failure():
    metrics = await deliver(Agent(failure(Code.UNSUPPORTED_METHOD)), PlaybackStarted("agent"))
    assert failures(metrics, STARTED) == 0


async def test_the_end_does_not_wait_for_an_answer_to_the_start():
    agent = Agent(30.0)
    async with asyncio.timeout(5):
        await deliver(agent, PlaybackStarted("agent"), PlaybackFinished("agent", 1.0, False))
    assert [method for method, _ in agent.calls] == [STARTED, FINISHED]


@pytest.mark.parametrize("code", [Code.CONNECTION_TIMEOUT, Code.SEND_FAILED])
async def test_what_did_not_arrive_is_sent_again(code):
    agent = Agent(failure(code), failure(code))
    metrics = await deliver(agent, PlaybackFinished("agent", 1.0, False))
    assert len(agent.calls) == 3
    assert failures(metrics, FINISHED) == 0


async def test_three_attempts_are_enough():
    agent = Agent(*[failure(Code.SEND_FAILED)] * 5)
    metrics = await deliver(agent, PlaybackFinished("agent", 1.0, False))
    assert len(agent.calls) == 3
    assert failures(metrics, FINISHED) == 1


async def test_what_may_have_arrived_is_not_sent_again():
    agent = Agent(failure(Code.RESPONSE_TIMEOUT))
    await deliver(agent, PlaybackFinished("agent", 1.0, False))
    assert len(agent.calls) == 1


async def test_a_call_that_never_returns_holds_up_the_others_for_a_while_only(monkeypatch):
    monkeypatch.setattr(playback_reports, "CALL_S", 0.1)
    agent = Agent(30.0)
    first, second = PlaybackFinished("agent", 1.0, True), PlaybackFinished("agent", 0.0, True)
    metrics = await deliver(agent, first, second)
    assert len(agent.calls) == 2
    assert failures(metrics, FINISHED) == 1


async def test_an_agent_that_joins_anew_gets_its_report_and_one_that_is_gone_costs_nothing(
    monkeypatch,
):
    agent = Agent()
    agent.remote_participants.clear()
    asyncio.get_running_loop().call_later(
        0.1, lambda: agent.remote_participants.update(agent=object())
    )
    await deliver(agent, PlaybackFinished("agent", 1.0, False))
    assert len(agent.calls) == 1

    monkeypatch.setattr(playback_reports, "ABSENT_S", 0.05)
    agent.remote_participants.clear()
    await deliver(agent, PlaybackStarted("agent"), PlaybackFinished("agent", 1.0, False))
    assert len(agent.calls) == 1


async def test_closing_does_not_wait_longer_than_told():
    delivery = PlaybackReports(Agent(30.0), Metrics())
    delivery.send(PlaybackFinished("agent", 1.0, False))
    async with asyncio.timeout(5):
        await delivery.aclose(0.05)
