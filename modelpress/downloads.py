"""Downloads that resume, arrive compressed where possible, are verified, and take their name only when whole."""

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx

from app.contracts.artifact import Artifact, Variant, VariantName
from modelpress.errors import InvalidInput, ServerUnreachable, TransferError
from modelpress.transport import Call, Transport
from modelpress.uploads import Progress, digest_field

_CHUNK_BYTES = 1 << 20
_WORTH_CODING = 0.9  # of the plain size; packed files hardly become smaller


def download_artifact(
    transport: Transport, artifact: Artifact, path: Path, variant: VariantName, progress: Progress | None = None
) -> Path:
    """Write one file of the artifact to `path` (or into it, when it is a folder).

    A model of 2 GiB and more comes as a zip, and is named so whatever `path` ends in.
    Raises InvalidInput for a variant that the artifact lacks, TransferError when the bytes do not have their digest.
    """
    if variant not in artifact.variants:
        msg = f"{artifact.id} has no variant {variant}; it has {', '.join(sorted(artifact.variants))}"
        raise InvalidInput(msg)
    wanted = artifact.variants[variant]
    target = path / f"{artifact.id}.{wanted.packaging}" if path.is_dir() else path
    if wanted.packaging == "zip":
        target = target.with_suffix(".zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The digest is in the name, so a part of another artifact is never continued.
    part = target.with_name(f".{target.name}.{wanted.sha256[:16]}.part")
    headers = {"Accept-Encoding": _coding(wanted)}
    call = Call("GET", f"/v1/artifacts/{artifact.id}/content", params={"variant": variant}, headers=headers)
    _fetch(transport, call, part, wanted.size_bytes, progress)
    with part.open("rb") as written:
        found = hashlib.file_digest(written, "sha256").hexdigest()
    if found != wanted.sha256:
        part.unlink()
        msg = f"the downloaded bytes of {artifact.id} do not have the digest {wanted.sha256}; download again"
        raise TransferError(msg)
    return part.replace(target)


def _fetch(transport: Transport, call: Call, part: Path, size: int, progress: Progress | None) -> None:
    """Append to the part until it is whole."""
    failures = 0
    have = part.stat().st_size if part.exists() else 0
    while have < size or not part.exists():
        try:
            with transport.stream(_resuming(call, have)) as response:
                _append(response, part, size, progress)
        except (httpx.RequestError, ServerUnreachable) as error:
            failures += 1
            if failures >= transport.retry.attempts:
                msg = f"the download broke off {failures} times; run it again to continue"
                raise TransferError(msg) from error
            transport.retry.wait(failures - 1)
        now = part.stat().st_size if part.exists() else 0
        if now == have and not failures:
            msg = "the server sent fewer bytes than the artifact has"
            raise TransferError(msg)
        have = now


def _coding(wanted: Variant) -> str:
    """Return zstd where it saves a tenth. The plain file may come from the blob store, without the gateway between."""
    saves = wanted.zstd_bytes < _WORTH_CODING * wanted.size_bytes
    return "zstd" if saves and importlib.util.find_spec("zstandard") else "identity"


def _resuming(call: Call, have: int) -> Call:
    """Ask for all, and for the plain rest of a file that has begun to arrive."""
    if not have:
        return call
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    return Call(call.method, call.path, params=call.params, headers=headers)


def _append(response: httpx.Response, part: Path, size: int, progress: Progress | None) -> None:
    """Write what arrives; a server that ignores the range starts the file afresh."""
    resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
    sent = _Hashed(cast("httpx.SyncByteStream", response.stream))  # the client is not an asynchronous one
    response.stream = sent
    with part.open("ab" if resumed else "wb") as target:
        for chunk in response.iter_bytes(_CHUNK_BYTES):  # httpx undoes zstd
            target.write(chunk)
            if progress:
                progress(target.tell(), size)
    expected = response.headers.get("Repr-Digest")
    if not resumed and expected and _as_stored(response) and digest_field(sent.digest.digest()) not in expected:
        part.unlink()
        msg = "the bytes do not match their Repr-Digest"
        raise TransferError(msg)


class _Hashed(httpx.SyncByteStream):
    """Hashes an answer's bytes as they were sent, before the coding is undone."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self.digest.update(chunk)
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _as_stored(response: httpx.Response) -> bool:
    """Return whether no server in between has coded the bytes anew, which would make Repr-Digest another's."""
    coding = response.headers.get("Content-Encoding")
    return coding is None or (coding == "zstd" and response.headers.get("ETag", "").endswith('-zstd"'))
