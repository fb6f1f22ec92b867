"""``python -m worker.healthcheck``: exit status 0 while the worker on this machine answers /ping.

Warming up counts as healthy, as loading takes a while; draining does not. Standard library only:
it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 4.0


def healthy(host: str, port: int) -> bool:
    """Whether ``/ping`` there answers 200 (serving) or 204 (warming up) within 4 seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status in (200, 204)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """0: healthy, 1: not."""
    host = os.environ.get("AVATAR_WORKER_HOST", "127.0.0.1")
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    port = int(os.environ.get("AVATAR_WORKER_HTTP_PORT", "8080"))
    return 0 if healthy(host, port) else 1


if __name__ == "__main__":
    sys.exit(main())
