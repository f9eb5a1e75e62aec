"""Resumable and one-shot uploads: bytes on their way into the blob store, in slices that survive a killed gateway.

Knows no HTTP: bodies are streams of bytes, and a sender that vanishes is `SenderGone`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import groupby

from app.contracts.base import new_id
from app.contracts.upload import Upload
from app.errors import (
    BadInput,
    Conflict,
    DigestMismatch,
    NotFound,
    OffsetMismatch,
    PayloadTooLarge,
)
from app.formats import HEAD_BYTES, refuse_unsafe_head
from app.interruptions import reach
from app.services import quotas
from app.services.caller import Caller, timestamp
from app.stores import records
from app.stores.blobs import Piece
from app.stores.sinks import Stored
from app.stores.staging import Segment
from app.stores.tables import uploads

SLICE_BYTES = 32 << 20  # the most that a killed gateway loses of a part


class SenderGone(Exception):
    """The sender went away in the middle of its body."""


@dataclass(frozen=True)
class Part:
    """One PATCH: where it starts, its bytes, whether it is the last, and its SHA-256 when the sender said it."""

    offset: int
    chunks: AsyncIterator[bytes]
    last: bool = False
    sha256: bytes | None = None


@dataclass
class _Arrival:
    """What has come of one part so far."""

    start: int
    limit: int
    received: int = 0
    head: bytes = b""
    ended: bool = False
    gone: bool = False


def begin(caller: Caller, length: int | None) -> Upload:
    """Open an upload of `length` bytes, or of unknown length."""
    settings = caller.resources.settings
    refuse_longer(length or 0, settings.max_upload_bytes)
    upload_id = new_id("upl")
    with caller.resources.database.transaction() as tx:
        quotas.refuse_more_uploads(tx, caller)
        quotas.refuse_more_bytes(tx, caller, length or 0)
        expires_at = records.clock(tx) + settings.upload_ttl_s
        columns: dict[str, object] = {
            "document": {},
            "length": length,
            "offset": 0,
            "complete": False,
            "expires_at": expires_at,
        }
        records.add(tx, uploads, caller.tenant, upload_id, columns)
        return upload_of(records.get(tx, uploads, caller.tenant, upload_id))


def refuse_longer(length: int, limit: int) -> None:
    """Raise PayloadTooLarge for an announced length of more than `limit` bytes."""
    if length > limit:
        msg = f"Up to {limit} bytes are accepted here, and {length} were announced."
        raise PayloadTooLarge(msg)


def read(caller: Caller, upload_id: str) -> Upload:
    """Return an upload; raises NotFound, also when it has expired."""
    with caller.resources.database.reading() as tx:
        row = records.get(tx, uploads, caller.tenant, upload_id)
        if row["expires_at"] < records.clock(tx):
            msg = "The upload has expired. Start a new one."
            raise NotFound(msg)
    return upload_of(row)


def remove(caller: Caller, upload_id: str) -> None:
    """Forget an upload and its parts."""
    with caller.resources.database.transaction() as tx:
        records.get(tx, uploads, caller.tenant, upload_id)
        records.remove(tx, uploads, upload_id)
    caller.resources.blobs.delete_upload(upload_id)


async def append(caller: Caller, upload_id: str, part: Part) -> Upload:
    """Add a part and return the upload as it then stands.

    What arrived before the sender vanished is kept, in slices of SLICE_BYTES. Raises OffsetMismatch when the part
    does not start where the upload stands, also when a parallel part was faster; DigestMismatch after taking the
    part back; PayloadTooLarge beyond the announced length; SenderGone after keeping what came.
    """
    upload = await asyncio.to_thread(read, caller, upload_id)
    _refuse_misplaced(upload, part)
    await asyncio.to_thread(_refuse_full, caller)
    limit = caller.resources.settings.max_upload_bytes if upload.length is None else upload.length
    arrival = _Arrival(part.offset, limit)
    segment = caller.resources.segments.take(upload_id, part.offset)
    # A segment that starts with the part has the part's own digest.
    digest = segment.digest if part.sha256 is None or segment.start == part.offset else hashlib.sha256()
    while not arrival.ended:
        await _keep_slice(caller, part, arrival, segment, digest)
    if arrival.gone:
        caller.resources.segments.rest(segment)
        raise SenderGone
    if part.sha256 is not None and digest.digest() != part.sha256:
        await asyncio.to_thread(_take_back, caller, part, segment)
        msg = "The part was not kept: its bytes do not have the SHA-256 of Content-Digest."
        raise DigestMismatch(msg)
    if part.last:
        await asyncio.to_thread(_complete, caller, segment)
    else:
        caller.resources.segments.rest(segment)
    return await asyncio.to_thread(read, caller, upload_id)


async def receive(caller: Caller, chunks: AsyncIterator[bytes], limit: int) -> Upload:
    """Store a whole body as a finished upload; nothing is kept when it breaks off or exceeds `limit` bytes."""
    await asyncio.to_thread(_refuse_full, caller)
    arrival = _Arrival(0, limit)
    stored = await caller.resources.blobs.put_stream(_measured(chunks, arrival))
    return await asyncio.to_thread(_record_whole, caller, stored)


def finished(tx: records.Transaction, caller: Caller, upload_id: str | None) -> Stored:
    """Return digest and size of a finished upload; raises Conflict while it is unfinished, BadInput if unknown."""
    row = records.find(tx, uploads, caller.tenant, upload_id or "")
    if row is None or row["expires_at"] < records.clock(tx):
        msg = "There is no upload with this id, or it has expired."
        raise BadInput(msg, errors=[("/upload", msg)])
    if not row["complete"]:
        msg = f"The upload stands at byte {row['offset']} and is not complete. Finish it first."
        raise Conflict(msg)
    return Stored(row["sha256"], row["offset"])


def upload_of(row: records.Record) -> Upload:
    """Return the contract of a row."""
    return Upload(
        id=row["id"],
        length=row["length"],
        offset=row["offset"],
        complete=row["complete"],
        sha256=row["sha256"],
        created_at=timestamp(row["created_at"]),
        expires_at=timestamp(row["expires_at"]),
    )


def _refuse_full(caller: Caller) -> None:
    with caller.resources.database.reading() as tx:
        quotas.refuse_more_bytes(tx, caller, 1)


def _refuse_misplaced(upload: Upload, part: Part) -> None:
    if upload.complete:
        msg = "The upload is already complete."
        raise Conflict(msg)
    if part.offset != upload.offset:
        msg = f"The upload stands at byte {upload.offset}, but the part starts at {part.offset}."
        raise OffsetMismatch(msg)


async def _keep_slice(caller: Caller, part: Part, arrival: _Arrival, segment: Segment, digest: "hashlib._Hash") -> None:
    """Store and record the next slice of the part; sets `ended` when there is no more."""
    first = await _next(part, arrival)
    if first is None:
        return
    blobs, offset = caller.resources.blobs, segment.reached
    also = None if digest is segment.digest else digest
    piece = await blobs.extend(segment, _slice(first, part, arrival), also)
    if not await asyncio.to_thread(_record, caller, segment.upload_id, offset, piece):
        if segment.size_bytes == piece.length:  # no recorded part shares its key
            await asyncio.to_thread(blobs.delete, [piece.key])
        msg = "Another part arrived at the same place first."
        raise OffsetMismatch(msg)


def _record(caller: Caller, upload_id: str, offset: int, piece: Piece) -> bool:
    with caller.resources.database.transaction() as tx:
        return records.add_part(tx, upload_id, offset, piece.length, piece.key)


async def _slice(first: bytes, part: Part, arrival: _Arrival) -> AsyncIterator[bytes]:
    size, chunk = 0, first
    while True:
        size += len(chunk)
        yield chunk
        if size >= SLICE_BYTES:
            return
        following = await _next(part, arrival)
        if following is None:
            return
        chunk = following


async def _next(part: Part, arrival: _Arrival) -> bytes | None:
    """Return the next chunk that is not empty, or None at the end, which may be the sender's going."""
    try:
        async for chunk in part.chunks:
            if chunk:
                _measure(chunk, arrival)
                return chunk
    except SenderGone:
        arrival.gone = True
    arrival.ended = True
    return None


