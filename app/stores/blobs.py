"""Bytes under their content address, on local disk, S3, Google Cloud Storage, Azure or in memory (obstore).

Nothing half-written is ever visible: bytes go to a temporary key and are renamed to `sha256/<hex>` once their digest
is known. Knows no records; whoever stores bytes records their digest afterwards.
"""

import asyncio
import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import obstore
import zstandard
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store, from_url

from app.errors import ArtifactCorrupt, DependencyUnavailable, InsufficientStorage
from app.stores.sinks import BATCH_BYTES, Sink, Stored, Writer, pour, translated
from app.stores.staging import Appender, Segment, part_address

_READ_BYTES = 2 << 20
_ZSTD_LEVEL = 9
_RETRY_FOR = timedelta(seconds=30)
_FETCHES = 3  # bytes may be damaged on their way from a remote store and whole where they lie
_MOST_TRUSTED = 4_096
_PROBE_BYTES = 1_024


class Piece(NamedTuple):
    """The first `length` bytes of the object at `key`, as a piece of an upload."""

    key: str
    length: int


class Listed(NamedTuple):
    """An object's key and when it was last written, in Unix seconds by the store's clock."""

    key: str
    at: float


def address(sha256: str) -> str:
    """Return the key of the bytes with this digest."""
    return f"sha256/{sha256}"


def zstd_address(sha256: str) -> str:
    """Return the key of the zstd-compressed copy of the bytes with this digest."""
    return f"zstd/{sha256}"


