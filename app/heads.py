"""Request line and headers held to a size: uvicorn's parser keeps whatever comes until they end. Knows no route."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import HeadersTooLarge
from app.problems import problem_of

MAX_HEAD_BYTES = 64 << 10


def _refusal() -> bytes:
    body = problem_of(HeadersTooLarge()).model_dump_json(exclude_none=True).encode()
    head = (
        f"HTTP/1.1 {HeadersTooLarge.status} Request Header Fields Too Large\r\n"
        f"Content-Type: application/problem+json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class BoundedHeads(HttpToolsProtocol):
    """Closes a connection whose head does not end in time; one that came in a single read is judged by the app."""

    _head_bytes = 0  # of the head that has not ended yet
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.logger.warning("request refused: its head is too large")
            self.transport.write(_refusal())
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count; the pieces of a pipelined head before this one belong to another request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: a body follows, or nothing."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()
