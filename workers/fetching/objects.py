"""A source in a store that the operator named."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.stores import foreign
from workers.fetching.download import Broken, Opened


@dataclass(frozen=True)
class Object:
    """An object of a store."""

    store: foreign.Store
    key: str

    @asynccontextmanager
    async def open(self, offset: int, tag: str | None) -> AsyncIterator[Opened]:
        """Yield the bytes from `offset` on, or from 0 when the object is another version now."""
        try:
            async with foreign.read(self.store, self.key, offset, tag) as found:
                yield Opened(found.chunks, found.offset, found.size_bytes, found.tag)
        except foreign.StoreAway as error:
            raise Broken("The source store does not answer, or broke off.") from error
