"""Objects in stores that the operator named as sources: read, never written. Knows no tenant and no record."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from app.errors import SourceRefused
from app.outside import SourceStore

_READ_BYTES = 1 << 20
_CONNECT_S = 10.0


Store = ObjectStore


class StoreAway(Exception):
    """The store does not answer, or broke off."""


@dataclass(frozen=True)
class Read:
    """The bytes of an object from `offset` on; `size_bytes` is of the whole object, `tag` its entity tag."""

    chunks: AsyncIterator[bytes]
    offset: int
    size_bytes: int
    tag: str | None


def open_store(named: SourceStore, idle_s: float) -> ObjectStore:
    """Return a client of the store; raises SourceRefused when its options cannot be used."""
    options = {name: value.get_secret_value() for name, value in named.options.items()}
    patience = {
        "connect_timeout": timedelta(seconds=min(_CONNECT_S, idle_s)),
        "read_timeout": timedelta(seconds=idle_s),
        "timeout": timedelta(days=1),  # of a whole answer; how long a fetch may last is its own limit
        "allow_http": True,  # as for the service's own blobs: the operator names the endpoint
    }
    try:
        return from_url(named.url, config=options, client_options=patience, retry_config={"max_retries": 1})  # type: ignore[call-overload,no-any-return] # its TypedDicts
    except (BaseError, ValueError) as error:
        # The library's text may hold an option's value.
        raise SourceRefused("The source store is not set up as it must be: the operator has to look at it.") from error


@asynccontextmanager
async def read(store: ObjectStore, key: str, offset: int, tag: str | None) -> AsyncIterator[Read]:
    """Yield an object's bytes from `offset` on, or from 0 when it is no longer the version `tag`.

    Raises SourceRefused when the store does not give it, StoreAway when asking again may help.
    """
    asked = {"range": {"offset": offset}, "if_match": tag} if offset and tag else {}
    with _translated(key):
        try:
            found = await obstore.get_async(store, key, options=asked)  # type: ignore[arg-type] # its TypedDict
        except PreconditionError:
            found = await obstore.get_async(store, key)
    meta = found.meta
    yield Read(_chunks(found.stream(min_chunk_size=_READ_BYTES), key), found.range[0], meta["size"], meta["e_tag"])


async def _chunks(stream: AsyncIterator[object], key: str) -> AsyncIterator[bytes]:
    with _translated(key):
        async for chunk in stream:
            yield bytes(chunk)  # type: ignore[call-overload] # a buffer of obstore's


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotFoundError, InvalidPathError) as error:
        raise SourceRefused(f"The source store holds nothing under {key}.") from error
    except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
        raise SourceRefused("The source store refuses the access that the operator set up.") from error
    except (BaseError, OSError) as error:
        raise StoreAway from error
