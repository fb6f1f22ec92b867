"""Where clients reach this worker on RunPod.

A pod is reached on a TCP port mapped to a public address (no TLS), and through RunPod's HTTPS
proxy. Which of the two exist is decided by the ports of the template; a client takes ``direct``
where it can (browsers on https pages cannot) and ``proxy`` otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

SPEECH_PATH = "/v1/ws"

SYMMETRIC_FROM = 70_000
"""A template port from here on asks for an outside number that is the same inside; RunPod tells
the number in the port's variable."""

_PORT_VARIABLE = "RUNPOD_TCP_PORT_"


def listen_port(environ: Mapping[str, str], port: int) -> int:
    """The port to listen on: ``port``, unless it is not mapped and a symmetric port is."""
    if _mapped(environ, port) is not None:
        return port
    for name in sorted(environ):
        asked = name.removeprefix(_PORT_VARIABLE)
        if asked != name and asked.isdecimal() and int(asked) >= SYMMETRIC_FROM:
            return _mapped(environ, int(asked)) or port
    return port


def speech_addresses(
    environ: Mapping[str, str], port: int, public: str | None = None
) -> dict[str, str]:
    """Addresses of the speech socket that listens on ``port``, by kind.

    ``public`` is an address the operator gave. ``direct`` and ``proxy`` come from RunPod's
    variables; ``local`` is there when nothing else is.
    """
    found = {"public": public} if public else {}
    outside = _mapped(environ, port)
    if outside is None and port in _symmetric(environ):
        outside = port
    address = environ.get("RUNPOD_PUBLIC_IP")
    if address and outside is not None:
        host = f"[{address}]" if ":" in address else address
        found["direct"] = f"ws://{host}:{outside}{SPEECH_PATH}"
    if proxy := proxy_url(environ, port):
        found["proxy"] = proxy.replace("https://", "wss://", 1) + SPEECH_PATH
    return found or {"local": f"ws://127.0.0.1:{port}{SPEECH_PATH}"}


def proxy_url(environ: Mapping[str, str], port: int) -> str | None:
    """RunPod's HTTPS address of ``port``; None outside a pod."""
    pod = environ.get("RUNPOD_POD_ID")
    return f"https://{pod}-{port}.proxy.runpod.net" if pod else None


def _mapped(environ: Mapping[str, str], port: int) -> int | None:
    text = environ.get(f"{_PORT_VARIABLE}{port}", "")
    return int(text) if text.isdecimal() and 0 < int(text) < 2**16 else None


def _symmetric(environ: Mapping[str, str]) -> set[int]:
    asked = (name.removeprefix(_PORT_VARIABLE) for name in environ)
    numbers = (int(text) for text in asked if text.isdecimal())
    return {_mapped(environ, each) or 0 for each in numbers if each >= SYMMETRIC_FROM}
