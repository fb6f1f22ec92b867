"""A job's input, checked and turned into the session it asks for; a job's error."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.http.errors import ApiError
from worker.http.session_body import read_body, to_request
from worker.ingest.speech_file import SpeechFileError, read_speech
from worker.interfaces import SessionRequest
from worker.settings import WorkerSettings

MAX_DURATION_S = 7 * 24 * 3600
"""The longest a job may run on the platform."""


class _SpeechBody(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    audio_base64: str = Field(min_length=1, repr=False)


class _JobExtras(BaseModel):
    """What a job may carry beside the body of ``POST /sessions``."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True)

    max_duration_s: float | None = Field(default=None, gt=0, le=MAX_DURATION_S)
    speech: _SpeechBody | None = None


@dataclass(frozen=True)
class JobOrder:
    """A session to run, and what to say in it."""

    request: SessionRequest
    speech: tuple[np.ndarray, int] | None = None
    """int16 mono samples and their rate in Hz: spoken in a file room, then the session ends."""


def read_job(job_input: object, settings: WorkerSettings) -> JobOrder:
    """Check a job's input. Reads files and decodes media: call it off the event loop.

    Raises:
        ApiError: names the field that cannot be used, and what to send instead.
        PortraitError, RoomError: as the worker's own.
    """
    if not isinstance(job_input, dict):
        raise ApiError(
            400, "INVALID_BODY", "input: must be a JSON object", 'Send {"input": {"session_id": …}}'
        )
    body = read_body(json.dumps(job_input).encode())
    try:
        extras = _JobExtras.model_validate(job_input)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in detail["loc"])
        raise ApiError(400, "INVALID_BODY", f"{field}: {detail['msg']}") from None
    request = to_request(body, settings)
    if extras.max_duration_s is not None:
        limit = datetime.now(UTC) + timedelta(seconds=extras.max_duration_s)
        ends = min(limit, request.expires_at) if request.expires_at else limit
        request = dataclasses.replace(request, expires_at=ends)
    if extras.speech is None:
        return JobOrder(request)
    if request.room.platform != "file":
        raise ApiError(
            400,
            "INVALID_SPEECH",
            "speech: only a job with a file room can bring its speech along",
            "Set room.platform to file, or send the speech to the session's WebSocket",
        )
    return JobOrder(request, _decode_speech(extras.speech.audio_base64))


def _decode_speech(text: str) -> tuple[np.ndarray, int]:
    try:
        media = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "INVALID_SPEECH", "speech.audio_base64: is not base64") from None
    with tempfile.NamedTemporaryFile() as file:
        file.write(media)
        file.flush()
        try:
            return read_speech(Path(file.name))
        except SpeechFileError:
            raise ApiError(
                400,
                "INVALID_SPEECH",
                "speech.audio_base64: holds no sound that can be read",
                "Send a WAV, MP3, M4A, OGG or FLAC file",
            ) from None


def failed(error: ApiError) -> dict[str, Any]:
    """What a handler returns for a job that failed: RunPod shows ``error`` as it is."""
    return {"error": error_text(error.code, error.message, error.suggestion)}


def error_text(code: str, message: str, suggestion: str | None = None) -> str:
    """The error as JSON, in the form of the HTTP API."""
    error = {"code": code, "message": message}
    if suggestion:
        error["suggestion"] = suggestion
    return json.dumps({"error": error})
