"""``/v1/avatars``: upload a photo, list, delete."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData, UploadFile

from api.auth import CallerDep
from api.avatars.decode import MAX_BYTES, too_large
from api.container.deps import ServicesDep
from api.http.body_limit import PHOTO_BYTES
from api.http.errors import api_error
from api.http.openapi_errors import openapi_errors
from api.records import Avatar

router = APIRouter(prefix="/v1/avatars", tags=["avatars"])

IMAGE_CODES = (
    "INVALID_BASE64",
    "INVALID_IMAGE",
    "UNSUPPORTED_IMAGE_TYPE",
    "IMAGE_TOO_SMALL",
    "IMAGE_TOO_LARGE",
    "IMAGE_URL_UNREACHABLE",
    "IMAGE_URL_NOT_ALLOWED",
    "AVATAR_LIMIT_REACHED",
    "IMAGE_CHECK_UNAVAILABLE",
)
"""What can be wrong with a photo, wherever one is taken."""
FACE_CODES: dict[int, tuple[str, ...]] = {
    400: ("NO_FACE", "MULTIPLE_FACES", "FACE_TOO_SMALL", "FACE_NOT_FRONTAL", "FACE_BLURRED")
}
"""What the face checks find."""

_FIELDS = ("file", "image_url", "image_base64")
_MAX_PARTS = 16


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    success: Literal[True] = True


class UploadAnswer(_Answer):
    """The new avatar, or the one these bytes had become before."""

    avatar_id: str
    preview_url: str = Field(description="JPEG, 500 x 500; a link that works for 24 hours")
    image_url: str = Field(description="JPEG, at most 1200 wide; a link that works for 24 hours")


class AvatarModel(BaseModel):
    """An avatar."""

    model_config = ConfigDict(extra="forbid")

    avatar_id: str
    name: str | None = Field(default=None, description="of public avatars")
    tags: list[str]
    preview_url: str
    image_url: str
    created_at: str


class AvatarsAnswer(_Answer):
    """Newest first."""

    public_avatars: list[AvatarModel]
    my_avatars: list[AvatarModel]


class DeletedAnswer(_Answer):
    """It is gone."""


_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "description": "Exactly one of file, image_url and image_base64: JPEG, PNG, GIF or WebP,"
        " at most 10 MB and 50 megapixels, at least 256 pixels on the short side, with exactly one"
        " face that looks into the camera.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "image_url": {"type": "string", "format": "uri"},
                        "image_base64": {"type": "string"},
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image_url": {"type": "string", "format": "uri"},
                        "image_base64": {"type": "string"},
                    },
                }
            },
        },
    }
}


@router.post(
    "/upload-face",
    response_model=UploadAnswer,
    responses=openapi_errors(
        "INVALID_JSON",
        "INVALID_BODY",
        "IMAGE_REQUIRED",
        "MULTIPLE_IMAGE_SOURCES",
        *IMAGE_CODES,
        "PAYLOAD_TOO_LARGE",
        also=FACE_CODES,
    ),
    openapi_extra=_UPLOAD_BODY,
)
async def upload_face(request: Request, caller: CallerDep, services: ServicesDep) -> dict[str, Any]:
    """Make an avatar of a photo."""
    name, value = await _source(request)
    avatars = services.avatars
    if name == "image_url":
        if not isinstance(value, str):
            raise api_error("IMAGE_URL_NOT_ALLOWED", message="image_url must be a string")
        avatar = await avatars.from_url(caller.account, caller.plan, value)
    elif name == "image_base64":
        if not isinstance(value, str):
            raise api_error("INVALID_BASE64", message="image_base64 must be a string")
        avatar = await avatars.from_base64(caller.account, caller.plan, value)
    else:
        avatar = await avatars.from_bytes(caller.account, caller.plan, value)
    return {
        "success": True,
        "avatar_id": avatar.id,
        "preview_url": avatars.preview_url(avatar),
        "image_url": avatars.image_url(avatar),
    }


@router.get(
    "",
    response_model=AvatarsAnswer,
    response_model_exclude_unset=True,
    responses=openapi_errors(),
)
async def list_avatars(caller: CallerDep, services: ServicesDep) -> dict[str, Any]:
    """Public avatars and the account's own."""
    public, own = await services.avatars.visible(caller.account)

    def shown(found: list[Avatar]) -> list[dict[str, Any]]:
        return [services.avatars.as_json(avatar) for avatar in found]

    return {"success": True, "public_avatars": shown(public), "my_avatars": shown(own)}


@router.delete(
    "/{avatar_id:path}",
    response_model=DeletedAnswer,
    responses=openapi_errors("AVATAR_ACCESS_DENIED", "AVATAR_NOT_FOUND"),
)
async def delete_avatar(
    avatar_id: Annotated[str, Path(description="may contain slashes, plain or as %2F")],
    caller: CallerDep,
    services: ServicesDep,
) -> dict[str, Any]:
    """Delete an own upload for good, with its photo. Running sessions keep their avatar."""
    await services.avatars.delete(caller.account, avatar_id)
    return {"success": True}


async def _source(request: Request) -> tuple[str, Any]:
    """The name and value of the one image source; ``file`` as bytes."""
    kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(
            max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=PHOTO_BYTES
        ) as form:
            name, value = _only(_form_sources(form))
            return name, await _content(name, value) if isinstance(value, UploadFile) else value
    return _only(_json_sources(await request.body()))


def _only(found: list[tuple[str, Any]]) -> tuple[str, Any]:
    if not found:
        raise api_error("IMAGE_REQUIRED")
    if len(found) > 1:
        names = ", ".join(dict.fromkeys(name for name, _ in found))
        raise api_error("MULTIPLE_IMAGE_SOURCES", suggestion=f"Got {names}; send one image once")
    return found[0]


def _form_sources(form: FormData) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in form.multi_items():
        if name not in _FIELDS or value == "":
            continue
        if isinstance(value, UploadFile):
            # What a browser sends for a file input nobody filled.
            if not value.size and not value.filename:
                continue
        elif name == "file":
            raise api_error(
                "IMAGE_REQUIRED", suggestion="Send file as a file part, with a file name"
            )
        found.append((name, value))
    return found


def _json_sources(body: bytes) -> list[tuple[str, Any]]:
    if not body.strip():
        raise api_error("IMAGE_REQUIRED")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise api_error(
            "INVALID_JSON", suggestion="Send JSON, or a form as multipart/form-data"
        ) from None
    if not isinstance(parsed, dict):
        raise api_error("INVALID_BODY")
    sources = ((name, parsed.get(name)) for name in _FIELDS[1:])
    return [(name, value) for name, value in sources if value is not None and value != ""]


async def _content(name: str, part: UploadFile) -> bytes | str:
    if name == "file":
        if part.size is not None and part.size > MAX_BYTES:
            raise too_large(part.size / 1024 / 1024)
        return await part.read()
    # curl -F image_base64=@photo.txt
    return (await part.read()).decode("ascii", "replace")
