"""A name for every request, so that an answer can be found again in the log."""

from __future__ import annotations

import re
import secrets

HEADER = "X-Request-Id"

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(given: str | None) -> str:
    """The caller's own id where it is a sane one, else a new one: 32 hexadecimal characters."""
    if given is not None and _SANE.fullmatch(given):
        return given
    return secrets.token_hex(16)
