"""HTTP/1.1 on the wire: parsed in C where httptools is installed, and bounded where that has no
bounds of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

MAX_HEADERS_BYTES = 64 * 1024
"""Of a request's line and headers together, and of its trailers."""

_PIECE = 16 * 1024
"""What is read at once is parsed in such pieces, so that the count is exact to one of them."""

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
else:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        HttpToolsProtocol = None

if TYPE_CHECKING or HttpToolsProtocol is not None:

    class BoundedHttp(HttpToolsProtocol):
        """uvicorn's protocol over httptools, which would keep headers of any size in memory."""

        _open_bytes = 0
        """What came since the last moment at which no line or header was unfinished."""
        _open = False

        def data_received(self, data: bytes) -> None:
            """Parse what came; too many headers are answered with 400."""
            if len(data) <= _PIECE:
                self._parse(data)
                return
            for start in range(0, len(data), _PIECE):
                self._parse(data[start : start + _PIECE])
                if self.transport.is_closing() or self.transport.get_protocol() is not self:
                    return

        def _parse(self, data: bytes) -> None:
            super().data_received(data)
            if not self._open:
                self._open_bytes = 0
                return
            self._open_bytes += len(data)
            if self._open_bytes > MAX_HEADERS_BYTES and not self.transport.is_closing():
                self.send_400_response("Request headers are too large.")

        def on_message_begin(self) -> None:
            """A request line begins."""
            self._open = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            """The headers are whole."""
            self._open = False
            super().on_headers_complete()

        def on_chunk_header(self) -> None:
            """A chunk's size is known; after the last one there may be trailers."""
            self._open = True

        def on_body(self, body: bytes) -> None:
            """Content of the body, which the application bounds."""
            self._open = False
            super().on_body(body)

        def on_message_complete(self) -> None:
            """The request is whole."""
            self._open = False
            super().on_message_complete()


def http_options() -> dict[str, Any]:
    """What ``uvicorn.Config`` needs to be told."""
    if HttpToolsProtocol is not None:
        return {"http": BoundedHttp}
    return {"http": "h11", "h11_max_incomplete_event_size": MAX_HEADERS_BYTES}
