import base64
import hashlib
from pathlib import Path

import httpx
import obstore
import pytest
import zstandard

from app.errors import DependencyUnavailable
from app.resources import Resources
from app.stores import records
from app.stores.sinks import Stored
from app.stores.tables import artifacts
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import UNKNOWN, published, sha256

PACKED = bytes(range(256)) * 40


@pytest.fixture
async def artifact(client: httpx.AsyncClient, worker: ActingWorker) -> str:
    return await published(client, worker, packed=PACKED)


def stored_zstd(resources: Resources, folder: Path) -> Stored:
    (folder / "packed").write_bytes(PACKED)
    with (folder / "packed").open("rb") as file:
        return resources.blobs.make_zstd(sha256(PACKED), file)


async def test_content_comes_with_digest_tag_and_name(client: httpx.AsyncClient, artifact: str) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "identity"})

    digest = base64.b64encode(hashlib.sha256(PACKED).digest()).decode()
    assert answer.status_code == 200
    assert answer.content == PACKED
    assert answer.headers["Content-Length"] == str(len(PACKED))
    assert answer.headers["ETag"] == f'"{sha256(PACKED)}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{artifact}.onnx"'
    assert answer.headers["Accept-Ranges"] == "bytes"


async def test_dense_variant_has_its_own_bytes_and_name(client: httpx.AsyncClient, artifact: str) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact}/content?variant=dense")

    assert answer.content == b"dense"
    assert answer.headers["Content-Disposition"].endswith(f'"{artifact}-dense.onnx"')


async def test_name_says_zip_when_the_model_is_in_several_files(
    client: httpx.AsyncClient, worker: ActingWorker, artifact: str
) -> None:
    with worker.resources.database.transaction() as tx:
        document = records.get(tx, artifacts, "default", artifact)["document"]
        document["variants"]["packed"]["packaging"] = "zip"
        records.change(tx, artifacts, artifact, {"document": document})

    answer = await client.head(f"/v1/artifacts/{artifact}/content")

    assert answer.headers["Content-Disposition"] == f'attachment; filename="{artifact}.zip"'


async def test_unknown_variant_is_refused(client: httpx.AsyncClient, artifact: str) -> None:
    assert (await client.get(f"/v1/artifacts/{artifact}/content?variant=tiny")).status_code == 422


async def test_head_has_the_headers_alone(client: httpx.AsyncClient, artifact: str) -> None:
    answer = await client.head(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "identity"})

    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(PACKED))
    assert answer.content == b""


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
async def test_known_content_is_not_sent_again(client: httpx.AsyncClient, artifact: str, tag: str) -> None:
    headers = {"If-None-Match": tag.format(sha256(PACKED)), "Accept-Encoding": "identity"}

    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers=headers)

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == f'"{sha256(PACKED)}"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, len(PACKED)),
        ("bytes=-7", len(PACKED) - 7, len(PACKED)),
        ("bytes=10-99999999", 10, len(PACKED)),
        ("bytes=-99999999", 0, len(PACKED)),
    ],
)
async def test_one_range_is_sent(client: httpx.AsyncClient, artifact: str, asked: str, start: int, end: int) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == PACKED[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(PACKED)}"


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
async def test_range_outside_is_416(client: httpx.AsyncClient, artifact: str, asked: str) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Range": asked})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(PACKED)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "items=0-1", "bytes=-", "bytes=a-b"])
async def test_other_ranges_are_ignored(client: httpx.AsyncClient, artifact: str, asked: str) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Range": asked})

    assert (answer.status_code, answer.content) == (200, PACKED)


@pytest.mark.parametrize(("tag", "status"), [('"{}"', 206), ('"other"', 200), ("Tue, 24 Nov 2026 00:00:00 GMT", 200)])
async def test_range_is_sent_only_of_the_known_content(
    client: httpx.AsyncClient, artifact: str, tag: str, status: int
) -> None:
    headers = {"Range": "bytes=0-1", "If-Range": tag.format(sha256(PACKED))}

    assert (await client.get(f"/v1/artifacts/{artifact}/content", headers=headers)).status_code == status


