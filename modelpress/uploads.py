"""Resumable uploads (draft-ietf-httpbis-resumable-upload) with a digest per part (RFC 9530)."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from app.contracts.upload import Upload
from modelpress.errors import Conflict, InvalidInput, ProblemError, ServerUnreachable, TransferError
from modelpress.transport import Call, Transport

PART_BYTES = 16 * 2**20
Progress = Callable[[int, int], None]  # (bytes arrived, bytes in all)


def digest_field(sha256: bytes) -> str:
    """Return the value of `Content-Digest` or `Repr-Digest` for a raw SHA-256."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def upload_file(transport: Transport, path: Path, progress: Progress | None = None) -> Upload:
    """Send the file in parts of 16 MiB and go on after a broken connection.

    Raises InvalidInput for a path that is no file, TransferError when the server received other bytes.
    """
    if not path.is_file():
        msg = f"{path} is not a file"
        raise InvalidInput(msg)
    size = path.stat().st_size
    if size == 0:
        msg = f"{path} is empty"
        raise InvalidInput(msg)
    opened = {"Upload-Length": str(size), "Upload-Complete": "?0"}
    # Repeating this leaves at most an empty upload behind, which expires by itself.
    answer = transport.send(Call("POST", "/v1/uploads", headers=opened, repeatable=True))
    upload = _send_parts(transport, Upload.model_validate_json(answer.content), path, progress)
    _check_arrived(upload, path)
    return upload


def _send_parts(transport: Transport, upload: Upload, path: Path, progress: Progress | None) -> Upload:
    size, failures = path.stat().st_size, 0
    with path.open("rb") as source:
        while not upload.complete:
            source.seek(upload.offset)
            try:
                moved = _send_part(transport, upload, source.read(PART_BYTES), size)
            except (ServerUnreachable, ProblemError) as error:
                failures += 1
                if failures >= transport.retry.attempts or not _can_resume(error):
                    raise
                transport.retry.wait(failures - 1)
                moved = _where(transport, upload)
            failures = 0 if moved.offset > upload.offset else failures
            upload = moved
            if progress:
                progress(upload.offset, size)
    return upload


def _send_part(transport: Transport, upload: Upload, part: bytes, size: int) -> Upload:
    end = upload.offset + len(part)
    headers = {
        "Upload-Offset": str(upload.offset),
        "Upload-Complete": "?1" if end == size else "?0",
        "Content-Type": "application/partial-upload",
        "Content-Digest": digest_field(hashlib.sha256(part).digest()),
    }
    answer = transport.send(Call("PATCH", f"/v1/uploads/{upload.id}", headers=headers, content=part))
    if answer.content:
        return Upload.model_validate_json(answer.content)
    return upload.model_copy(update={"offset": end, "complete": end == size})


def _can_resume(error: Exception) -> bool:
    if isinstance(error, ProblemError):
        return error.problem.retryable or isinstance(error, Conflict)
    return True


def _where(transport: Transport, upload: Upload) -> Upload:
    """Ask how much has arrived."""
    headers = transport.send(Call("HEAD", f"/v1/uploads/{upload.id}")).headers
    complete = headers.get("Upload-Complete") == "?1"
    return upload.model_copy(update={"offset": int(headers["Upload-Offset"]), "complete": complete})


def _check_arrived(upload: Upload, path: Path) -> None:
    if upload.sha256 is None:
        return
    with path.open("rb") as source:
        here = hashlib.file_digest(source, "sha256").hexdigest()
    if here != upload.sha256:
        msg = f"{path} changed while it was uploaded; upload it again"
        raise TransferError(msg)
