"""The body of ``POST /sessions``: checked by pydantic, turned into a ``SessionRequest``."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from common.canvas_settings import AspectRatio
from common.room_tokens import expired
from models.engine import Canvas
from worker.http.errors import ApiError
from worker.interfaces import DailyRoom, FileRoom, LiveKitRoom, RoomSpec, SessionRequest, WhepRoom
from worker.settings import PREFIX, WorkerSettings

MAX_IMAGE_BYTES = 10 * 10**6
MAX_METADATA_BYTES = 16 * 1024
RATIO_TOLERANCE = 0.02
"""How far ``size`` may be from its aspect ratio, relatively."""

_PLATFORMS = ("whep", "file", "livekit", "daily")
_LATER_PLATFORMS = ("proxy",)
_USE = "Set room.platform to livekit, daily, whep or file"

_SCHEMES = {"livekit": ("ws", "wss", "http", "https"), "daily": ("https",)}
"""What a room's URL may begin with."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class WhepRoomBody(_Body):
    """Watch by WHEP."""

    platform: Literal["whep"]


class FileRoomBody(_Body):
    """Record into the worker's recording folder."""

    platform: Literal["file"]
    path: str = Field(min_length=1, max_length=255)
    paced: bool = True


class LiveKitRoomBody(_Body):
    """Join a LiveKit room as the participant the token names."""

    platform: Literal["livekit"]
    url: str = Field(max_length=2048)
    token: SecretStr = Field(max_length=16_384)


class DailyRoomBody(_Body):
    """Join a Daily call."""

    platform: Literal["daily"]
    url: str = Field(max_length=2048)
    token: SecretStr = Field(max_length=16_384)
    user_name: str = Field(default="AI Avatar", min_length=1, max_length=100)


class AvatarBody(_Body):
    """The portrait: one of the two."""

    image_base64: str | None = Field(default=None, repr=False)
    path: str | None = Field(default=None, max_length=4096)


class SessionBody(_Body):
    """What a worker is told to run one session."""

    session_id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    session_token: SecretStr = Field(min_length=16, max_length=512)
    aspect_ratio: AspectRatio = "4:3"
    size: str | None = Field(default=None, pattern=r"^\d{2,4}x\d{2,4}$")
    room: Annotated[
        WhepRoomBody | FileRoomBody | LiveKitRoomBody | DailyRoomBody,
        Field(discriminator="platform"),
    ]
    avatar: AvatarBody
    expires_at: AwareDatetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("metadata")
    @classmethod
    def _small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(value)) > MAX_METADATA_BYTES:
            raise ValueError("is larger than 16 KB")
        return value


class PortraitBody(_Body):
    """A portrait to prepare ahead, for the canvas its sessions will have."""

    aspect_ratio: AspectRatio = "4:3"
    size: str | None = Field(default=None, pattern=r"^\d{2,4}x\d{2,4}$")
    avatar: AvatarBody


def read_body(raw: bytes) -> SessionBody:
    """Parse a request body.

    Raises:
        ApiError: 400, naming the field.
    """
    body = _object(raw)
    _check_platform(body.get("room"))
    try:
        return SessionBody.model_validate(body)
    except ValidationError as error:
        raise _field_error(error) from None


def to_request(body: SessionBody, settings: WorkerSettings) -> SessionRequest:
    """Resolve sizes, paths and the portrait. Reads files: call it off the event loop.

    Raises:
        ApiError: what cannot be used, and what to send instead.
    """
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise ApiError(400, "INVALID_EXPIRATION", "expires_at is in the past")
    return SessionRequest(
        session_id=body.session_id,
        session_token=body.session_token.get_secret_value(),
        canvas=_canvas(body, settings),
        aspect_ratio=body.aspect_ratio,
        room=_room(body.room, settings),
        portrait=_portrait(body.avatar, settings),
        expires_at=body.expires_at,
        metadata=body.metadata,
    )


