"""The socket of the HTTP service."""

from __future__ import annotations

import socket

from api.settings import PREFIX, ApiSettings


class PortError(OSError):
    """An address cannot be listened on; the text names the setting to change."""


def bind(settings: ApiSettings) -> socket.socket:
    """A socket on the settings' address.

    Raises:
        PortError: it cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _port_error(settings, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _port_error(settings, error) from error
    return listener


def _port_error(settings: ApiSettings, error: OSError) -> PortError:
    return PortError(
        f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); set {PREFIX}HOST and"
        f" {PREFIX}PORT to a free address"
    )
