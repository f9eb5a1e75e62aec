"""`/v1/uploads`: resumable raw bytes (draft-ietf-httpbis-resumable-upload, digests by RFC 9530)."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import Response

from app.api import bodies, digests
from app.api.access import CallerGiven
from app.api.problems import documented
from app.contracts.upload import Upload
from app.errors import (
    BadInput,
    Conflict,
    DigestMismatch,
    FormatUnsafe,
    InsufficientStorage,
    LengthRequired,
    ModelpressError,
    NotFound,
    OffsetMismatch,
    PayloadTooLarge,
    QuotaExceeded,
    StorageQuotaExceeded,
    UnsupportedEncoding,
)
from app.services import uploads
from app.services.caller import Caller

router = APIRouter(prefix="/uploads", tags=["uploads"])
_PART_TYPES = frozenset({"application/partial-upload", "application/octet-stream", "application/offset+octet-stream"})
_MOST_DIGITS = 100  # what is longer is no length; what is larger than the limit is refused as such
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RAW_BODY = {"requestBody": {"content": {"application/partial-upload": _BINARY, "application/octet-stream": _BINARY}}}
_PART_REFUSALS = (
    DigestMismatch,
    FormatUnsafe,
    InsufficientStorage,
    PayloadTooLarge,
    StorageQuotaExceeded,
    UnsupportedEncoding,
)


@router.post(
    "",
    status_code=201,
    response_model=Upload,
    responses=documented(BadInput, LengthRequired, QuotaExceeded, *_PART_REFUSALS),
    openapi_extra=_RAW_BODY,
)
async def create_upload(
    request: Request,
    caller: CallerGiven,
    upload_length: Annotated[str | None, Header(description="bytes of the whole upload")] = None,
    upload_complete: Annotated[str | None, Header(description="?1 when this body is all of it")] = None,
) -> Response:
    """Open an upload. The body may already hold its first bytes, or all of them."""
    last = _is_last(upload_complete)
    length = _whole_number("Upload-Length", upload_length)
    if length is None and last:
        length = _whole_number("Content-Length", request.headers.get("content-length"))
    if length is None and upload_complete is None:
        raise LengthRequired
    upload = await asyncio.to_thread(uploads.begin, caller, length)
    part = uploads.Part(0, bodies.chunks(request), last, digests.stated(request))
    try:
        upload = await uploads.append(caller, upload.id, part)
    except ModelpressError:
        await asyncio.to_thread(uploads.remove, caller, upload.id)
        raise
    return _answer(caller, upload, 201, {"Location": f"/v1/uploads/{upload.id}"})


@router.head("/{upload_id}", status_code=204, responses=documented(NotFound))
def stand_of_upload(caller: CallerGiven, upload_id: str) -> Response:
    """Tell where the upload stands: continue at `Upload-Offset`."""
    return Response(status_code=204, headers=_headers(caller, uploads.read(caller, upload_id)))


@router.get("/{upload_id}", responses=documented(NotFound))
def read_upload(caller: CallerGiven, upload_id: str) -> Upload:
    """Read an upload; `sha256` is there once it is complete."""
    return uploads.read(caller, upload_id)


@router.patch(
    "/{upload_id}",
    response_model=Upload,
    responses=documented(BadInput, NotFound, Conflict, OffsetMismatch, *_PART_REFUSALS),
    openapi_extra=_RAW_BODY,
)
async def append_to_upload(
    request: Request,
    caller: CallerGiven,
    upload_id: str,
    upload_offset: Annotated[str | None, Header(description="where this part starts, in bytes")] = None,
    upload_complete: Annotated[str | None, Header(description="?1 when this is the last part")] = None,
) -> Response:
    """Add a part. What arrives before a broken connection is kept."""
    if bodies.media_type(request) not in _PART_TYPES:
        msg = "Send the part as application/partial-upload."
        raise UnsupportedEncoding(msg)
    offset = _whole_number("Upload-Offset", upload_offset)
    if offset is None:
        msg = "The header Upload-Offset is needed."
        raise BadInput(msg)
    part = uploads.Part(offset, bodies.chunks(request), _is_last(upload_complete), digests.stated(request))
    return _answer(caller, await uploads.append(caller, upload_id, part), 200, {})


@router.delete("/{upload_id}", status_code=204, responses=documented(NotFound))
def delete_upload(caller: CallerGiven, upload_id: str) -> None:
    """Forget an upload and its bytes."""
    uploads.remove(caller, upload_id)


def _answer(caller: Caller, upload: Upload, status: int, headers: dict[str, str]) -> Response:
    return Response(upload.model_dump_json(), status, _headers(caller, upload) | headers, "application/json")


def _headers(caller: Caller, upload: Upload) -> dict[str, str]:
    settings = caller.resources.settings
    headers = {
        "Upload-Offset": str(upload.offset),
        "Upload-Complete": "?1" if upload.complete else "?0",
        "Upload-Limit": f"max-size={settings.max_upload_bytes}, max-age={settings.upload_ttl_s}",
    }
    if upload.length is not None:
        headers["Upload-Length"] = str(upload.length)
    return headers


def _is_last(value: str | None) -> bool:
    if value not in {None, "?0", "?1"}:
        msg = "The header Upload-Complete is ?0 or ?1."
        raise BadInput(msg)
    return value == "?1"


def _whole_number(name: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        msg = f"The header {name} must be a whole number of bytes."
        raise BadInput(msg)
    return int(value)