def read_portrait(raw: bytes, settings: WorkerSettings) -> tuple[bytes, Canvas]:
    """The encoded image and the canvas of a ``PortraitBody``. May read a file: call it off the
    event loop.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        body = PortraitBody.model_validate(_object(raw))
    except ValidationError as error:
        raise _field_error(error) from None
    return _portrait(body.avatar, settings), _canvas(body, settings)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise ApiError(400, "INVALID_JSON", "Request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise ApiError(400, "INVALID_BODY", "Request body must be a JSON object")
    return body


def _check_platform(room: object) -> None:
    if not isinstance(room, dict):
        raise ApiError(400, "ROOM_REQUIRED", "Room configuration is required")
    platform = room.get("platform")
    if platform in _LATER_PLATFORMS:
        raise ApiError(
            400,
            "PLATFORM_NOT_AVAILABLE",
            f"Room platform {platform} is not available on this server",
            _USE,
        )
    if platform not in _PLATFORMS:
        raise ApiError(400, "INVALID_ROOM_PLATFORM", "Invalid room platform", _USE)
    if platform in _SCHEMES:
        _check_remote(platform, room.get("url"), room.get("token"))


def _check_remote(platform: str, url: object, token: object) -> None:
    """Refuse at once what no server can let in. Nothing of the token is ever repeated."""
    schemes = _SCHEMES[platform]
    if not _is_url(url, schemes):
        raise ApiError(
            400,
            "INVALID_ROOM_URL",
            "Invalid room URL",
            f"Give room.url with one of these schemes: {', '.join(schemes)}",
        )
    if not isinstance(token, str) or not token.strip():
        raise ApiError(400, "ROOM_TOKEN_REQUIRED", "Room token is required")
    if expired(token):
        raise ApiError(
            400,
            "ROOM_TOKEN_EXPIRED",
            "Room token has expired",
            "Make a new token, and check the clocks of both machines",
        )


def _is_url(url: object, schemes: tuple[str, ...]) -> bool:
    if not isinstance(url, str) or any(character.isspace() for character in url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # brackets that do not match, a port that is no number
        return False
    # A password in the address would end up in logs.
    return parts.scheme in schemes and bool(parts.hostname) and port != 0 and "@" not in url


def _field_error(error: ValidationError) -> ApiError:
    detail = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in detail["loc"] if part not in _PLATFORMS)
    what = detail["msg"].removeprefix("Value error, ")
    top = str(detail["loc"][0]) if detail["loc"] else ""
    if top == "aspect_ratio":
        return ApiError(
            400, "INVALID_ASPECT_RATIO", "Invalid aspect ratio", "Use one of: 4:3, 3:4, 1:1"
        )
    if top == "metadata":
        if "16 KB" in what:
            return ApiError(400, "METADATA_TOO_LARGE", "Metadata is larger than 16 KB")
        return ApiError(400, "INVALID_METADATA", "Metadata must be a valid JSON object")
    return ApiError(400, "INVALID_BODY", f"{field}: {what}")


def _canvas(body: SessionBody | PortraitBody, settings: WorkerSettings) -> Canvas:
    if body.size is None:
        return settings.canvas.canvas(body.aspect_ratio)
    width, height = (int(side) for side in body.size.split("x"))
    across, down = (int(side) for side in body.aspect_ratio.split(":"))
    if abs(width * down / (height * across or 1) - 1) > RATIO_TOLERANCE:
        raise ApiError(
            400,
            "INVALID_SIZE",
            f"Size {body.size} does not fit the aspect ratio {body.aspect_ratio}",
            "Leave size out, or give both in the same proportion",
        )
    try:
        return Canvas(width, height)
    except ValueError as error:
        raise ApiError(400, "INVALID_SIZE", str(error)) from None


def _room(
    room: WhepRoomBody | FileRoomBody | LiveKitRoomBody | DailyRoomBody, settings: WorkerSettings
) -> RoomSpec:
    if isinstance(room, WhepRoomBody):
        return WhepRoom()
    if isinstance(room, LiveKitRoomBody):
        return LiveKitRoom(room.url, room.token.get_secret_value())
    if isinstance(room, DailyRoomBody):
        return DailyRoom(room.url, room.token.get_secret_value(), room.user_name)
    if settings.record_dir is None:
        raise ApiError(
            400,
            "PLATFORM_NOT_AVAILABLE",
            "Room platform file is not available on this server",
            f"Set {PREFIX}RECORD_DIR to the folder recordings may go to",
        )
    path = _inside(settings.record_dir, room.path)
    if path is None or path.suffix.lower() != ".mp4":
        raise ApiError(
            400,
            "INVALID_ROOM_PATH",
            "Invalid recording path",
            "Give room.path as a file name ending in .mp4 inside the recording folder",
        )
    return FileRoom(path=path, paced=room.paced)


def _portrait(avatar: AvatarBody, settings: WorkerSettings) -> bytes:
    if avatar.image_base64 and avatar.path:
        raise ApiError(400, "MULTIPLE_IMAGE_SOURCES", "Provide only one image source")
    if avatar.image_base64:
        return _decode_image(avatar.image_base64)
    if avatar.path:
        return _read_image(avatar.path, settings)
    raise ApiError(
        400,
        "IMAGE_REQUIRED",
        "An image is required",
        "Provide exactly one of avatar.image_base64 or avatar.path",
    )


def _decode_image(value: str) -> bytes:
    text = re.sub(r"^data:[^,]{0,100};base64,", "", value, count=1)
    try:
        image = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "INVALID_BASE64", "Invalid base64 image") from None
    return _checked_size(image)


def _read_image(name: str, settings: WorkerSettings) -> bytes:
    folder = settings.portrait_dir
    if folder is None:
        raise ApiError(
            400,
            "PATH_NOT_ALLOWED",
            "Portraits cannot be named by path on this server",
            f"Send avatar.image_base64, or set {PREFIX}PORTRAIT_DIR",
        )
    path = _inside(folder, name)
    if path is None:
        raise ApiError(
            400,
            "PATH_NOT_ALLOWED",
            "The portrait lies outside the portrait folder",
            "Name a file inside the portrait folder",
        )
    try:
        with path.open("rb") as file:
            return _checked_size(file.read(MAX_IMAGE_BYTES + 1))
    except OSError:
        raise ApiError(
            404, "AVATAR_NOT_FOUND", "Avatar not found", "Name a file in the portrait folder"
        ) from None


def _checked_size(image: bytes) -> bytes:
    if len(image) > MAX_IMAGE_BYTES:
        raise ApiError(413, "IMAGE_TOO_LARGE", "Image is larger than 10 MB")
    return image


def _inside(folder: Path, name: str) -> Path | None:
    """``name`` resolved (links followed) against ``folder``; None when it leads out of it."""
    root = folder.resolve()
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):  # a loop of links, a NUL byte
        return None
    return path if path.is_relative_to(root) and path != root else None
