"""Artifacts: read, listed, streamed. Their bytes are told apart from records by digest."""

from collections.abc import AsyncIterator

import structlog

from app.contracts.artifact import Artifact, Variant, VariantName
from app.contracts.base import Page
from app.errors import ArtifactMissing, DependencyUnavailable, NotFound
from app.services.caller import Caller, timestamp
from app.stores import records
from app.stores.tables import artifacts

_log = structlog.get_logger()


def read(caller: Caller, artifact_id: str) -> Artifact:
    """Return an artifact; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return artifact_of(records.get(tx, artifacts, caller.tenant, artifact_id))


def page(caller: Caller, cursor: records.Cursor, model: str | None, job: str | None) -> Page[Artifact]:
    """Return one page of the tenant's artifacts, newest first."""
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, artifacts, caller.tenant, cursor, {"model": model, "job_id": job})
    shown = [artifact_of(row) for row in rows[: cursor.limit]]
    return Page[Artifact](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def variant(caller: Caller, artifact_id: str, name: VariantName) -> Variant:
    """Return one file's digest and size; raises NotFound, and ArtifactMissing when its bytes are gone."""
    found = read(caller, artifact_id).variants.get(name)
    if found is None:
        msg = f"The artifact has no variant `{name}`."
        raise NotFound(msg)
    if caller.resources.blobs.size(found.sha256) is None:
        raise ArtifactMissing
    return found


def zstd_size(caller: Caller, sha256: str) -> int | None:
    """Return the bytes of the stored zstd copy, or None when there is none."""
    return caller.resources.blobs.zstd_size(sha256)


async def signed(caller: Caller, found: Variant) -> str | None:
    """Return an address of the blob store for these bytes, for a few minutes; None where the gateway is to send them.

    That is so unless it was switched on, for stores that cannot sign, and while this one's credentials do not let us.
    """
    valid_s = caller.resources.settings.signed_downloads_s
    if not valid_s:
        return None
    try:
        return await caller.resources.blobs.signed(found.sha256, valid_s)
    except DependencyUnavailable:
        _log.warning("the blob store's credentials sign nothing: the gateway sends the bytes")
        return None


async def opened(caller: Caller, found: Variant, span: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
    """Return the bytes `span` (start, end) or all of them, with the first chunk read.

    Raises ArtifactCorrupt or ArtifactMissing at once where the first chunk shows it; a later fault breaks the stream.
    """
    start, end = span or (0, None)
    return await _begun(caller.resources.blobs.stream(found.sha256, start, end))


async def opened_zstd(caller: Caller, found: Variant) -> AsyncIterator[bytes]:
    """Return the bytes of the zstd copy, as `opened` does."""
    return await _begun(caller.resources.blobs.stream_zstd(found.sha256, found.zstd_sha256))


async def _begun(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    return _continued(await anext(stream, b""), stream)


async def _continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def artifact_of(row: records.Record) -> Artifact:
    """Return the contract of a row."""
    own = {"id": row["id"], "job": row["job_id"], "created_at": timestamp(row["created_at"])}
    return Artifact.model_validate({**row["document"], **own})