class Blobs:
    """The blob store. Methods named `async` are for the gateway, the others for workers.

    Every method raises DependencyUnavailable when the store does not answer, InsufficientStorage when it is full and
    ArtifactMissing when the bytes are gone.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        """Wrap an obstore store; `folder` is where a local one keeps its keys as files."""
        self._store, self._folder = store, folder
        self._trusted: OrderedDict[str, str | None] = OrderedDict()  # verified objects, by the entity tag they had

    @classmethod
    def open(cls, url: str) -> Self:
        """Open `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory:///`.

        Credentials come from the provider's usual environment variables (`AWS_ACCESS_KEY_ID`, …).
        """
        if url.startswith("memory:"):
            return cls(MemoryStore())
        if url.startswith("file:"):
            store = LocalStore.from_url(url, mkdir=True)
            return cls(store, Path(unquote(urlsplit(url).path)))
        return cls(
            from_url(
                url,
                retry_config={"max_retries": 5, "retry_timeout": _RETRY_FOR},
                # Whether it is http is decided by the endpoint that the operator names; a provider's own is https.
                client_options={
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(minutes=5),
                    "allow_http": True,
                },
            )
        )

    async def put_stream(self, chunks: AsyncIterator[bytes]) -> Stored:
        """Store a stream under its content address; equal bytes are kept once."""
        key = _temporary()
        stored = await self.put_part(key, chunks)
        await asyncio.to_thread(self.adopt, key, stored)
        return stored

    async def put_part(self, key: str, chunks: AsyncIterator[bytes]) -> Stored:
        """Write a stream to `key`, whole or not at all; the object appears when the stream has ended."""
        writer = await asyncio.to_thread(Writer, self._store, key)
        await pour(chunks, writer)
        return await asyncio.to_thread(writer.close)

    async def extend(
        self, segment: Segment, chunks: AsyncIterator[bytes], also: "hashlib._Hash | None" = None
    ) -> Piece:
        """Add a stream to a segment, and hash it into `also` too; return the piece that holds it.

        On local disk a segment's pieces share one key, and the piece is what the stream added; elsewhere each has its
        own. After an error the segment must not be used again.
        """
        digests = (segment.digest,) if also is None else (segment.digest, also)
        if not segment.key or self._folder is None:
            segment.key = part_address(segment.upload_id, segment.reached)
        writer = await asyncio.to_thread(self._grower, segment, digests)
        await pour(chunks, writer)
        with translated():
            await asyncio.to_thread(writer.close)
        added = writer.size_bytes
        segment.size_bytes += added
        return Piece(segment.key, added)

    def _grower(self, segment: Segment, digests: "tuple[hashlib._Hash, ...]") -> Sink:
        if self._folder is None:
            return Writer(self._store, segment.key, digests)
        with translated():
            return Appender(self._folder / segment.key, segment.size_bytes, digests)

    def adopt(self, key: str, stored: Stored, *, keep: bool = False) -> None:
        """Give the object at `key`, whose digest is known, its content address; `keep` leaves the old name too.

        On local disk both names are of the same bytes, so nothing is copied.
        """
        move = obstore.copy if keep else obstore.rename
        with translated():
            try:
                # Also over equal bytes: those may be old and unreferenced, and on their way out.
                move(self._store, key, address(stored.sha256))
            except (AlreadyExistsError, FileNotFoundError):
                if self._head(address(stored.sha256)) is None:
                    raise

    def compose(self, pieces: Sequence[Piece]) -> Stored:
        """Join pieces in order under one content address; the pieces stay until `delete`."""
        return self._put(chunk for piece in pieces for chunk in self._read(piece.key, piece.length))

    def put_file(self, path: Path) -> Stored:
        """Store a file's bytes under their content address."""
        with path.open("rb") as file:
            return self.put_open(file)

    def put_open(self, file: BinaryIO) -> Stored:
        """Store an open file's bytes, from its start, under their content address."""
        file.seek(0)
        return self._put(iter(lambda: file.read(BATCH_BYTES), b""))

    def _put(self, chunks: Iterable[bytes]) -> Stored:
        key = _temporary()
        stored = self._write(key, chunks)
        self.adopt(key, stored)
        return stored

    def _write(self, key: str, chunks: Iterable[bytes]) -> Stored:
        writer = Writer(self._store, key)
        try:
            for chunk in chunks:
                writer.write(chunk)
        except BaseException:
            writer.abandon()
            raise
        return writer.close()

    def fetch(self, sha256: str, path: Path) -> int:
        """Copy the bytes with this digest to a new file, verified; return their size.

        Raises ArtifactCorrupt, and leaves no file, when the stored bytes have another digest.
        """
        for _turn in range(1 if self._folder else _FETCHES):
            digest, size = hashlib.sha256(), 0
            with path.open("wb") as file:
                for chunk in self._read(address(sha256)):
                    digest.update(chunk)
                    size += file.write(chunk)
            if digest.hexdigest() == sha256:
                return size
            path.unlink()
        raise _corrupt(sha256)

    async def stream(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes `start` up to, not including, `end`, of the object.

        A whole object is hashed on its way; when the digest is wrong, the last chunk is held back and
        ArtifactCorrupt is raised, so that the reader sees a short answer and never a complete wrong one. Before a
        part of it is read, the object is hashed once for as long as it stays what it is.
        """
        whole = start == 0 and end is None
        key = address(sha256)
        if not whole:
            await self._trust(key, sha256)
        async with aclosing(self._verified(key, sha256) if whole else self._read_async(key, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stream_zstd(self, sha256: str, zstd_sha256: str | None) -> AsyncIterator[bytes]:
        """Yield the zstd copy of the object, verified as `stream` does when the copy's own digest is known."""
        key = zstd_address(sha256)
        async with aclosing(self._verified(key, zstd_sha256) if zstd_sha256 else self._read_async(key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _trust(self, key: str, sha256: str) -> None:
        tag = await asyncio.to_thread(self._tag, key)
        if tag is not None and self._trusted.get(key) == tag:
            return
        async for _chunk in self._verified(key, sha256):
            pass
        self._trusted[key] = tag
        if len(self._trusted) > _MOST_TRUSTED:
            self._trusted.popitem(last=False)

    def _tag(self, key: str) -> str | None:
        with translated():
            return obstore.head(self._store, key)["e_tag"]

    async def _verified(self, key: str, sha256: str) -> AsyncGenerator[bytes, None]:
        digest, held = hashlib.sha256(), b""
        async for chunk in self._read_async(key):
            hashing = asyncio.get_running_loop().run_in_executor(None, digest.update, chunk)
            try:
                if held:
                    yield held  # the reader takes it while the chunk after it is hashed
            finally:
                await hashing
            held = chunk
        if digest.hexdigest() != sha256:
            raise _corrupt(sha256)
        if held:
            yield held

    async def _read_async(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        with translated():
            if end is not None and end <= start:
                return
            span = (start, end) if end is not None else {"offset": start}
            options = {} if start == 0 and end is None else {"range": span}
            found = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type] # its TypedDict
            async for chunk in found.stream(min_chunk_size=_READ_BYTES):
                yield bytes(chunk)

    async def signed(self, sha256: str, valid_s: int) -> str | None:
        """Return an address that anybody may GET the object from for `valid_s` seconds; None where there are none.

        Files and memory have no addresses. The bytes are not verified, and whether they are there is not looked at.
        """
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        with translated():
            return await obstore.sign_async(self._store, "GET", address(sha256), timedelta(seconds=valid_s))

    async def verify(self, sha256: str) -> None:
        """Read the whole object; raises ArtifactCorrupt when its digest is wrong."""
        async for _chunk in self.stream(sha256):
            pass

    def make_zstd(self, sha256: str, file: BinaryIO) -> Stored:
        """Store a zstd copy of the open file, which has this digest; return the copy's own digest and size."""
        if self.zstd_size(sha256) is not None:
            return self._hashed(zstd_address(sha256))
        file.seek(0)
        chunks = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).read_to_iter(
            file, size=os.fstat(file.fileno()).st_size, read_size=BATCH_BYTES, write_size=BATCH_BYTES
        )
        return self._write(zstd_address(sha256), chunks)

    def _hashed(self, key: str) -> Stored:
        digest, size = hashlib.sha256(), 0
        for chunk in self._read(key):
            digest.update(chunk)
            size += len(chunk)
        return Stored(digest.hexdigest(), size)

    def size(self, sha256: str) -> int | None:
        """Return the size in bytes of the object with this digest, or None."""
        return self._head(address(sha256))

    def zstd_size(self, sha256: str) -> int | None:
        """Return the size in bytes of the zstd copy, or None when none was made."""
        return self._head(zstd_address(sha256))

    def exists(self, sha256: str) -> bool:
        """Return whether the bytes with this digest are stored."""
        return self._head(address(sha256)) is not None

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects by key (`address(…)`, `part_address(…)`); missing ones are fine."""
        with translated():
            for key in keys:
                if self._head(key) is not None:
                    obstore.delete(self._store, key)

    def delete_upload(self, upload_id: str) -> None:
        """Delete every part of an upload, recorded or not."""
        self.delete([found.key for found in self.listed(f"uploads/{upload_id}")])

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield every object whose key starts with the folder `prefix`."""
        with translated():
            for page in obstore.list(self._store, prefix):
                for found in page:
                    yield Listed(found["path"], found["last_modified"].timestamp())

    def holds(self, key: str) -> bool:
        """Return whether there is an object at `key`."""
        return self._head(key) is not None

    def size_at(self, key: str) -> int | None:
        """Return the size in bytes of the object at `key`, or None."""
        return self._head(key)

    def send(self, key: str, to: Self) -> Stored:
        """Copy an object to the same key of another store, whole or not at all."""
        return to._write(key, self._read(key))

    def move(self, key: str, to: str) -> bool:
        """Rename an object, over what stands there; False when it is gone."""
        with translated():
            try:
                obstore.rename(self._store, key, to)
            except FileNotFoundError:
                return False
        return True

    def ping(self) -> bool:
        """Return whether the store answers."""
        try:
            self._head("ping")
        except (DependencyUnavailable, InsufficientStorage):
            return False
        return True

    def probe(self) -> None:
        """Write, read and delete an object; raises ArtifactCorrupt when other bytes come back."""
        key, content = _temporary(), secrets.token_bytes(_PROBE_BYTES)
        stored = self._write(key, [content])
        back = b"".join(self._read(key))
        self.delete([key])
        if back != content:
            raise _corrupt(stored.sha256)

    def _head(self, key: str) -> int | None:
        with translated():
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                return None

    def _read(self, key: str, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes, or its first `length`; raises ArtifactMissing when it has fewer."""
        seen = 0
        with translated():
            found = obstore.get(self._store, key, options={} if length is None else {"range": (0, length)})
            for chunk in found.stream(min_chunk_size=BATCH_BYTES):
                seen += len(chunk)
                yield bytes(chunk)
            if length is not None and seen != length:
                raise FileNotFoundError(key)


def _temporary() -> str:
    return f"tmp/{secrets.token_hex(16)}"


def _corrupt(sha256: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"The bytes stored for sha256 {sha256} have another digest.")
