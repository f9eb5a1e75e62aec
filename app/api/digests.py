"""RFC 9530's Content-Digest: what a sender states of a body, held against what arrives. Knows no upload."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator

from starlette.requests import Request

from app.errors import BadInput, DigestMismatch

_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]{44}):")
_BAD_DIGEST = "The header Content-Digest must be sha-256=:<44 characters of base64>:."


def stated(request: Request) -> bytes | None:
    """Return the SHA-256 that the request states of its body, or None; other algorithms are ignored, as the RFC says.

    Raises BadInput.
    """
    value = request.headers.get("content-digest", "")
    found = _SHA256.search(value)
    if found is None:
        if "sha-256=" in value:
            raise BadInput(_BAD_DIGEST)
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise BadInput(_BAD_DIGEST) from error


async def verified(chunks: AsyncIterator[bytes], digest: bytes | None) -> AsyncIterator[bytes]:
    """Yield the chunks; raises DigestMismatch after the last one, so that whoever stores them keeps nothing."""
    found = hashlib.sha256()
    async for chunk in chunks:
        if digest is not None:
            found.update(chunk)
        yield chunk
    if digest is not None and found.digest() != digest:
        msg = "The body was not kept: its bytes do not have the SHA-256 of Content-Digest."
        raise DigestMismatch(msg)
