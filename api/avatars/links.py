"""Signed links to an avatar's pictures: anyone who has one sees the picture until it expires."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args
from urllib.parse import quote

from api.secret import Secret

Picture = Literal["preview", "image"]
PICTURES: tuple[Picture, ...] = get_args(Picture)

LIFETIME_S = 24 * 3600
_PURPOSE = "avatar picture"


class AvatarLinks:
    """Makes and checks the links ``{base_url}/media/avatars/{id}/preview?exp=&sig=``."""

    def __init__(self, secret: Secret, base_url: str) -> None:
        """``base_url``: without a slash at its end."""
        self._secret = secret
        self._base_url = base_url

    def url(self, avatar_id: str, picture: Picture, now: datetime) -> str:
        """A link that works for 24 hours."""
        expires = int(now.timestamp()) + LIFETIME_S
        path = quote(_path(avatar_id, picture))
        return f"{self._base_url}{path}?exp={expires}&sig={self._sign(avatar_id, picture, expires)}"

    def seconds_left(
        self, avatar_id: str, picture: Picture, exp: str, sig: str, now: datetime
    ) -> int:
        """How long the link still works, at least 1; 0: it does not, or it is not one of ours."""
        # Any text may come here: only what ``url`` writes is a number.
        if not (exp.isascii() and exp.isdigit() and len(exp) <= 12):
            return 0
        if not self._secret.verify(_PURPOSE, f"{_path(avatar_id, picture)}?exp={exp}", sig):
            return 0
        return max(0, int(exp) - int(now.timestamp()))

    def _sign(self, avatar_id: str, picture: Picture, expires: int) -> str:
        return self._secret.sign(_PURPOSE, f"{_path(avatar_id, picture)}?exp={expires}")


def _path(avatar_id: str, picture: Picture) -> str:
    return f"/media/avatars/{avatar_id}/{picture}"
