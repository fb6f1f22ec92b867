"""The body of ``POST /v1/sessions`` as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Any

from api.records import RATIOS
from api.sessions.body import MAX_TOKEN_LENGTH, MAX_URL_LENGTH

_AVATAR: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "description": "an avatar id; on paid plans also a photo: its public URL, or in base64",
}

CREATE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "title": "CreateSession",
                "type": "object",
                "required": ["avatar", "room"],
                "properties": {
                    "avatar": _AVATAR,
                    "avatar_id": {
                        **_AVATAR,
                        "deprecated": True,
                        "description": "the older name of `avatar`, used where that is absent",
                    },
                    "aspect_ratio": {
                        "enum": [*RATIOS, "auto", None],
                        "default": "4:3",
                        "description": "`auto` and null mean the default",
                    },
                    "room": {
                        "type": "object",
                        "required": ["platform"],
                        "properties": {
                            "platform": {"enum": ["daily", "livekit", "proxy", "local"]},
                            "url": {
                                "type": "string",
                                "maxLength": MAX_URL_LENGTH,
                                "description": "of `daily` (https) and `livekit` (ws, wss, http,"
                                " https) rooms",
                            },
                            "token": {
                                "type": "string",
                                "maxLength": MAX_TOKEN_LENGTH,
                                "description": "of `daily` and `livekit` rooms: lets the avatar in",
                            },
                        },
                    },
                    "metadata": {
                        "type": "object",
                        "default": {},
                        "description": "kept with the session, at most 16 KB; null is an error",
                    },
                    "auto_start": {
                        "type": ["boolean", "null"],
                        "default": True,
                        "description": "false: the session waits for Start",
                    },
                },
            },
            "examples": {
                "livekit": {
                    "value": {
                        "avatar": "PUBLIC/Avatars/anna",
                        "room": {
                            "platform": "livekit",
                            "url": "wss://livekit.example.com",
                            "token": "<access token of the avatar>",
                        },
                    }
                },
                "local": {
                    "value": {"avatar": "PUBLIC/Avatars/anna", "room": {"platform": "local"}}
                },
            },
        }
    },
}

IDEMPOTENCY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key with the same body returns the first session, for 24 hours",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
