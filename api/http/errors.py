"""The API's answers other than success: one place for every code, text and status.

Three forms, as the public API has them: ``{"success": false, "error": {code, message, suggestion?,
details?}}`` for endpoints, ``{"error": "<text>"}`` for authentication, and ``{"success": false,
"error": "<text>"}`` for the rate limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RETRY_AFTER_S = 5
"""What a client is told to wait where no better figure is known."""


class ApiError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        suggestion: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.suggestion = suggestion
        self.details = details
        self.headers = dict(headers or {})
        if status == 503:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.suggestion:
            error["suggestion"] = self.suggestion
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"success": False, "error": error}


class AuthenticationError(ApiError):
    """401, in its own form."""

    def __init__(self, message: str) -> None:
        super().__init__(401, "UNAUTHORIZED", message)

    def body(self) -> dict[str, Any]:
        """The answer's JSON: a bare text."""
        return {"error": self.message}


class RateLimited(ApiError):
    """429, in its own form."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            429,
            "RATE_LIMITED",
            "Too many requests. Please retry after 1 minute.",
            headers={"Retry-After": str(max(1, retry_after_s))},
        )

    def body(self) -> dict[str, Any]:
        """The answer's JSON: the error is a text."""
        return {"success": False, "error": self.message}


@dataclass(frozen=True)
class Known:
    """A row of the catalogue."""

    status: int
    message: str
    suggestion: str | None = None


CATALOGUE: dict[str, Known] = {
    "INVALID_JSON": Known(400, "Request body is not valid JSON"),
    "INVALID_BODY": Known(400, "Request body must be a JSON object"),
    "INVALID_QUERY": Known(400, "Invalid value for a query parameter"),
    "INVALID_IDEMPOTENCY_KEY": Known(
        400, "Idempotency-Key is not usable", "Send 1 to 128 printable ASCII characters"
    ),
    "AVATAR_REQUIRED": Known(400, "Avatar ID is required", "Include avatar in the request body"),
    "INVALID_ASPECT_RATIO": Known(400, "Invalid aspect ratio", "Use one of: 4:3, 3:4, 1:1"),
    "ROOM_REQUIRED": Known(400, "Room configuration is required"),
    "INVALID_ROOM_PLATFORM": Known(
        400, "Invalid room platform", "Set room.platform to daily or livekit"
    ),
    "INVALID_ROOM_URL": Known(400, "Invalid room URL"),
    "ROOM_TOKEN_REQUIRED": Known(400, "Room token is required"),
    "ROOM_TOKEN_EXPIRED": Known(400, "Room token has expired"),
    "PLATFORM_NOT_AVAILABLE": Known(400, "Room platform is not available on this server"),
    "PROXY_NOT_CONFIGURED": Known(400, "Room platform proxy is not enabled on this server"),
    "INVALID_METADATA": Known(400, "Metadata must be a valid JSON object"),
    "METADATA_TOO_LARGE": Known(400, "Metadata is larger than 16 KB"),
    "SESSION_ENDED": Known(400, "Session has already ended"),
    "SESSION_NOT_STARTED": Known(400, "Only started sessions can be ended"),
    "IMAGE_REQUIRED": Known(
        400, "An image is required", "Provide exactly one of file, image_url or image_base64"
    ),
    "MULTIPLE_IMAGE_SOURCES": Known(400, "Provide only one image source"),
    "INVALID_BASE64": Known(400, "Invalid base64 image"),
    "INVALID_IMAGE": Known(400, "Image could not be decoded"),
    "UNSUPPORTED_IMAGE_TYPE": Known(400, "Unsupported image format", "Use JPEG, PNG, GIF or WebP"),
    "IMAGE_TOO_SMALL": Known(400, "Image is too small (short side under 256 px)"),
    "IMAGE_URL_UNREACHABLE": Known(400, "Image URL could not be fetched"),
    "IMAGE_URL_NOT_ALLOWED": Known(400, "Image URL is not allowed"),
    "IMAGE_TOO_LARGE": Known(413, "Image is larger than 10 MB (or over 50 megapixels)"),
    "IMAGE_INPUT_NOT_ALLOWED": Known(
        403,
        "Image URLs and base64 images require a paid plan",
        "Use an avatar ID or upgrade your plan",
    ),
    "AVATAR_ACCESS_DENIED": Known(
        403,
        "Access denied to this avatar",
        "You do not have permission to create sessions with this avatar",
    ),
    "INSUFFICIENT_MINUTES": Known(
        403,
        "No minutes remaining. Please purchase additional minutes or upgrade your plan.",
    ),
    "AVATAR_LIMIT_REACHED": Known(403, "Avatar limit reached for this billing cycle"),
    "SESSION_NOT_FOUND": Known(404, "Session not found"),
    "AVATAR_NOT_FOUND": Known(404, "Avatar not found"),
    "PREVIEW_NOT_FOUND": Known(
        404, "This preview is no longer available", "Preview links work once; ask for a new one"
    ),
    "WATCH_LINK_INVALID": Known(
        403,
        "This link is not valid, or has expired",
        "Use the room's URLs as they came with the session, or its token as a bearer token",
    ),
    "VIEWER_NOT_FOUND": Known(404, "This viewer has left already"),
    "BAD_OFFER": Known(400, "The body is not an SDP offer"),
    "UNUSABLE_OFFER": Known(406, "The SDP offer asks for what this room does not send"),
    "UNSUPPORTED_MEDIA_TYPE": Known(415, "Send an SDP offer", "Set Content-Type: application/sdp"),
    "ROOM_FULL": Known(503, "The room has as many viewers as it holds"),
    "NOT_FOUND": Known(404, "Not found"),
    "METHOD_NOT_ALLOWED": Known(405, "Method not allowed"),
    "IDEMPOTENCY_CONFLICT": Known(409, "Idempotency key was used with a different request"),
    "PAYLOAD_TOO_LARGE": Known(413, "Request body is too large"),
    "CONCURRENCY_LIMIT_REACHED": Known(
        429, "Concurrent session limit reached. End a running session or upgrade your plan."
    ),
    "INTERNAL_ERROR": Known(500, "Internal server error"),
    "LINK_EXPIRED": Known(
        403, "Link is invalid or has expired", "Ask for the avatar again, its links are new then"
    ),
    "IMAGE_CHECK_UNAVAILABLE": Known(
        503, "Photos cannot be examined right now. Please try again shortly."
    ),
    "NO_CAPACITY": Known(503, "No avatar server is available right now. Please try again shortly."),
    "DRAINING": Known(503, "Server is shutting down"),
}
"""Errors whose text does not depend on the request. The face checks have codes and texts of their
own (``models.face.PortraitError``)."""


def api_error(
    code: str,
    *,
    message: str | None = None,
    suggestion: str | None = None,
    status: int | None = None,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> ApiError:
    """The catalogue's error ``code``; what is given replaces what the catalogue says."""
    known = CATALOGUE[code]
    return ApiError(
        status or known.status,
        code,
        message or known.message,
        suggestion or known.suggestion,
        details,
        headers,
    )
