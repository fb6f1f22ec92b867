"""One job's session from its start to its report."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from common.logs import masked_text
from common.timestamps import timestamp
from protocol.events import (
    EndReason,
    SegmentEnded,
    SessionDraining,
    SessionEnded,
    SessionEvent,
    SessionReady,
)
from worker.interfaces import SessionOver
from worker.runpod.job import JobOrder, error_text
from worker.runpod.progress import Progress
from worker.runpod.usage import Usage
from worker.service import Worker
from worker.session import Session

INPUT_FORMAT = {"sample_rate": 16000, "format": "pcm_s16le"}
"""What the speech socket takes when a client says nothing else."""

FAILURES: dict[EndReason, str] = {
    "join_failed": "Could not join the room",
    "connection_lost": "The connection to the room was lost",
    "server_error": "Internal server error",
}
"""Ends that make a job FAILED."""

PIECE_S = 0.5
"""Seconds of a job's own speech that are queued at a time."""

TAIL_S = 0.4
"""How long the session goes on after a job's own speech has been said."""


async def run_session(
    worker: Worker, order: JobOrder, addresses: dict[str, str], progress: Progress
) -> dict[str, Any]:
    """Run the session that ``order`` asks for; returns the job's output.

    Cancelled, it ends the session first: the client is told and the room is left.

    Raises what ``Worker.create`` raises.
    """
    session_id = order.request.session_id
    await progress.send("starting", session_id=session_id)
    created = await worker.create(order.request)
    session = worker.session(session_id)
    assert session is not None
    facts: dict[str, Any] = {"session_id": session_id, "ws": addresses, "input": INPUT_FORMAT}
    if created.watch_url is not None:
        facts["watch_url"] = created.watch_url
    if created.expires_at is not None:
        facts["expires_at"] = timestamp(created.expires_at)
    usage = Usage()
    told: asyncio.Queue[SessionEvent] = asyncio.Queue()

    def listen(event: SessionEvent) -> None:
        usage.note(event)
        if isinstance(event, SessionReady | SessionDraining | SessionEnded):
            told.put_nowait(event)

    session.subscribe(listen)
    speaking = asyncio.create_task(_speak(session, order)) if order.speech else None
    try:
        await progress.send("joining", session_id=session_id)
        await _tell(told, progress, facts)
        await session.closed.wait()
    except BaseException:
        # Cancelled by the platform, which posts no result of such a job: only the room and the
        # client are left to be told. Shielded, for a second cancel may follow.
        await asyncio.shield(asyncio.ensure_future(session.end("client_request")))
        raise
    finally:
        if speaking is not None:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
    reason = session.end_reason or "server_error"
    if usage.ended_at is not None:
        facts["ended_at"] = timestamp(usage.ended_at)
    output = await progress.last("ended", **facts, end_reason=reason, usage=usage.report(session))
    if reason in FAILURES:
        output["error"] = error_text(
            reason.upper(), masked_text(session.failure or FAILURES[reason])
        )
    return output


async def _tell(
    told: asyncio.Queue[SessionEvent], progress: Progress, facts: dict[str, Any]
) -> None:
    """Pass the session's turns on, until it has ended."""
    while True:
        match await told.get():
            case SessionReady():
                await progress.send("ready", **facts)
            case SessionDraining(deadline):
                await progress.send(
                    "draining", session_id=facts["session_id"], deadline=timestamp(deadline)
                )
            case SessionEnded():
                return


async def _speak(session: Session, order: JobOrder) -> None:
    """Say the job's own speech through the session's speech core, then end the session."""
    assert order.speech is not None
    pcm, rate = order.speech
    said = asyncio.Event()

    def listen(event: SessionEvent) -> None:
        if isinstance(event, SegmentEnded):
            said.set()

    session.attach()
    unsubscribe = session.subscribe(listen)
    try:
        session.begin_speech(None, rate)
        for piece in np.array_split(pcm, max(1, round(len(pcm) / (PIECE_S * rate)))):
            # A full backlog answers None, after a moment's wait.
            while await session.speak(piece.astype("<i2").tobytes(), rate) is None:
                pass
        session.end_speech()
        await said.wait()
        await asyncio.sleep(TAIL_S)
        # A task of its own: ending the session ends the one who speaks in it.
        await asyncio.shield(asyncio.ensure_future(session.end("client_request")))
    except SessionOver:
        pass
    finally:
        unsubscribe()
