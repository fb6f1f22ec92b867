"""Tells an agent, by LiveKit remote calls, what was heard of its speech."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque

import structlog
from livekit import rtc

from worker.ingest.livekit_agent.agent_stream_core import PlaybackFinished, PlaybackStarted, Report
from worker.metrics import Metrics

logger = structlog.get_logger(__name__)

RPC_PLAYBACK_STARTED = "lk.playback_started"
RPC_PLAYBACK_FINISHED = "lk.playback_finished"

ATTEMPTS = 3
RETRY_AFTER_S = 0.1

ROUND_TRIP_S = 1.0
"""A call that is not acknowledged for this long has not arrived and is made again."""

ANSWER_S = 2.0
"""A call that was acknowledged has arrived: without an answer it is not made again."""

ABSENT_S = 5.0
"""How long after the report was made an agent may be away: either side may be joining again."""

CALL_S = 4.0
"""Our own limit for one call: the SDK's does not hold when the other side vanishes."""

_ARRIVED = (
    rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT,
    rtc.RpcError.ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE,
)


class PlaybackReports:
    """Delivers reports in order, each ``playback_finished`` as surely as possible.

    A report too many would end the agent's next segment early, so a call that may have arrived is
    not repeated. ``send`` does not wait; ``aclose`` lets what is queued go out.
    """

    def __init__(self, room: rtc.Room, metrics: Metrics) -> None:
        self._room = room
        self._metrics = metrics
        self._queue: deque[tuple[float, Report]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._started: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._deliver(), name="playback reports")

    def send(self, report: Report) -> None:
        """Have the participant told that sent the stream."""
        self._queue.append((time.monotonic(), report))
        self._idle.clear()
        self._wake.set()

    async def aclose(self, patience_s: float) -> None:
        """Deliver what is queued for at most ``patience_s`` seconds, then stop."""
        if not self._task.done():
            try:
                async with asyncio.timeout(patience_s):
                    await self._idle.wait()
            except TimeoutError:
                logger.warning("playback reports were not delivered", reports=len(self._queue) + 1)
        tasks = [self._task, *self._started]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            made_at, report = self._queue.popleft()
            if isinstance(report, PlaybackStarted):
                # Nobody waits for its answer: a report of the end must not queue behind it.
                task = asyncio.create_task(self._tell_started(report))
                self._started.add(task)
                task.add_done_callback(self._started.discard)
                await asyncio.sleep(0)
            else:
                await self._await_presence(report.sender, made_at + ABSENT_S)
                await self._tell_finished(report)

    async def _await_presence(self, identity: str, until: float) -> None:
        # Looked up time and again: the SDK has no event for its list of participants.
        while identity not in self._room.remote_participants and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _tell_started(self, report: PlaybackStarted) -> None:
        error = await self._call(report.sender, RPC_PLAYBACK_STARTED, "")
        unsupported = rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD  # agents that do not ask for it
        if error is not None and getattr(error, "code", None) != unsupported:
            self._failed(RPC_PLAYBACK_STARTED, error)

    async def _tell_finished(self, report: PlaybackFinished) -> None:
        # No further key may go in: agents build an object from these.
        payload = json.dumps(
            {
                "playback_position": round(report.playback_position, 6),
                "interrupted": report.interrupted,
            }
        )
        error: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(RETRY_AFTER_S)
            error = await self._call(report.sender, RPC_PLAYBACK_FINISHED, payload)
            if error is None:
                return
            if isinstance(error, TimeoutError) or getattr(error, "code", None) in _ARRIVED:
                break
        if error is not None:
            self._failed(RPC_PLAYBACK_FINISHED, error)

    async def _call(self, identity: str, method: str, payload: str) -> Exception | None:
        """One call; returns why it failed."""
        if identity not in self._room.remote_participants:
            return ConnectionError("the agent is not in the room")
        try:
            async with asyncio.timeout(CALL_S):
                await self._room.local_participant.perform_rpc(
                    destination_identity=identity,
                    method=method,
                    payload=payload,
                    response_timeout=ANSWER_S,
                    max_round_trip_latency=ROUND_TRIP_S,
                )
        except Exception as error:
            return error
        return None

    def _failed(self, method: str, error: Exception) -> None:
        self._metrics.rpc_failed(method)
        logger.warning("a playback report failed", method=method, error=str(error))
