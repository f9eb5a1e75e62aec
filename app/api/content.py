"""`/v1/artifacts/{id}/content`: the bytes, with digest, entity tag, one range, and zstd where it was stored.

Or the way to them: where the blob store signs addresses and nothing in the request needs the gateway, 307.
"""

import asyncio
import base64
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.access import CallerGiven
from app.api.negotiation import accepts_coding, byte_range
from app.api.problems import documented, problem_response
from app.contracts.artifact import Variant, VariantName
from app.errors import ArtifactCorrupt, ArtifactMissing, NotFound, RangeNotSatisfiable
from app.services import artifacts
from app.services.caller import Caller

router = APIRouter(prefix="/artifacts", tags=["artifacts"])
_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class _Representation:
    """The file as it is, or its zstd copy: each with its own entity tag."""

    file: Variant
    size_bytes: int
    zstd: bool

    @property
    def etag(self) -> str:
        return f'"{self.file.sha256}-zstd"' if self.zstd else f'"{self.file.sha256}"'

    @property
    def sha256(self) -> str | None:
        """The digest of the bytes as sent, codings included, as RFC 9530 wants it; None where it was not kept."""
        return self.file.zstd_sha256 if self.zstd else self.file.sha256


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get(
    "/{artifact_id}/content",
    response_class=Response,
    responses={
        200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "the range"},
        304: {"description": "the client has it"},
        307: {"description": "where the blob store has it, for a few minutes; send no API key there"},
        **documented(NotFound, RangeNotSatisfiable, ArtifactMissing, ArtifactCorrupt),
    },
)
async def read_content(
    request: Request,
    caller: CallerGiven,
    artifact_id: str,
    variant: Annotated[VariantName, Query(description="packed: the file to ship; dense: plain weights")] = "packed",
) -> Response:
    """Download one file of an artifact. A whole file is verified against its digest on the way."""
    found = await asyncio.to_thread(artifacts.variant, caller, artifact_id, variant)
    chosen = await _representation(request, caller, found)
    headers = _headers(artifact_id, variant, chosen)
    if _client_has(request, chosen.etag):
        return Response(status_code=304, headers=headers)
    try:
        span = byte_range(_wanted_range(request, chosen), chosen.size_bytes)
    except RangeNotSatisfiable as error:
        response = problem_response(error, request.state.request_id)
        response.headers["Content-Range"] = f"bytes */{chosen.size_bytes}"
        return response
    elsewhere = None if _needs_us(request, chosen) else await artifacts.signed(caller, found)
    if elsewhere is not None:
        # Whoever has the address has the bytes, so no cache may keep it.
        return Response(status_code=307, headers={**headers, "Location": elsewhere, "Cache-Control": "no-store"})
    start, end = span or (0, chosen.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{chosen.size_bytes}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=_MEDIA_TYPE)
    chunks = await (artifacts.opened_zstd(caller, found) if chosen.zstd else artifacts.opened(caller, found, span))
    return StreamingResponse(chunks, status, headers, _MEDIA_TYPE)


def _needs_us(request: Request, chosen: _Representation) -> bool:
    """Return whether the blob store by itself would answer otherwise.

    It knows no zstd copies and no entity tags of ours, an address is signed for GET alone, and a browser would ask the
    store about other sites and take its name of the file.
    """
    browser = "sec-fetch-mode" in request.headers
    return chosen.zstd or browser or request.method == "HEAD" or "if-range" in request.headers


async def _representation(request: Request, caller: Caller, found: Variant) -> _Representation:
    # Ranges are of the plain file: a client resumes it whatever it was sent before.
    if "range" not in request.headers and accepts_coding(request.headers.get("accept-encoding"), "zstd"):
        size = await asyncio.to_thread(artifacts.zstd_size, caller, found.sha256)
        if size is not None:
            return _Representation(found, size, zstd=True)
    return _Representation(found, found.size_bytes, zstd=False)


def _headers(artifact_id: str, variant: VariantName, chosen: _Representation) -> dict[str, str]:
    suffix = "" if variant == "packed" else f"-{variant}"
    headers = {
        "ETag": chosen.etag,
        "Accept-Ranges": "bytes",
        "Vary": "Accept-Encoding, Authorization",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{artifact_id}{suffix}.{chosen.file.packaging}"',
    }
    if chosen.zstd:
        headers["Content-Encoding"] = "zstd"
    if chosen.sha256 is not None:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(chosen.sha256)).decode()}:"
    return headers


def _client_has(request: Request, etag: str) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or "*" in known


def _wanted_range(request: Request, chosen: _Representation) -> str | None:
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != chosen.etag:
        return None
    return request.headers.get("range")
