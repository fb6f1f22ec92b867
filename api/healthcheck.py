"""Whether the server on this machine is alive. Standard library only: it runs every few seconds."""

from __future__ import annotations

import http.client
import os

TIMEOUT_S = 4.0

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def own_address() -> tuple[str, int]:
    """Where the settings have the server listen, as seen from this machine."""
    host = os.environ.get("AVATAR_API_HOST", "127.0.0.1")
    port = os.environ.get("AVATAR_API_PORT", "8000")
    return _EVERYWHERE.get(host, host), int(port) if port.isdecimal() else 0


def alive(host: str, port: int) -> bool:
    """Whether ``/healthz`` there answers 200 within 4 seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
