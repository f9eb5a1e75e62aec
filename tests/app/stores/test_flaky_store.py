"""An S3 that loses calls, breaks reads off and damages bytes: retried, verified, and named when it is no use."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.errors import ArtifactCorrupt, DependencyUnavailable
from app.stores.blobs import Blobs, address
from tests.stand_in.s3 import S3

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with S3() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def blobs(s3: S3) -> Blobs:
    return Blobs.open("s3://bucket/prefix")


async def stream(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_bytes_come_through_a_store_that_fails_now_and_then(s3: S3, blobs: Blobs, tmp_path: Path) -> None:
    for turn in range(25):
        content = os.urandom(200_000 + turn)
        stored = await blobs.put_stream(stream(content))
        blobs.fetch(stored.sha256, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content
    assert s3.store.failed > 25


async def test_a_big_object_comes_through_in_parts(blobs: Blobs, tmp_path: Path) -> None:
    content = os.urandom(12 << 20)
    path = tmp_path / "big"
    path.write_bytes(content)
    stored = blobs.put_file(path)
    blobs.fetch(stored.sha256, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content


async def test_bytes_that_are_damaged_where_they_lie_are_corrupt(s3: S3, blobs: Blobs, tmp_path: Path) -> None:
    s3.store.flaky = False
    s3.store.objects[f"bucket/prefix/{address(DIGEST)}"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(ArtifactCorrupt):
        blobs.fetch(DIGEST, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


async def test_a_store_that_is_down_is_named_so(s3: S3, blobs: Blobs, tmp_path: Path) -> None:
    s3.store.down = True
    with pytest.raises(DependencyUnavailable):
        blobs.fetch(DIGEST, tmp_path / "fetched")