async def test_zstd_copy_is_sent_when_asked_for(
    client: httpx.AsyncClient, resources: Resources, artifact: str, tmp_path: Path
) -> None:
    copy = stored_zstd(resources, tmp_path)

    async with client.stream(
        "GET", f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "gzip, zstd"}
    ) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers["Content-Encoding"] == "zstd"
    assert answer.headers["ETag"] == f'"{sha256(PACKED)}-zstd"'
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert "Repr-Digest" not in answer.headers  # the row is of before the copy's digest was kept
    assert len(raw) == copy.size_bytes == int(answer.headers["Content-Length"])
    assert zstandard.ZstdDecompressor().decompressobj().decompress(raw) == PACKED


def known_zstd(resources: Resources, artifact: str, copy: Stored) -> None:
    with resources.database.transaction() as tx:
        document = dict(records.get(tx, artifacts, "default", artifact)["document"])
        packed = document["variants"]["packed"] | {"zstd_sha256": copy.sha256}
        records.change(
            tx, artifacts, artifact, {"document": document | {"variants": document["variants"] | {"packed": packed}}}
        )


async def test_zstd_copy_comes_with_its_own_digest(
    client: httpx.AsyncClient, resources: Resources, artifact: str, tmp_path: Path
) -> None:
    copy = stored_zstd(resources, tmp_path)
    known_zstd(resources, artifact, copy)

    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "zstd"})

    digest = base64.b64encode(bytes.fromhex(copy.sha256)).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer.content == PACKED


async def test_corrupt_zstd_copy_is_502(
    client: httpx.AsyncClient, resources: Resources, artifact: str, tmp_path: Path
) -> None:
    known_zstd(resources, artifact, stored_zstd(resources, tmp_path))
    obstore.put(resources.blobs._store, f"zstd/{sha256(PACKED)}", b"other bytes")

    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "zstd"})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (502, "artifact-corrupt")


async def test_zstd_is_not_sent_when_refused(
    client: httpx.AsyncClient, resources: Resources, artifact: str, tmp_path: Path
) -> None:
    stored_zstd(resources, tmp_path)

    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "zstd;q=0"})

    assert "Content-Encoding" not in answer.headers


async def test_corrupt_content_is_502_and_nothing_is_served(
    client: httpx.AsyncClient, resources: Resources, artifact: str
) -> None:
    obstore.put(resources.blobs._store, f"sha256/{sha256(PACKED)}", PACKED[:-1] + b"x")

    answer = await client.get(f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "identity"})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (502, "artifact-corrupt")


async def test_content_that_is_gone_is_410(client: httpx.AsyncClient, resources: Resources, artifact: str) -> None:
    resources.blobs.delete([f"sha256/{sha256(PACKED)}"])

    answer = await client.get(f"/v1/artifacts/{artifact}/content")

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (410, "artifact-missing")


async def test_unknown_artifact_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1/artifacts/art_{UNKNOWN}/content")).status_code == 404


async def test_store_without_addresses_leaves_the_bytes_to_the_gateway(
    client: httpx.AsyncClient, resources: Resources, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.settings, "signed_downloads_s", 300)

    answer = await client.get(f"/v1/artifacts/{artifact}/content")

    assert (answer.status_code, answer.content) == (200, PACKED)


async def test_store_whose_credentials_cannot_sign_leaves_the_bytes_to_the_gateway(
    client: httpx.AsyncClient, resources: Resources, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_given: object) -> str:
        raise DependencyUnavailable

    monkeypatch.setattr(resources.settings, "signed_downloads_s", 300)
    monkeypatch.setattr(resources.blobs, "signed", refused)

    answer = await client.get(f"/v1/artifacts/{artifact}/content")

    assert (answer.status_code, answer.content) == (200, PACKED)
