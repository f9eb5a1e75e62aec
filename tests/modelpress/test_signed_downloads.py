"""Downloads that the gateway sends to the blob store: what goes there, and what comes back."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.resources import connect
from app.settings import Settings
from app.stores.blobs import address
from modelpress import Client, TransferError
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import sha256
from tests.modelpress.conftest import QUICK, Gateway, serving
from tests.modelpress.publishing import publish, started_job
from tests.stand_in.s3 import S3

CONTENT = os.urandom(100_000)
KEY = "a key of the gateway"
BUCKET = "s3://bucket/prefix"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as found:
        found.store.flaky = False
        with pytest.MonkeyPatch.context() as patch:
            for name, value in found.environment.items():
                patch.setenv(name, value)
            yield found


@pytest.fixture(scope="module")
def signing(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    keys = f'{{"{KEY}": "default"}}'
    settings = {"BLOB_URL": BUCKET, "MODELPRESS_SIGNED_DOWNLOADS_S": "300", "MODELPRESS_API_KEYS": keys}
    with serving(tmp_path_factory.mktemp("signing"), **settings) as found:
        yield found


@pytest.fixture
def client(signing: Gateway) -> Iterator[Client]:
    with Client(signing.url, KEY, retry=QUICK) as made:
        yield made


@pytest.fixture
def artifact(signing: Gateway, client: Client, tmp_path: Path) -> Iterator[str]:
    with connect(Settings(data_dir=signing.data_dir, blob_url=BUCKET)) as resources:
        worker = ActingWorker(resources)
        job, held = started_job(client, worker, tmp_path)
        yield publish(worker, job, held, CONTENT)


def asked(signing: Gateway, artifact: str, method: str = "GET", **headers: str) -> httpx.Response:
    own = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "identity"}
    url = f"{signing.url}/v1/artifacts/{artifact}/content"
    return httpx.request(method, url, headers={**own, **headers}, trust_env=False)


def test_content_is_at_an_address_that_is_good_for_five_minutes(signing: Gateway, artifact: str) -> None:
    answer = asked(signing, artifact)

    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (answer.status_code, answer.content) == (307, b"")
    assert query["X-Amz-Expires"] == ["300"]
    assert query["X-Amz-Signature"]
    assert answer.headers["ETag"] == f'"{sha256(CONTENT)}"'
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert answer.headers["Cache-Control"] == "no-store"
    assert httpx.get(answer.headers["Location"], trust_env=False).content == CONTENT


def test_a_range_is_the_stores_to_send(signing: Gateway, artifact: str) -> None:
    answer = asked(signing, artifact, Range="bytes=10-19")

    assert answer.status_code == 307
    part = httpx.get(answer.headers["Location"], headers={"Range": "bytes=10-19"}, trust_env=False)
    assert (part.status_code, part.content) == (206, CONTENT[10:20])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": f'"{sha256(CONTENT)}"'}, 304),
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=0-1", "If-Range": f'"{sha256(CONTENT)}"'}, 206),
        ({"Sec-Fetch-Mode": "cors"}, 200),
        ({"Authorization": "Bearer another"}, 401),
    ],
)
def test_what_needs_the_gateway_is_answered_by_it(
    signing: Gateway, artifact: str, headers: dict[str, str], status: int
) -> None:
    answer = asked(signing, artifact, **headers)

    assert answer.status_code == status
    assert "Location" not in answer.headers


def test_head_is_answered_by_the_gateway(signing: Gateway, artifact: str) -> None:
    assert asked(signing, artifact, "HEAD").status_code == 200


def test_client_follows_and_leaves_its_key_at_home(s3: S3, client: Client, artifact: str, tmp_path: Path) -> None:
    s3.store.heads.clear()

    written = client.download(artifact, tmp_path / "small.onnx")

    assert written.read_bytes() == CONTENT
    (fetched,) = [head for head in s3.store.heads if head["user-agent"].startswith("python-httpx")]
    assert "authorization" not in fetched
    assert KEY not in str(s3.store.heads)


def test_client_goes_on_where_a_download_broke_off(s3: S3, client: Client, artifact: str, tmp_path: Path) -> None:
    part = tmp_path / f".small.onnx.{sha256(CONTENT)[:16]}.part"
    part.write_bytes(CONTENT[:60_000])
    s3.store.heads.clear()

    assert client.download(artifact, tmp_path / "small.onnx").read_bytes() == CONTENT
    assert "bytes=60000-" in [head.get("range") for head in s3.store.heads]


def test_client_notices_what_the_store_damaged(s3: S3, client: Client, artifact: str, tmp_path: Path) -> None:
    key = f"bucket/prefix/{address(sha256(CONTENT))}"
    s3.store.objects[key] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    try:
        with pytest.raises(TransferError, match="digest"):
            client.download(artifact, tmp_path / "small.onnx")
    finally:
        s3.store.objects[key] = CONTENT

    assert list(tmp_path.glob(".small*")) == []


def test_client_waits_for_a_store_that_is_overloaded(
    s3: S3, client: Client, artifact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    plain = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **options: bool) -> httpx.Response:
        if request.url.path.startswith("/bucket") and not refused:
            refused.append(time.monotonic())
            return httpx.Response(503, request=request)
        return plain(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", send)

    assert client.download(artifact, tmp_path / "small.onnx").read_bytes() == CONTENT
    assert len(refused) == 1
