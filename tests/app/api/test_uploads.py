import asyncio
import base64
import hashlib
import pickle  # noqa: TID251 - the very bytes that must be refused
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.errors import OffsetMismatch
from app.resources import Resources, connect
from app.services import uploads
from app.services.caller import Caller
from app.settings import Settings
from app.stores.staging import Segments
from app.stores.tables import uploads as table
from tests.app.seeds import ONNX, UNKNOWN, sha256

PART = {"Content-Type": "application/partial-upload"}


async def opened(client: httpx.AsyncClient, length: int | None = None) -> str:
    headers = {"Upload-Complete": "?0"} | ({"Upload-Length": str(length)} if length is not None else {})
    answer = await client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/uploads/{answer.json()['id']}"
    return str(answer.json()["id"])


def part_headers(offset: int, *, last: bool = False, **more: str) -> dict[str, str]:
    return PART | {"Upload-Offset": str(offset), "Upload-Complete": "?1" if last else "?0"} | more


def content_digest(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


async def test_upload_arrives_in_parts(client: httpx.AsyncClient) -> None:
    upload = await opened(client, len(ONNX))
    first = await client.patch(
        f"/v1/uploads/{upload}", content=ONNX[:100], headers=part_headers(0) | content_digest(ONNX[:100])
    )

    last = await client.patch(f"/v1/uploads/{upload}", content=ONNX[100:], headers=part_headers(100, last=True))

    assert first.headers["Upload-Offset"] == "100"
    assert first.headers["Upload-Complete"] == "?0"
    assert last.headers["Upload-Complete"] == "?1"
    assert last.json()["sha256"] == sha256(ONNX)


async def test_upload_of_unknown_length_ends_with_its_last_part(client: httpx.AsyncClient) -> None:
    upload = await opened(client)

    answer = await client.patch(f"/v1/uploads/{upload}", content=ONNX, headers=part_headers(0, last=True))

    assert answer.json()["length"] == len(ONNX)
    assert answer.json()["sha256"] == sha256(ONNX)


async def test_last_part_may_be_empty(client: httpx.AsyncClient) -> None:
    upload = await opened(client)
    await client.patch(f"/v1/uploads/{upload}", content=ONNX, headers=part_headers(0))

    answer = await client.patch(f"/v1/uploads/{upload}", headers=part_headers(len(ONNX), last=True))

    assert answer.json()["sha256"] == sha256(ONNX)


async def test_head_tells_where_to_continue(client: httpx.AsyncClient) -> None:
    upload = await opened(client, 1000)
    await client.patch(f"/v1/uploads/{upload}", content=b"x" * 10, headers=part_headers(0))

    answer = await client.head(f"/v1/uploads/{upload}")

    assert answer.status_code == 204
    assert answer.headers["Upload-Offset"] == "10"
    assert answer.headers["Upload-Length"] == "1000"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_part_with_the_wrong_digest_is_taken_back(client: httpx.AsyncClient, resources: Resources) -> None:
    upload = await opened(client)
    await client.patch(f"/v1/uploads/{upload}", content=b"good", headers=part_headers(0))

    answer = await client.patch(
        f"/v1/uploads/{upload}", content=b"evil", headers=part_headers(4) | content_digest(b"fine")
    )

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (422, "digest-mismatch")
    assert (await client.head(f"/v1/uploads/{upload}")).headers["Upload-Offset"] == "4"


async def test_part_at_the_wrong_place_is_a_conflict(client: httpx.AsyncClient) -> None:
    upload = await opened(client)

    answer = await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=part_headers(5))

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (409, "offset-mismatch")


async def test_part_after_the_end_is_a_conflict(client: httpx.AsyncClient) -> None:
    upload = await opened(client)
    await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=part_headers(0, last=True))

    answer = await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=part_headers(1))

    assert answer.status_code == 409


@pytest.mark.parametrize("length", [3, None])
async def test_more_bytes_than_allowed_are_refused(
    client: httpx.AsyncClient, resources: Resources, length: int | None
) -> None:
    object.__setattr__(resources.settings, "max_upload_bytes", 3)
    upload = await opened(client, length)

    answer = await client.patch(f"/v1/uploads/{upload}", content=b"abcd", headers=part_headers(0, last=True))

    assert answer.status_code == 413
    assert (await client.head(f"/v1/uploads/{upload}")).headers["Upload-Offset"] == "0"


