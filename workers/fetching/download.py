"""One file from a source into a file here: measured, hashed, gone on with after a break. Knows no protocol."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from app.errors import BadInput, PayloadTooLarge, SourceUnreachable
from app.stores.sinks import Stored

_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # before tries 2 to 6 without a byte between them
_JITTER = 0.2

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")


class Broken(Exception):
    """The source broke off or asks to come again: what another try may cure."""

    def __init__(self, said: str, wait_s: float = 0.0) -> None:
        """Keep what happened, for people, and how long the source wants to be left alone, in seconds."""
        super().__init__(said)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Opened:
    """Bytes from `offset` on, of an object of `size` bytes in all, if that was said.

    `tag` names the version; with it the rest can be asked for later. None: it cannot.
    """

    chunks: AsyncIterator[bytes]
    offset: int
    size: int | None
    tag: str | None


# Opens the source at a byte, of the version named. May open it at 0 instead, when the version is gone. Raises Broken.
Opening = Callable[[int, str | None], AbstractAsyncContextManager[Opened]]
Say = Callable[[int, int | None], None]  # bytes that came, of how many


@dataclass
class _Arrival:
    """What has come so far."""

    file: BinaryIO
    limit: int
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    received: int = 0
    tag: str | None = None

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.received, self.tag = hashlib.sha256(), 0, None

    def take(self, chunk: bytes) -> None:
        self.received += len(chunk)
        refuse_longer(self.received, self.limit)
        self.digest.update(chunk)
        self.file.write(chunk)


async def patiently(action: Callable[[], Awaitable[Answer]]) -> Answer:
    """Do what may be Broken, six times at most; raises SourceUnreachable then, and what else `action` raises."""
    for wait_s in _WAITS_S:
        try:
            return await action()
        except Broken as broken:
            log.info("source broke off", reason=str(broken))
            await asyncio.sleep(max(broken.wait_s, wait_s * random.uniform(1, 1 + _JITTER)))
    try:
        return await action()
    except Broken as broken:
        raise SourceUnreachable(f"{broken} It was tried {len(_WAITS_S) + 1} times.") from broken


async def download(opening: Opening, path: Path, limit: int, say: Say) -> Stored:
    """Write the source to `path`; return its digest and size.

    Raises PayloadTooLarge beyond `limit` bytes, SourceUnreachable when it breaks off again and again, BadInput when it
    is empty, and what `opening` raises.
    """
    with path.open("wb") as file:
        arrival, tries = _Arrival(file, limit), 0
        while True:
            before = arrival.received
            try:
                await _go_on(opening, arrival, say)
            except Broken as broken:
                # What cannot be gone on with has gained nothing, however much came.
                tries = 0 if arrival.received > before and arrival.tag is not None else tries + 1
                if tries > len(_WAITS_S):
                    raise SourceUnreachable(f"{broken} It was tried {tries} times.") from broken
                log.info("source broke off", reason=str(broken), received=arrival.received, tries=tries)
                if arrival.tag is None:
                    arrival.restart()
                await asyncio.sleep(max(broken.wait_s, _WAITS_S[max(tries - 1, 0)] * random.uniform(1, 1 + _JITTER)))
                continue
            break
    if not arrival.received:
        raise BadInput("The source is empty.")
    return Stored(arrival.digest.hexdigest(), arrival.received)


def refuse_longer(size: int | None, limit: int) -> None:
    """Raise PayloadTooLarge for more than `limit` bytes."""
    if size is not None and size > limit:
        raise PayloadTooLarge(f"The source has more bytes than the {limit} that are taken here.")


async def _go_on(opening: Opening, arrival: _Arrival, say: Say) -> None:
    async with opening(arrival.received, arrival.tag) as opened:
        if opened.offset != arrival.received:
            arrival.restart()
        refuse_longer(opened.size, arrival.limit)
        arrival.tag = opened.tag
        async for chunk in opened.chunks:
            arrival.take(chunk)
            say(arrival.received, opened.size)
    if opened.size is not None and arrival.received != opened.size:
        raise Broken(f"The source ended at byte {arrival.received} of {opened.size}.")
