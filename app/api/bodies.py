"""Bodies that stream: raw bytes, resumable parts, the browser's multipart form; none is ever whole in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import BadInput, PayloadTooLarge, UnsupportedEncoding
from app.formats import refuse_unsafe_name
from app.services.uploads import SenderGone

_IDLE_S = 60.0  # a sender that is silent for this long is gone
_FIELDS_BYTES = 64 << 10  # all text fields of a form together
_STRUCTURED = frozenset({"columns", "splits", "tags"})  # form fields that hold JSON


def media_type(request: Request) -> str:
    """Return the body's media type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; raises SenderGone when the client leaves or falls silent."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(_IDLE_S):
                chunk = await anext(stream, None)
        except (ClientDisconnect, TimeoutError) as error:
            raise SenderGone from error
        if chunk is None:
            return
        yield chunk


async def small(request: Request, limit: int) -> bytes:
    """Return a whole body of up to `limit` bytes; raises PayloadTooLarge."""
    body = bytearray()
    async for chunk in chunks(request):
        body += chunk
        if len(body) > limit:
            msg = f"The body may have up to {limit} bytes here."
            raise PayloadTooLarge(msg)
    return bytes(body)


@dataclass
class Form:
    """A multipart form with one file. Text fields are complete once the file has been read to its end."""

    request: Request
    fields: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None
    _held: list[bytes] = field(default_factory=list)
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _in_file: bool = False
    _bytes_of_fields: int = 0

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes as they arrive; raises BadInput when the form is broken or has not one file."""
        parser = self._parser()
        try:
            async for chunk in chunks(self.request):
                parser.write(chunk)
                for piece in self._held:
                    yield piece
                self._held.clear()
            parser.finalize()
        except MultipartParseError as error:
            msg = "The form is not valid multipart/form-data."
            raise BadInput(msg) from error
        if self.file_name is None:
            msg = "The form holds no file. Send it as the field `file`."
            raise BadInput(msg)

    def document(self) -> dict[str, object]:
        """Return the text fields as a JSON body would hold them."""
        return {name: _structured(name, value) for name, value in self.fields.items() if value}

    def _parser(self) -> MultipartParser:
        _, options = parse_options_header(self.request.headers.get("content-type"))
        if not options.get(b"boundary"):
            msg = "The form's Content-Type names no boundary."
            raise UnsupportedEncoding(msg)
        return MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._disposition, self._in_file = b"", False
        self._header.clear()
        self._value.clear()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._in_file = b"filename" in options
        if not self._in_file:
            return
        if self.file_name is not None:
            msg = "The form holds more than one file. Send one."
            raise BadInput(msg)
        self.file_name = options[b"filename"].decode(errors="replace")[:200]
        refuse_unsafe_name(self.file_name)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._held.append(data[start:end])
            return
        self._bytes_of_fields += end - start
        if self._bytes_of_fields > _FIELDS_BYTES:
            msg = f"The form's text fields may have up to {_FIELDS_BYTES} bytes together."
            raise PayloadTooLarge(msg)
        self._value += data[start:end]

    def _end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = bytes(self._value).decode(errors="replace")


def _structured(name: str, value: str) -> object:
    if name not in _STRUCTURED:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        msg = f"The form field `{name}` must hold JSON."
        raise BadInput(msg, errors=[(f"/{name}", "this is not JSON")]) from error
