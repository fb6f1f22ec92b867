"""One RunPod job, as RunPod tells of it: the answers of ``/status`` turned into reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from api.dispatch.port import WorkerReport
from api.records import EndReason, Session

_REASONS: tuple[EndReason, ...] = get_args(EndReason)

_FAILURES: dict[str, EndReason] = {
    "JOIN_FAILED": "join_failed",
    "CONNECTION_LOST": "connection_lost",
}
"""Errors of a job that say how its session ended; every other one is a ``server_error``."""

Socket = Literal["proxy", "direct"]


@dataclass
class JobProgress:
    """What is known of a job. Updates carry a number: one that comes late changes nothing."""

    socket: Socket
    seq: int = 0
    state: str = "starting"
    ws_uri: str | None = None

    def report(self, answer: Mapping[str, Any], session: Session, now: datetime) -> WorkerReport:
        """The session's report by an answer of ``GET /status/{job}``."""
        output = answer.get("output")
        facts = output if isinstance(output, dict) else {}
        match answer.get("status"):
            case "IN_QUEUE":
                return WorkerReport("starting")
            case "IN_PROGRESS" | "RUNNING":
                self._note(facts)
                return self._running()
            case "COMPLETED":
                return self._over(_reason(facts.get("end_reason")), answer, session, now)
            case "FAILED":
                return self._failed(facts, answer, session, now)
            case "CANCELLED":
                # Not by us: whom we end has ended before we say so.
                return self._over(
                    "server_shutdown", answer, session, now, "the job was cancelled at RunPod"
                )
            case "TIMED_OUT":
                on_time = session.expires_at is None or now >= session.expires_at
                reason: EndReason = "expired" if on_time else "server_error"
                return self._over(reason, answer, session, now, "the job's time was over")
        return WorkerReport("silent", detail="RunPod tells a state of the job that is not known")

    def _note(self, facts: Mapping[str, Any]) -> None:
        seq = facts.get("seq")
        if not isinstance(seq, int) or seq <= self.seq:
            return
        self.seq = seq
        self.state = str(facts.get("state"))
        addresses = facts.get("ws")
        if isinstance(addresses, dict):
            for kind in ("public", self.socket, "proxy", "direct", "local"):
                address = addresses.get(kind)
                if isinstance(address, str):
                    self.ws_uri = address
                    break

    def _running(self) -> WorkerReport:
        if self.state in ("joining", "ready", "draining"):
            ready = self.ws_uri is not None and self.state != "joining"
            return WorkerReport("running", ready=ready, ws_uri=self.ws_uri)
        if self.state == "ended":  # its result is on its way
            return WorkerReport("running", ready=self.ws_uri is not None, ws_uri=self.ws_uri)
        return WorkerReport("starting")

    def _failed(
        self, facts: Mapping[str, Any], answer: Mapping[str, Any], session: Session, now: datetime
    ) -> WorkerReport:
        code, message = _error(answer.get("error"))
        reason = _FAILURES.get(code, "server_error")
        if facts.get("end_reason") is not None:
            reason = _reason(facts["end_reason"])
        return self._over(reason, {**answer, "output": facts}, session, now, f"{code}: {message}")

    def _over(
        self,
        reason: EndReason,
        answer: Mapping[str, Any],
        session: Session,
        now: datetime,
        detail: str | None = None,
    ) -> WorkerReport:
        return WorkerReport(
            "ended", reason=reason, ended_at=_ended_at(answer, session, now), detail=detail
        )


def _ended_at(answer: Mapping[str, Any], session: Session, now: datetime) -> datetime:
    """When the worker says it ended; else by RunPod's durations, counted from the start; never
    in the future."""
    output = answer.get("output")
    told = output.get("ended_at") if isinstance(output, dict) else None
    if isinstance(told, str):
        try:
            at = datetime.fromisoformat(told)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None:
            return min(at, now)
    delay, ran = answer.get("delayTime"), answer.get("executionTime")
    if session.started_at is not None and isinstance(delay, int) and isinstance(ran, int):
        return min(session.started_at + timedelta(milliseconds=delay + ran), now)
    return now


def _reason(text: object) -> EndReason:
    for known in _REASONS:
        if text == known:
            return known
    return "server_error"


def _error(text: object) -> tuple[str, str]:
    """Code and message of a failed job. Of an error that is not ours nothing is told: RunPod's
    own may hold anything."""
    try:
        error = json.loads(text)["error"] if isinstance(text, str) else {}
        return str(error["code"])[:64], str(error["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "FAILED", "the job failed without an error of ours"