async def test_announced_length_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/uploads", headers={"Upload-Length": str(1 << 50), "Upload-Complete": "?0"})

    assert answer.status_code == 413


async def test_fewer_bytes_than_announced_do_not_complete(client: httpx.AsyncClient) -> None:
    upload = await opened(client, 10)

    answer = await client.patch(f"/v1/uploads/{upload}", content=b"abc", headers=part_headers(0, last=True))

    assert answer.status_code == 422
    assert (await client.head(f"/v1/uploads/{upload}")).headers["Upload-Complete"] == "?0"


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Complete": "yes"},
        {"Upload-Complete": "?0", "Upload-Length": "-1"},
        {"Upload-Complete": "?0", "Upload-Length": "1e3"},
        {"Upload-Complete": "?0", "Upload-Length": "9" * 101},
        {"Upload-Complete": "?0", "Content-Digest": "sha-256=:short:"},
    ],
)
async def test_malformed_headers_are_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/v1/uploads", headers=headers)).status_code == 422


async def test_length_beyond_every_limit_is_too_large(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/uploads", headers={"Upload-Complete": "?0", "Upload-Length": "9" * 30})

    assert answer.status_code == 413


async def test_length_is_needed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/uploads")).status_code == 411


async def test_offset_is_needed(client: httpx.AsyncClient) -> None:
    upload = await opened(client)

    assert (await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=PART)).status_code == 422


async def test_part_of_another_media_type_is_refused(client: httpx.AsyncClient) -> None:
    upload = await opened(client)

    answer = await client.patch(
        f"/v1/uploads/{upload}", content=b"{}", headers=part_headers(0) | {"Content-Type": "application/json"}
    )

    assert answer.status_code == 415


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl" + b"x"])
async def test_pickles_are_refused_at_their_first_bytes(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/uploads", content=content, headers={"Upload-Complete": "?1"})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (415, "format-unsafe")


async def test_empty_upload_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/uploads", headers={"Upload-Complete": "?1"})).status_code == 422


async def test_deleted_upload_is_gone_with_its_parts(client: httpx.AsyncClient) -> None:
    upload = await opened(client)
    await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=part_headers(0))

    answer = await client.delete(f"/v1/uploads/{upload}")

    assert answer.status_code == 204
    assert (await client.head(f"/v1/uploads/{upload}")).status_code == 404


async def test_expired_upload_is_unknown(client: httpx.AsyncClient, resources: Resources) -> None:
    upload = await opened(client)
    with resources.database.transaction() as tx:
        tx.execute(table.update().values(expires_at=1.0))

    answer = await client.patch(f"/v1/uploads/{upload}", content=b"x", headers=part_headers(0))

    assert answer.status_code == 404
    assert (await client.post("/v1/models", json={"upload": upload})).status_code == 422


async def test_unfinished_upload_makes_no_model(client: httpx.AsyncClient) -> None:
    upload = await opened(client)

    answer = await client.post("/v1/models", json={"upload": upload})

    assert answer.status_code == 409


