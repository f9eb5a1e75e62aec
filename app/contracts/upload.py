"""Resumable raw-byte uploads (IETF draft-ietf-httpbis-resumable-upload)."""

from app.contracts.base import Contract, Sha256, Timestamp, UploadId


class Upload(Contract):
    """Bytes on their way in, or complete and waiting to become a model or data set."""

    id: UploadId
    length: int | None
    offset: int
    complete: bool
    sha256: Sha256 | None = None
    created_at: Timestamp
    expires_at: Timestamp