async def _measured(chunks: AsyncIterator[bytes], arrival: _Arrival) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        _measure(chunk, arrival)
        yield chunk


def _measure(chunk: bytes, arrival: _Arrival) -> None:
    arrival.received += len(chunk)
    if arrival.start + arrival.received > arrival.limit:
        msg = f"More bytes arrived than the {arrival.limit} that are allowed here."
        raise PayloadTooLarge(msg)
    if arrival.start == 0 and len(arrival.head) < HEAD_BYTES:
        arrival.head += chunk[:HEAD_BYTES]
        refuse_unsafe_head(arrival.head)


def _take_back(caller: Caller, part: Part, segment: Segment) -> None:
    with caller.resources.database.transaction() as tx:
        keys = records.rewind(tx, segment.upload_id, part.offset, segment.reached)
    caller.resources.blobs.delete(keys)


def _complete(caller: Caller, segment: Segment) -> None:
    upload = read(caller, segment.upload_id)
    if upload.length not in {None, upload.offset}:
        msg = f"The upload was announced with {upload.length} bytes and would end at {upload.offset}."
        raise BadInput(msg)
    if not upload.offset:
        msg = "The upload is empty."
        raise BadInput(msg)
    blobs, pieces = caller.resources.blobs, _pieces(caller, upload.id)
    if pieces == [(segment.key, segment.size_bytes)]:
        # The old name stays until the end is recorded, so that a gateway killed in between loses nothing.
        stored = Stored(segment.digest.hexdigest(), segment.size_bytes)
        blobs.adopt(segment.key, stored, keep=True)
    else:
        stored = blobs.compose(pieces)
    reach(caller.resources.settings, "joined")
    _record_completion(caller, upload.id, stored)


def _record_whole(caller: Caller, stored: Stored) -> Upload:
    if not stored.size_bytes:
        msg = "The body is empty. Send the file's bytes."
        raise BadInput(msg)
    upload = begin(caller, stored.size_bytes)
    with caller.resources.database.transaction() as tx:
        records.complete_upload(tx, upload.id, stored.sha256, stored.size_bytes)
    return upload.model_copy(update={"complete": True, "sha256": stored.sha256, "offset": stored.size_bytes})


def _pieces(caller: Caller, upload_id: str) -> list[Piece]:
    """Return the upload's pieces in order, parts of one key as one piece."""
    with caller.resources.database.reading() as tx:
        rows = records.parts(tx, upload_id)
    grouped = groupby(rows, key=lambda row: row["key"])
    return [Piece(key, sum(row["length"] for row in parts)) for key, parts in grouped]


def _record_completion(caller: Caller, upload_id: str, stored: Stored) -> None:
    with caller.resources.database.transaction() as tx:
        records.complete_upload(tx, upload_id, stored.sha256, stored.size_bytes)
    caller.resources.blobs.delete_upload(upload_id)
