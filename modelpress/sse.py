"""Server-sent events (WHATWG HTML, section 9.2) from a stream of bytes. Knows neither HTTP nor jobs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSentEvent:
    """One dispatched event; `id` is the last one seen, also when this event carried none."""

    event: str
    data: str
    id: str


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""Split at \n, \r\n and \r only: `str.splitlines` would also split inside JSON at U+2028."""
    rest = b""
    for chunk in chunks:
        whole = (rest + chunk).replace(b"\r\n", b"\n")
        held_back = b"\r" if whole.endswith(b"\r") else b""  # its \n may come with the next chunk
        *complete, rest = whole.removesuffix(held_back).replace(b"\r", b"\n").split(b"\n")
        rest += held_back
        yield from (line.decode("utf-8", "replace") for line in complete)


def parse(text_lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Yield the events; an event that the stream's end cuts off is dropped, as the standard says."""
    kind, last_id = "", ""
    data: list[str] = []
    for line in text_lines:
        if not line:
            if data:
                yield ServerSentEvent(kind or "message", "\n".join(data), last_id)
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