async def test_unknown_upload_makes_no_model(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models", json={"upload": f"upl_{UNKNOWN}"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/upload"


async def _then_gone(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise uploads.SenderGone


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0.01)
        yield chunk


async def test_what_arrived_before_the_sender_vanished_is_kept(resources: Resources) -> None:
    caller = Caller("default", resources)
    upload = uploads.begin(caller, 10)

    with pytest.raises(uploads.SenderGone):
        await uploads.append(caller, upload.id, uploads.Part(0, _then_gone(b"abc", b"de")))

    assert uploads.read(caller, upload.id).offset == 5
    whole = await uploads.append(caller, upload.id, uploads.Part(5, _chunks(b"fghij"), last=True))
    assert whole.sha256 == sha256(b"abcdefghij")


async def test_long_part_is_kept_in_slices(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SLICE_BYTES", 4)
    caller = Caller("default", resources)
    upload = uploads.begin(caller, None)
    content = [b"abc", b"def", b"ghi", b"", b"j"]

    digest = hashlib.sha256(b"".join(content)).digest()
    whole = await uploads.append(caller, upload.id, uploads.Part(0, _chunks(*content), last=True, sha256=digest))

    assert whole.sha256 == sha256(b"abcdefghij")


async def test_wrong_digest_takes_every_slice_back(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SLICE_BYTES", 4)
    caller = Caller("default", resources)
    upload = uploads.begin(caller, None)

    with pytest.raises(uploads.DigestMismatch):
        await uploads.append(caller, upload.id, uploads.Part(0, _chunks(b"abcd", b"efgh", b"i"), sha256=b"0" * 32))

    assert uploads.read(caller, upload.id).offset == 0


@pytest.fixture(params=["memory", "file"])
def stores(request: pytest.FixtureRequest, settings: Settings) -> tuple[Settings, Path]:
    folder = settings.data_dir / "blobs"
    url = "memory:///" if request.param == "memory" else f"file://{folder}"
    return settings.model_copy(update={"blob_url": url}), folder


async def test_upload_without_a_break_is_written_once(stores: tuple[Settings, Path]) -> None:
    settings, folder = stores
    with connect(settings) as resources:
        caller = Caller("default", resources)
        upload = uploads.begin(caller, 6)
        for offset, content in ((0, b"abc"), (3, b"de")):
            digest = hashlib.sha256(content).digest()
            await uploads.append(caller, upload.id, uploads.Part(offset, _chunks(content), sha256=digest))
        before = [path.stat().st_ino for path in folder.glob("uploads/*/*")]

        whole = await uploads.append(caller, upload.id, uploads.Part(5, _chunks(b"f"), last=True))

        assert whole.sha256 == sha256(b"abcdef")
        assert [path.stat().st_ino for path in folder.rglob("*") if path.is_file()] == before
        assert len(before) == (1 if folder.exists() else 0)


async def test_upload_goes_on_at_another_gateway(stores: tuple[Settings, Path]) -> None:
    settings, folder = stores
    with connect(settings) as first:
        # In memory nothing outlives the process, so the second gateway shares its store.
        second = replace(first, segments=Segments())
        upload = uploads.begin(Caller("default", first), None)
        await uploads.append(Caller("default", first), upload.id, uploads.Part(0, _chunks(b"abc")))
        for path in folder.glob("uploads/*/*"):
            path.write_bytes(path.read_bytes() + b"written by a gateway that was killed before it recorded this")

        whole = await uploads.append(Caller("default", second), upload.id, uploads.Part(3, _chunks(b"de"), last=True))

        assert whole.sha256 == sha256(b"abcde")


async def test_upload_goes_on_after_a_wrong_digest(stores: tuple[Settings, Path]) -> None:
    with connect(stores[0]) as resources:
        caller = Caller("default", resources)
        upload = uploads.begin(caller, None)
        await uploads.append(caller, upload.id, uploads.Part(0, _chunks(b"abc")))
        with pytest.raises(uploads.DigestMismatch):
            await uploads.append(caller, upload.id, uploads.Part(3, _chunks(b"xx"), sha256=b"0" * 32))

        whole = await uploads.append(caller, upload.id, uploads.Part(3, _chunks(b"de"), last=True))

        assert whole.sha256 == sha256(b"abcde")


async def test_upload_ends_when_its_end_was_not_recorded(
    stores: tuple[Settings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(stores[0]) as resources:
        caller = Caller("default", resources)
        upload = uploads.begin(caller, None)
        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(uploads, "_record_completion", _killed)
            await uploads.append(caller, upload.id, uploads.Part(0, _chunks(b"abc"), last=True))

        whole = await uploads.append(caller, upload.id, uploads.Part(3, _chunks(), last=True))

        assert whole.sha256 == sha256(b"abc")


def _killed(*_arguments: object) -> None:
    raise InterruptedError


async def test_of_two_parallel_parts_one_is_kept(resources: Resources) -> None:
    caller = Caller("default", resources)
    upload = uploads.begin(caller, None)

    parts = [uploads.append(caller, upload.id, uploads.Part(0, _chunks(b"abc", content))) for content in (b"d", b"e")]
    outcomes = await asyncio.gather(*parts, return_exceptions=True)

    assert sum(isinstance(outcome, OffsetMismatch) for outcome in outcomes) == 1
    assert uploads.read(caller, upload.id).offset == 4
