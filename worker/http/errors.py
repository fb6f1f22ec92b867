"""HTTP errors in the API's form: ``{"success": false, "error": {code, message, suggestion}}``."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.face.port import PortraitError
from worker.interfaces import (
    Busy,
    Draining,
    NoCapacity,
    SessionCancelled,
    SessionExists,
    WarmingUp,
)
from worker.rooms.port import PlatformNotInstalled, RoomError

logger = structlog.get_logger(__name__)

RETRY_AFTER_S = 5


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.suggestion = suggestion

    def response(self) -> JSONResponse:
        """The error as an answer."""
        error = {"code": self.code, "message": self.message}
        if self.suggestion:
            error["suggestion"] = self.suggestion
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status == 503 else None
        return JSONResponse({"success": False, "error": error}, self.status, headers)


def as_api_error(error: Exception) -> ApiError | None:
    """The answer to what a worker raises when it is asked for a session."""
    match error:
        case ApiError():
            return error
        case PortraitError():
            status = 413 if error.code == "IMAGE_TOO_LARGE" else 400
            return ApiError(status, error.code, error.message, error.remedy)
        case PlatformNotInstalled():
            return ApiError(400, "PLATFORM_NOT_AVAILABLE", str(error), error.remedy)
        case RoomError():
            return ApiError(400, "ROOM_FAILED", str(error))
        case SessionExists():
            return ApiError(409, "SESSION_EXISTS", "A session with this id exists already")
        case SessionCancelled():
            return ApiError(409, "SESSION_CANCELLED", "The session was ended before it began")
        case Busy():
            return ApiError(503, "BUSY", "Another portrait is being prepared")
        case NoCapacity():
            return ApiError(
                503,
                "NO_CAPACITY",
                "No avatar server is available right now. Please try again shortly.",
            )
        case Draining():
            return ApiError(503, "DRAINING", "Server is shutting down")
        case WarmingUp():
            return ApiError(503, "WARMING_UP", "Server is starting")
    return None


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error in the API's form, and tell nothing of the inside."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        answer = as_api_error(error)
        assert answer is not None
        return answer.response()

    for kind in (
        ApiError,
        PortraitError,
        RoomError,
        SessionExists,
        SessionCancelled,
        Busy,
        NoCapacity,
        Draining,
        WarmingUp,
    ):
        app.add_exception_handler(kind, known)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, message = {
            404: ("NOT_FOUND", "Not found"),
            405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
        }.get(error.status_code, ("HTTP_ERROR", str(error.detail)))
        response = ApiError(error.status_code, code, message).response()
        response.headers.update(error.headers or {})
        return response

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        return ApiError(400, "INVALID_BODY", "Request could not be read").response()

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("http request failed", path=request.url.path, exc_info=error)
        return ApiError(500, "INTERNAL_ERROR", "Internal server error").response()

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
